"""The sensitivity card: the figure shows every setting and is drawn the same again, the words are the numbers."""

import itertools
import re

import matplotlib
import pytest

from circuitmeter.reports.card.figure import draw_card
from circuitmeter.reports.card.tables import card_tables, share_table, value_table, verdict_table
from circuitmeter.reports.card.words import paragraph
from circuitmeter.reports.draw.style import FIGURE_FORMATS, render
from circuitmeter.suite.scoring.sensitivity.card_model import SensitivityCard

LEVELS = {
    "ablation": ["patch", "mean-positional-counterfactual", "zero"],
    "component": ["edge", "node"],
    "direction": ["noising"],
    "reference": ["corrupted-run", "cut-graph"],
}


def part(factor: str, first: float, total: float) -> dict:
    shares = {"first": first, "total": total, "shapley": (first + total) / 2}
    ends = {
        f"{kind}{end}": share + d for kind, share in shares.items() for end, d in (("_low", -0.05), ("_high", 0.05))
    }
    return {"factor": factor, "levels": len(LEVELS[factor]), **shares, **ends}


SPREAD = {"worst": -2.25, "best": 1.6, "range": 3.85, "quartiles": (-1.0, 1.0), "iqr": 2.0}
SOURCES = {"fsi": 0.62, "fsi_low": 0.55, "fsi_high": 0.71}
SOURCES |= {"method": 0.6, "template": None, "prompt": 0.1, "residual": 0.2}
SPREAD |= {"mean": 0.33, "negative": 0.25, "above_one": 0.0}


def circuit(name: str, shift: float, random: bool = True) -> dict:
    values = []
    for d, levels in enumerate(itertools.product(*LEVELS.values())):
        value = 1.6 - 0.35 * d + shift
        entry = {"setting": "/".join(levels), "levels": dict(zip(LEVELS, levels, strict=True)), "value": value}
        entry["nothing_cut"] = False
        entry |= {"low": value - 0.1, "high": value + 0.1, "percentile": 0.9 - 0.07 * d if random else None}
        entry |= {f"percentile_{end}": 0.8 - 0.07 * d if random else None for end in ("low", "high")}
        entry |= {f"random_{q}": q / 200 if random else None for q in (5, 50, 95)}
        values.append(entry)
    parts = [part("ablation", 0.5, 0.7), part("component", 0.2, 0.3), part("reference", 0.05, 0.1)]
    variance = {"factors": parts, "n_settings": 12, "complete": True, "levels": LEVELS, "variance": 0.3, "noise": 0.01}
    variance |= {"naive": 0.31, "variance_low": 0.2, "variance_high": 0.4}
    variance |= {"beyond_noise": True, "interactions": [{"factors": ["ablation", "component"], "share": 0.15}]}
    flips = {"threshold": 0.8, "hold": 0.4, "entropy": 0.97, "surely": 0.3, "surely_not": 0.5}
    return {
        "name": name,
        "edges": 120,
        "values": values,
        "nothing_cut": 0,
        "spread": SPREAD,
        "flips": flips,
        "variance": variance,
        "variance_of_complete_part": None,
        "sources": {
            "fsi": 0.62,
            "fsi_low": 0.55,
            "fsi_high": 0.71,
            "method": 0.6,
            "template": None,
            "prompt": 0.1,
            "residual": 0.2,
        },
        "random": {
            "n": 100,
            "spread": SPREAD,
            "above": {**flips, "threshold": 0.95, "hold": 0.25, "surely": 0.1},
            "variance": variance,
        }
        if random
        else None,
    }


def made(*circuits: dict) -> SensitivityCard:
    names = [each["name"] for each in circuits]
    ranks = {name: [float(i + 1)] * 12 for i, name in enumerate(names)}
    counts = {"reversals_raw": 9, "reversals_significant": 3, "reversals_simultaneous": 1, "setting_pairs": 66}
    compared = {
        "pairs": [
            {"first": a, "second": b, "first_better": 0.7, "second_better": 0.1, **counts}
            | {"difference": [0.1] * 12, "low": [0.0] * 12, "high": [0.2] * 12}
            for a, b in itertools.combinations(names, 2)
        ],
        "setting_pairs": 66,
        "reversals_raw_rate": 9 / 66,
        "reversals_significant_rate": 3 / 66,
        "reversals_simultaneous_rate": 1 / 66,
        "kendall_w": 0.81,
        "kendall_tau": {},
        "ranks": ranks,
        "best": {name: 1 / len(names) for name in names},
    }
    return SensitivityCard(
        version="0",
        task="ioi",
        model="mini",
        model_hash="0" * 16,
        split="test",
        data_hash="0" * 16,
        n_edges=2345,
        seed=0,
        random=100,
        pairings=3,
        prompts=100,
        templates=2,
        resampled="templates, and prompts within each",
        settings={"n": 12, "levels": LEVELS, "level_weights": {}},
        undefined=[{"reason": "zero has no direction", "n": 4, "settings": ["zero/denoising | kl"]}],
        circuits=circuits,
        comparison=compared if len(names) > 1 else None,
    )


