"""Figures: what they draw, that they draw the same bytes, and that they leave matplotlib as it was."""

import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from circuitmeter.reports.draw import style
from circuitmeter.reports.draw.auc_by_method import auc_by_method
from circuitmeter.reports.draw.cost import cost
from circuitmeter.reports.draw.direct_labels import Point, name_points
from circuitmeter.reports.draw.mismatch import mismatch
from circuitmeter.reports.draw.panels import LEADING, OTHERS_LOOK
from circuitmeter.reports.draw.ranking_curves import precision_recall, roc
from circuitmeter.reports.draw.true_size import true_size
from circuitmeter.reports.read import tables
from circuitmeter.reports.read.curves import curve_tables
from circuitmeter.reports.reproduction import manifest as manifests


@pytest.fixture(scope="module")
def curves(usual_results):
    return curve_tables(usual_results.store, usual_results.recovery)


@pytest.fixture(scope="module")
def draw(usual_results, curves):
    results, (means, _) = usual_results, curves
    return {
        "roc": lambda: roc(means),
        "precision_recall": lambda: precision_recall(means),
        "auc_by_method": lambda: auc_by_method(results.recovery, results.aggregate),
        "true_size": lambda: true_size(results.aggregate),
        "cost": lambda: cost(results.aggregate),
        "mismatch": lambda: mismatch(results.mismatch),
    }


NAMES = ["roc", "precision_recall", "auc_by_method", "true_size", "cost", "mismatch"]


def test_curves_have_the_areas_that_the_cells_recorded(usual_results, curves):
    means, programs = curves
    own = usual_results.recovery[usual_results.recovery["own"]]
    for (ablation, label), group in own.groupby(["ablation", "label"]):
        curve = means[(means["ablation"] == ablation) & (means["label"] == label) & (means["kind"] == "roc")]
        recorded = group.groupby("program")["auroc"].mean().mean()
        assert np.trapezoid(curve["mean"], curve["x"]) == pytest.approx(recorded, abs=0.01), (ablation, label)
    assert set(programs["program"]) == set(own["program"])


@pytest.mark.parametrize("name", NAMES)
def test_a_panel_for_each_ablation_or_method(draw, usual_results, name):
    figure = draw[name]()
    titles = [ax.get_title(loc="left") for ax in figure.axes if ax.get_visible() and ax.get_title(loc="left")]
    expected = [] if name == "mismatch" else ["patch ablation", "zero ablation"]
    assert sorted(titles) == expected


def test_a_method_that_was_run_under_one_ablation_only(usual_results):
    recovery = usual_results.recovery
    some = recovery[(recovery["method"] != "eap") | (recovery["ablation"] != "zero")]
    assert len(some) < len(recovery)
    aggregate = tables.aggregate_table(some)
    for figure in (auc_by_method(some, aggregate), true_size(aggregate), cost(aggregate)):
        assert len([ax for ax in figure.axes if ax.get_visible() and ax.get_title(loc="left")]) == 2
    assert mismatch(tables.mismatch_table(some)).axes


@pytest.mark.parametrize("name", NAMES)
def test_titles_and_labels_lie_inside_the_figure(draw, name):
    figure = draw[name]()
    renderer = figure.canvas.get_renderer() if hasattr(figure.canvas, "get_renderer") else None
    with matplotlib.rc_context({"text.parse_math": False}):
        box = figure.get_tightbbox(renderer)
    width, height = figure.get_size_inches()
    assert box.x0 >= -0.02 and box.y0 >= -0.02 and box.x1 <= width + 0.02 and box.y1 <= height + 0.02


@pytest.mark.parametrize("file_format", style.FIGURE_FORMATS)
def test_drawn_again_every_file_is_identical(draw, file_format):
    assert style.render(draw["auc_by_method"](), file_format) == style.render(draw["auc_by_method"](), file_format)


def test_matplotlib_is_left_as_it_was(draw):
    before = dict(matplotlib.rcParams)
    style.render(draw["cost"](), "svg")
    assert dict(matplotlib.rcParams) == before


def test_methods_keep_their_look_whoever_else_is_drawn():
    alone, together = style.looks(["eap"]), style.looks(["eap", "mine", "acdc", "random"])
    assert alone["eap"] == together["eap"]
    assert len({look.marker for look in together.values()}) == len({look.color for look in together.values()}) == 4


def test_no_two_of_many_methods_look_alike():
    labels = [f"eap-ig (steps={n})" for n in range(10)] + [f"mine-{i}" for i in range(40)] + list(style.KNOWN)
    looks = style.looks(labels)
    assert len({(look.color, look.marker) for look in looks.values()}) == len(set(labels))


