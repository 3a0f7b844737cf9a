"""Figures of papers: reported beside ours, the model in the figure itself, the same bytes when drawn again."""

import numpy as np
import pandas as pd
import pytest

from circuitmeter.reports.draw import style
from circuitmeter.reports.draw.beside import reported_beside_ours
from circuitmeter.reports.draw.boxes import boxes
from circuitmeter.reports.draw.histogram import histogram
from circuitmeter.reports.draw.lines import lines
from circuitmeter.reports.draw.matrix import matrix
from circuitmeter.reports.draw.published_roc import published_roc
from circuitmeter.reports.draw.scatter import scatter
from circuitmeter.reports.read.published import RowsFile
from circuitmeter.reports.reproduction import manifest as manifests
from circuitmeter.reports.reproduction.entries import Drawing
from circuitmeter.reports.reproduction.figures import drawer, drawn, measured_frame
from circuitmeter.reports.reproduction.manifest import load

NOTE = "ours: run on mini, not on gpt2"
FIGURES = {
    "lines": lambda table, note="": lines(table, "Size", "Value", log=("x",), level=1.0, note=note),
    "scatter": lambda table, note="": scatter(table, "Effect (loss)", "Score (loss)", note=note),
    "boxes": lambda table, note="": boxes(table, "Value", level=0.5, note=note),
    "matrix": lambda table, note="": matrix(table, "", "", bar="Overlap", note=note),
    "histogram": lambda table, note="": histogram(table, "Overlap", "Pairs", note=note),
}


@pytest.fixture(scope="module")
def table():
    chance = np.random.default_rng(0)
    rows = [
        {"panel": panel, "series": series, "x": x / 8, "y": float(chance.random()), "origin": origin}
        for panel in ("ioi", "greater-than")
        for series in ("eap", "eap-ig")
        for x in range(1, 6)
        for origin in ("reported", "ours")
    ]
    return pd.DataFrame(rows).assign(low=float("nan"), high=float("nan"))


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_has_the_same_bytes_when_drawn_again_and_names_the_model(name, table):
    first, second = FIGURES[name](table, NOTE), FIGURES[name](table, NOTE)
    files = {file_format: style.render(first, file_format) for file_format in style.FIGURE_FORMATS}
    assert files == {file_format: style.render(second, file_format) for file_format in files}
    assert NOTE.encode() in files["svg"] and NOTE.encode() not in style.render(FIGURES[name](table), "svg")
    assert len([ax for ax in first.axes if ax.get_title(loc="left")]) == (4 if name == "matrix" else 2)
    assert first.get_figwidth() in (style.COLUMN, style.PAGE)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_of_nothing_says_so(name, table):
    assert FIGURES[name](table[:0]).texts


def test_reported_is_open_and_ours_filled(table):
    one = table[(table["panel"] == "ioi") & (table["series"] == "eap")]
    (ax,) = [ax for ax in lines(one, "x", "y").axes if ax.lines]
    fills = [line.get_markerfacecolor() for line in ax.lines]
    assert fills[0] == "white" and fills[1] == ax.lines[1].get_color()
    for line, origin in zip(ax.lines, ("reported", "ours"), strict=True):
        assert list(line.get_ydata()) == list(one[one["origin"] == origin].sort_values("x")["y"])


def test_a_slope_is_that_of_the_dots():
    x = np.linspace(-1, 2, 9)
    dots = pd.DataFrame({"panel": "p", "series": "eap", "x": x, "y": 0.5 * x + 1, "origin": "ours"})
    (ax,) = scatter(dots, "x", "y").axes
    assert [text.get_text() for text in ax.texts] == ["eap: r = 1.00, slope 0.50"]


def test_boxes_are_quartiles():
    values = pd.DataFrame({"panel": "", "series": "eap", "x": 0.0, "y": [0, 1, 2, 3, 4.0], "origin": "ours"})
    (ax,) = boxes(values, "Value").axes
    (body,) = ax.patches
    assert (body.get_x(), body.get_width()) == (1.0, 2.0)
    assert [2.0, 2.0] in [list(line.get_xdata()) for line in ax.lines]


class Some:
    """Tables that hold one."""

    def __init__(self, table):
        self._table = table

    def rows(self, _name, _where):
        return self._table

    def column(self, table, name):
        return table[name]


def drawing(**changes):
    same = {"name": "n", "draw": "lines", "title": "t", "caption": "c", "table": "evaluated", "labels": ["x", "y"]}
    return Drawing(**same, **{"panel": "task", "series": "method", "x": "asked", "y": "faithfulness"} | changes)


def test_seeds_are_averaged_from_the_least_to_the_most():
    rows = [{"task": "ioi", "method": "eap", "asked": 0.1, "faithfulness": value} for value in (0.2, 0.4, 0.9)]
    found = measured_frame(drawing(), Some(pd.DataFrame(rows)))
    assert found[["y", "low", "high"]].to_numpy().tolist() == [[0.5, 0.2, 0.9]]
    alone = measured_frame(drawing(), Some(pd.DataFrame(rows[:1])))
    assert np.isnan(alone[["low", "high"]].to_numpy()).all()