CARDS = {
    "one": made(circuit("mine", 0.0)),
    "one without random": made(circuit("mine", 0.0, random=False)),
    "three": made(circuit("eap", 0.0), circuit("a-folder/of-a-rather-long-name", -0.3), circuit("acdc", 0.2)),
}


def figure(name: str):
    card = CARDS[name]
    return draw_card(value_table(card), share_table(card), verdict_table(card), card.settings.varying)


@pytest.mark.parametrize("name", CARDS)
def test_every_setting_level_and_factor_is_there(name):
    drawn = render(figure(name), "svg").decode()
    texts = re.findall(r">([^<>]+)</text>", drawn)
    shown = [level for factor, levels in LEVELS.items() if factor != "direction" for level in levels]
    assert not set(shown) - set(texts) and "noising" not in texts  # what does not vary needs no row
    assert texts.count("ablation") == texts.count("component") == 2  # beside the levels and the shares
    assert any(text.startswith("12 settings") for text in texts)
    assert ("Above random" in texts) == ("without" not in name)


@pytest.mark.parametrize("name", CARDS)
def test_no_two_texts_overlap_and_none_leaves_the_figure(name):
    found = figure(name)
    with matplotlib.rc_context({"text.parse_math": False}):
        renderer = found.canvas.get_renderer() if hasattr(found.canvas, "get_renderer") else None
        found.draw_without_rendering()
        texts = [
            text
            for text in found.findobj(matplotlib.text.Text)
            if text.get_visible() and text.get_text().strip() and not _of_hidden_tick(text, found)
        ]
        boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts]
    width, height = found.bbox.width, found.bbox.height
    for text, box in boxes:
        assert -1 <= box.x0 and box.x1 <= width + 1 and -1 <= box.y0 and box.y1 <= height + 1, text
    for (text, box), (other, other_box) in itertools.combinations(boxes, 2):
        across = min(box.x1, other_box.x1) - max(box.x0, other_box.x0)
        down = min(box.y1, other_box.y1) - max(box.y0, other_box.y0)
        assert across < 1 or down < 1.5, (text, other)


def _of_hidden_tick(text, found) -> bool:
    hidden = [
        label
        for ax in found.axes
        for axis in (ax.xaxis, ax.yaxis)
        for tick in axis.get_major_ticks() + axis.get_minor_ticks()
        for label in (tick.label1, tick.label2)
        if not label.get_visible()
        or not axis.get_view_interval()[0] - 1e-9 <= tick.get_loc() <= max(axis.get_view_interval())
    ]
    return any(text is label for label in hidden)


@pytest.mark.parametrize("file_format", FIGURE_FORMATS)
def test_drawn_again_it_is_identical(file_format):
    assert render(figure("one"), file_format) == render(figure("one"), file_format)


def test_values_beyond_the_panel_are_arrows_at_its_edge():
    curve = figure("one").axes[0]
    edge = [line for line in curve.lines if list(line.get_ydata()) == [-1.0] * 4]
    markers = {line.get_marker() for line in curve.lines if line not in edge and isinstance(line.get_marker(), str)}
    assert len(edge) == 1 and edge[0].get_marker() not in markers and curve.get_ylim()[0] < -1
    texts = [text.get_text() for text in curve.get_legend().get_texts()]
    assert "outside: 4, down to \N{MINUS SIGN}2.25" in texts and not any("up to" in text for text in texts)


def test_the_legend_of_shares_has_the_colours_of_its_bars():
    def colors(name):
        ax = figure(name).axes[-2]
        bars = {patch.get_facecolor()[:3] for patch in ax.patches}
        return bars, {part.get_facecolor()[:3] for part in ax.get_legend().findobj(matplotlib.patches.Patch)} - {
            (1, 1, 1)
        }

    for name, n in (("one", 1), ("three", 3)):
        bars, legend = colors(name)
        assert bars == legend and len(bars) == n


def test_a_few_random_circuits_have_no_band_and_no_95_percent():
    few = circuit("mine", 0.0)
    for entry in few["values"]:
        entry |= {"percentile": 1.0, "percentile_low": 0.8, "percentile_high": 1.0}
    few["random"] |= {"n": 5, "above": {**few["random"]["above"], "threshold": 1.0}}
    card = made(few)
    drawn = draw_card(value_table(card), share_table(card), verdict_table(card), card.settings.varying)
    texts = [text.get_text() for text in drawn.findobj(matplotlib.text.Text)]
    assert "above all 5 random" in texts and not any("90 %" in text or "95 %" in text for text in texts)
    assert "It was above all 5 random connected circuits of its size in every setting (surely in 0)" in paragraph(card)
    enough = [text.get_text() for text in figure("one").findobj(matplotlib.text.Text)]
    assert "90 % of random circuits" in enough and "above 95 % of random" in enough