def _lightness_and_hue(color):
    """CIE L*a*b* of a colour, in which a distance of 2 is just seen."""
    rgb = np.array(matplotlib.colors.to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ linear / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_colours_of_methods_are_told_apart_above_all_where_a_paper_compares_them():
    places = {name: _lightness_and_hue(look.color) for name, look in style.KNOWN.items()}
    apart = {(a, b): np.linalg.norm(places[a] - places[b]) for a in places for b in places if a < b}
    assert min(apart.values()) > 17
    for name in manifests.papers():
        compared = sorted(set(manifests.load(name).spelling) & set(places) - {"random", "magnitude"})
        near = [(a, b) for a in compared for b in compared if a < b and apart[a, b] < 25]
        assert not near, (name, near)


def test_settings_of_a_method_share_a_colour_and_nothing_else():
    few, many = (style.looks(["eap-ig (steps=5)", "eap-ig (steps=30)"])[f"eap-ig (steps={n})"] for n in (5, 30))
    assert few.color == many.color and few.marker != many.marker and few.line != many.line


def test_names_with_markup_and_formulas_are_shown_as_they_are(usual_results):
    renamed = usual_results.recovery.replace({"label": {"eap": "<b>$x_$ & more"}})
    figure = auc_by_method(renamed, tables.aggregate_table(renamed))
    assert b"&lt;b&gt;$x_$ &amp; more" in style.render(figure, "svg")


def test_names_below_a_heat_map_do_not_meet_on_a_telephone(usual_results):
    renamed = usual_results.mismatch.replace({"label": {"eap": "eap-path (answer-difference)"}})
    more = [renamed.assign(truth_ablation=name, own=False) for name in ("mean", "mean-positional", "noise")]
    with style.narrow():
        figure = mismatch(pd.concat([renamed, *more], ignore_index=True))
    figure.draw_without_rendering()
    lowest = [ax for ax in figure.axes if ax.images][-1]
    at = [tick.get_window_extent().x1 for tick in lowest.get_xticklabels()]
    letters = lowest.get_xticklabels()[0].get_fontsize() * figure.dpi / 72
    assert len(at) == 5 and min(np.diff(at)) > 1.2 * letters  # slanted: the lines of letters are 0.7 of this apart
    assert all(text.get_text() for ax in figure.axes if ax.images for text in ax.texts)


@pytest.mark.parametrize("panels", [1, 2, 3, 5])
@pytest.mark.parametrize("methods", [1, 12, 30])
def test_panels_of_curves_are_nearly_square_fill_the_width_and_cut_no_title(curves, panels, methods):
    one = curves[0][(curves[0]["label"] == "exact") & (curves[0]["ablation"] == "patch")]
    names = ["patch", "zero", "mean", "resample", "mean-positional"][:panels]
    rows = [one.assign(label=f"mine-{i} (answer-difference)", ablation=name) for i in range(methods) for name in names]
    for figure in (roc(pd.concat(rows)), precision_recall(pd.concat(rows))):
        box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert box.y1 <= height and box.x0 >= 0 and box.x1 <= width
        places = [ax.get_position(original=False) for ax in figure.axes if ax.get_visible()]
        assert sum(place.width for place in places[:3]) > 0.75
        assert all(0.8 < place.height * height / (place.width * width) < 1.1 for place in places)


def test_nothing_to_draw_is_said():
    empty = tables.recovery_table([])
    figure = auc_by_method(empty, tables.aggregate_table(empty))
    assert "No method" in figure.texts[0].get_text()
    assert true_size(tables.aggregate_table(empty)).texts and mismatch(tables.mismatch_table(empty)).texts


def test_of_many_methods_the_highest_curves_are_told_apart(curves):
    means, _ = curves
    one = means[(means["label"] == "exact") & (means["kind"] == "roc")]
    others = [one.assign(label=f"eap-ig (steps={i})", mean=one["mean"] * i / 20) for i in range(20)]
    many = pd.concat([means, *others, one.assign(label="mine", mean=0.0)])
    figure = roc(many)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[0] == "mine"  # whoever wrote it looks for it
    assert texts[-1] == "the 19 others" and len(texts) == 1 + LEADING + 1 and "eap-ig (steps=19)" in texts
    assert "eap-ig (steps=0)" not in texts
    assert "truth" not in texts  # always the highest, and no method
    lines = [line for line in figure.axes[0].lines if line.get_color() == OTHERS_LOOK.color]
    assert len(lines) == 19
    without = roc(many[many["label"] != "mine"]).legends[0].get_texts()
    assert {text.get_text() for text in without} ^ set(texts) == {"mine"}  # it takes nobody's place


def test_a_median_over_fewer_programs_is_hollow_at_the_true_size(usual_results):
    aggregate = usual_results.aggregate
    aggregate = aggregate[aggregate["n_programs"] == aggregate["n_programs"].max()]
    few = (aggregate["label"] == "exact") & (aggregate["ablation"] == "patch")
    assert few.sum() == 1
    marks = []
    for table in (aggregate, aggregate.assign(precision_n=aggregate["precision_n"].where(~few, 2))):
        figure = true_size(table)
        lines = [line for ax in figure.axes for line in ax.lines if line.get_marker() in ("o", "D")]
        marks.append({line.get_marker() for line in lines if line.get_markerfacecolor() == "white"})
        hollow = [line for line in lines if line.get_markerfacecolor() == "white"]
        assert ("over fewer programs" in [text.get_text() for text in figure.legends[0].get_texts()]) == bool(hollow)
    assert marks == [set(), {"o"}] and len(hollow) == 1


def test_a_median_over_fewer_programs_is_hollow_beside_its_cost(usual_results):
    aggregate = usual_results.aggregate
    marked = aggregate.assign(n_programs=aggregate["n_programs"].max())
    assert not _hollow(cost(marked))
    few = (marked["label"] == "exact") & (marked["ablation"] == "patch")
    (line,) = _hollow(cost(marked.assign(n_programs=marked["n_programs"].where(~few, 1))))
    assert line.get_ydata() == marked[few]["auroc"].tolist()


def test_a_median_without_an_interval_takes_no_room_but_its_own(usual_results, monkeypatch):
    module, named = sys.modules[cost.__module__], []
    monkeypatch.setattr(module, "name_points", lambda ax, points, size: named.extend(points))
    aggregate = usual_results.aggregate
    cost(aggregate.assign(auroc_low=np.nan, auroc_high=np.nan))
    assert named and all(point.ends is None for point in named)
    named.clear()
    cost(aggregate)
    assert all(point.ends is not None and point.ends[0] <= point.y <= point.ends[1] for point in named)


def test_a_name_leaves_an_interval_free_where_another_place_is():
    figure = Figure(figsize=(4, 3))
    ax = figure.add_axes((0, 0, 1, 1))
    name_points(ax, [Point(0.5, 0.5, "mine", "black"), Point(0.53, 0.5, "", "black", ends=(0.0, 1.0))], (288, 216))
    figure.draw_without_rendering()
    (text,) = ax.texts
    box = text.get_window_extent().transformed(ax.transAxes.inverted())
    assert box.x1 < 0.53


def _hollow(figure):
    return [line for ax in figure.axes for line in ax.lines if line.get_markerfacecolor() == "white"]


def _title_ends_before_the_next(figure):
    figure.draw_without_rendering()
    titled = [ax for ax in figure.axes if ax.get_visible() and ax.get_title(loc="left")]
    boxes = {ax: _title(ax).get_window_extent() for ax in titled}
    for box in boxes.values():
        others = [other for other in boxes.values() if other.x0 > box.x0 + 2 and abs(other.y0 - box.y0) < 5]
        assert box.x1 <= min([figure.bbox.width, *(other.x0 for other in others)]) + 1
    return [ax.get_title(loc="left") for ax in titled]


def _title(ax):
    text = ax.get_title(loc="left")
    return next(child for child in ax.get_children() if getattr(child, "get_text", str)() == text)


def test_titles_do_not_meet_where_names_of_methods_leave_little_room(usual_results):
    long = {"label": {"eap": "eap (answer-difference, path=gradient, level=edge)"}}
    recovery = usual_results.recovery.replace(long)
    more = [recovery.replace({"ablation": {"patch": name}}) for name in ("mean-positional", "resample", "mean")]
    recovery = pd.concat([recovery, *more], ignore_index=True)
    titles = _title_ends_before_the_next(auc_by_method(recovery, tables.aggregate_table(recovery)))
    assert "mean-positional" in titles and not any(title.endswith("ablation") for title in titles)
    usual = auc_by_method(usual_results.recovery, usual_results.aggregate)
    assert "patch ablation" in _title_ends_before_the_next(usual)


def test_a_map_of_medians_has_every_pair_of_ablations_that_was_scored():
    """A truth that is certified for fewer programs than others leaves no square empty."""
    names = ("patch", "resample", "mean", "noise", "zero")
    rows = [
        {"label": label, "ablation": found, "truth_ablation": truth, "own": found == truth, "average_precision": value}
        | {"n_programs": n if truth == "patch" else 3}
        for label, n, value in (("eap", 9, 0.5), ("exact", 9, 0.7), ("acdc", 2, 0.9))
        for found in names
        for truth in names
    ]
    figure = mismatch(pd.DataFrame(rows))
    values = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
    assert values.shape == (5, 5) and values[:, 0] == pytest.approx(0.6)  # acdc ran on fewer programs there
    assert values[:, 1:] == pytest.approx(0.7)