def test_names_are_translated_and_panels_stand_in_the_papers_order(monkeypatch):
    rows = [
        {"task": task, "method": "eap", "asked": 0.1, "faithfulness": 0.5} for task in ("sva", "ioi@third-name", "mine")
    ]
    reported = [["ioi", "eap", 0.1, 0.6], ["sva", "eap", 0.1, 0.7]]
    paper = manifests.load("hanna2024")
    there = RowsFile.model_validate({"source": "s", "rows": reported})
    monkeypatch.setattr(manifests.Manifest, "read", lambda _self, _kind, _name: there)
    wanted = drawing(reported="f.json", names={"ioi@third-name": "ioi"})
    note, lacking = "ours: on mini", "not measured on mini"
    figure = drawer(wanted, drawn(paper, wanted, Some(pd.DataFrame(rows))), note, lacking)()
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["IOI", "SVA", "mine"]
    svg = style.render(figure, "svg")
    assert b"ours: on mini" in svg and b"not measured on mini" not in svg
    # A panel without ours says so; a figure that holds nothing of ours says nothing about the model of ours.
    some = drawer(wanted, drawn(paper, wanted, Some(pd.DataFrame(rows[1:2]))), note, lacking)()
    assert {ax.get_title(loc="left"): ax.get_xlabel().split("\n")[0] for ax in some.axes} == {
        "IOI": "x",
        "SVA": lacking,
    }
    none = drawer(wanted, drawn(paper, wanted, None), note, lacking)()
    assert none.get_suptitle() == lacking and b"ours: on mini" not in style.render(none, "svg")
    assert [ax.get_xlabel() for ax in none.axes] == ["x", "x"]


def test_a_reported_value_and_ours_that_equal_it_are_both_seen():
    same = {"row": "r", "series": "eap", "reported": 0.5, "tolerance": 0.1, "quantity": "an area", "unit": "fraction"}
    table = pd.DataFrame([same | {"group": group, "ours": ours} for group, ours in (("a", np.nan), ("b", 0.5))])
    figure = reported_beside_ours(table, "Value", NOTE, "not measured on mini")
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["b", "a"]  # what has ours comes first
    both, alone = figure.axes
    ours, reported = [line for line in both.lines if len(line.get_xdata()) == 1]
    assert (list(ours.get_xdata()), list(ours.get_ydata())) == (list(reported.get_xdata()), list(reported.get_ydata()))
    assert reported.get_markerfacecolor() == "white" and ours.get_markerfacecolor() == ours.get_color()
    assert ours.get_zorder() > reported.get_zorder() and reported.get_markersize() > 1.5 * ours.get_markersize()
    assert figure.get_suptitle() == NOTE and alone.get_xlabel().startswith("not measured on mini")
    assert both.get_xlabel() == "Value" and len(alone.lines) == 1
    none = reported_beside_ours(table[:1], "Value", NOTE, "not measured on mini")
    assert none.get_suptitle() == "not measured on mini"


def test_panels_of_one_quantity_have_one_scale_and_every_panel_says_what_it_is_of():
    rows = [("a", 0.2, "an area, of ACDC", "fraction"), ("b", 0.9, "an area", "fraction"), ("c", 40.0, "size", "edges")]
    rows += [("d", 0.5, "an area", "fraction")]
    same = {"row": "r", "series": "eap", "ours": np.nan, "tolerance": 0.1}
    columns = ("group", "reported", "quantity", "unit")
    table = pd.DataFrame([same | dict(zip(columns, row, strict=True)) for row in rows])
    figure = reported_beside_ours(table, "Value")
    limits = {ax.get_title(loc="left"): ax.get_xlim() for ax in figure.axes if ax.get_visible()}
    assert limits["a"] == limits["b"] == limits["d"] != limits["c"]
    assert limits["a"][0] < 0.2 and 0.9 < limits["a"][1] < 2
    assert [ax.get_xlabel() for ax in figure.axes if ax.get_visible()] == ["Value"] * 4


@pytest.mark.parametrize("name", ["lines", "boxes"])
def test_a_panel_without_ours_says_so(name, table):
    draw = {
        "lines": lambda *rest: lines(*rest, "y", lacking="none"),
        "boxes": lambda *rest: boxes(*rest, lacking="none"),
    }
    half = table[(table["panel"] == "ioi") | (table["origin"] == "reported")]
    labels = [ax.get_xlabel() for ax in draw[name](half, "x").axes]
    assert [label.startswith("none") for label in labels] == [False, True]


@pytest.mark.parametrize("name", manifests.papers())
def test_what_a_manifest_draws_without_any_run_is_what_it_reports(name):
    paper = manifests.load(name)
    for wanted in paper.figure:
        figure = drawer(wanted, drawn(paper, wanted, None))()
        assert bool(wanted.reported) == (not figure.texts or len(figure.axes) > 0), wanted.name
        if wanted.reported:
            assert paper.read(RowsFile, wanted.reported).source


def test_each_part_of_a_name_is_spelled_as_the_paper_does():
    paper = load("hanna2024")
    assert paper.spelled("manual circuit: ioi, node") == "manual circuit: IOI, node"
    assert paper.spelled("a: b, eap-ig") == "a: b, EAP-IG" and paper.spelled(3) == 3
    assert list(paper.in_order(["all: Greater-Than", "all: IOI"])) == ["all: IOI", "all: Greater-Than"]


def test_published_curves_are_titled_as_the_paper_spells_them():
    paper = manifests.load("conmy2023")
    titles = [ax.get_title(loc="left").replace("\n", " ") for ax in published_roc(paper.spelled_curves()).axes]
    assert "IOI, corrupted, KL" in titles and "Greater-Than, corrupted, Loss" in titles
    assert not [title for title in titles if "_" in title or "kl div" in title or "tracr-" in title]


def test_a_matrix_is_spelled_alike_on_both_sides():
    paper = manifests.load("hanna2024")
    (drawing,) = [each for each in paper.figure if each.draw == "matrix"]
    figure = drawer(drawing, drawn(paper, drawing, None))()
    maps = [ax for ax in figure.axes if ax.get_title(loc="left")]
    across, down = (
        {tick.get_text() for ax in maps for tick in labels(ax)} - {""}
        for labels in (lambda ax: ax.get_xticklabels(), lambda ax: ax.get_yticklabels())
    )
    assert across == down and {"IOI", "Greater-Than"} < across