def test_the_paragraph_has_the_cards_numbers():
    text = paragraph(CARDS["one"])
    for words in (
        'The circuit "mine" for ioi in mini was measured in 12 settings: 3 ablations',
        "was \N{MINUS SIGN}0.32 on average over the settings",  # the mean of the column, whatever settings weigh
        "It was below 0 in 7 and above 1 in 2 of the settings",
        "4 combinations have no meaning",
        "held fixed were direction noising",
        "120 of 2,345 edges",
        "\N{MINUS SIGN}2.25 [\N{MINUS SIGN}2.35, \N{MINUS SIGN}2.15] at worst",
        "1.60 [1.50, 1.70] at best",
        "0.8 was reached in 3 of the 12 settings (surely in 3, surely not in 9)",
        "the choice of ablation explains 50 % [45 %, 55 %] alone and 70 % [65 %, 75 %] with its interactions",
        "62 % [55 %, 71 %] is due to the analyst's choices",
        "above 95 % of 100 random connected circuits of its size in no setting (surely in 0)",
    ):
        assert words in text, words
    assert "random" not in paragraph(CARDS["one without random"])
    assert paragraph(made(circuit("circuit", 0.0))).startswith("The circuit for ioi in mini was measured")
    compared = paragraph(CARDS["three"])
    assert "reversed in 14 % of 66 cases" in compared and "Kendall's W 0.81" in compared


def test_the_paragraph_says_how_the_circuit_was_found_and_what_the_prompts_are():
    found = {"method": "eap-ig", "ablation": "patch", "objective": "logit-difference", "task": "ioi", "split": "train"}
    card = made({**circuit("mine", 0.0), "search": found})
    card = card.model_copy(update={"task_description": "Names; counterfactual: three other names"})
    words = "eap-ig found under patch by logit-difference on the train prompts of ioi"
    assert paragraph(card).startswith(f"The circuit for ioi in mini that {words} was measured in 12 settings")
    assert "The prompts are of ioi (Names; counterfactual: three other names)." in paragraph(card)
    assert "of the split test" in paragraph(card) and "mine" not in paragraph(card)
    several = paragraph(made({**circuit("mine", 0.0), "search": {"method": "eap"}}, circuit("yours", 0.1)))
    assert several.startswith('The circuits "mine" (which eap found) and "yours" for ioi in mini were measured')


def test_weights_that_were_given_are_told_beside_the_count():
    card = made(circuit("mine", 0.0))
    settings = card.settings.model_copy(update={"level_weights": {"ablation": {"zero": 0.5}}})
    text = paragraph(card.model_copy(update={"settings": settings}))
    assert "in 3 of the 12 settings (surely in 3, surely not in 9); with levels weighed as stated below in 40 %" in text
    assert "weigh 1 each, but for ablation zero 0.5" in text


def test_settings_in_which_nothing_is_cut_are_told_with_the_reason():
    one = circuit("mine", 0.0)
    assert "nothing is cut" not in paragraph(made(one))
    for entry in one["values"][:2]:
        entry |= {"nothing_cut": True, "value": 1.0 - 1e-9}
        entry["levels"] = {**entry["levels"], "component": "node", "set": "complement"}
    words = "In 2 of the 12 settings nothing is cut, because the circuit has an edge of every node; there faithfulness "
    assert f"{words}is 1 by construction." in paragraph(made({**one, "nothing_cut": 2}))


def test_tables_hold_every_setting_from_worst_to_best():
    (title, columns, rows), shares, interactions, undefined = card_tables(CARDS["one"])
    assert title.startswith("12 settings") and columns[:3] == ["ablation", "component", "reference"]
    assert len(rows) == 12 and rows[0][3].startswith("\N{MINUS SIGN}2.25") and rows[-1][3].startswith("1.60")
    assert shares[2][0] == ["ablation", "3", "50 % [45 %, 55 %]", "70 % [65 %, 75 %]", "60 % [55 %, 65 %]"]
    assert interactions[2] == [["ablation x component", "15 %"]]
    assert undefined[2] == [["4", "zero/denoising | kl", "zero has no direction"]]
    assert "above random" in columns and "above random" not in next(iter(card_tables(CARDS["one without random"])))[1]
    several = {title: rows for title, _, rows in card_tables(CARDS["three"])}
    assert len(several["rank reversals between settings"]) == 3


@pytest.mark.parametrize("place", ["the grid", "a value", "a share"])
def test_a_factor_that_is_none_of_the_grids_is_refused(place):
    card = CARDS["three"].as_json()
    value = card["circuits"][0]["values"][3]
    if place == "the grid":
        card["settings"]["levels"]["abc"] = card["settings"]["levels"].pop("ablation")
    elif place == "a value":
        value["levels"].pop("ablation")
    else:
        card["circuits"][0]["variance"]["factors"][0]["factor"] = "abc"
    with pytest.raises(ValueError, match="does not say its ablation" if place == "a value" else "no factor 'abc'"):
        SensitivityCard.model_validate(card)
