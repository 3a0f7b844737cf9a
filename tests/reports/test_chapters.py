"""The report is its chapters: another package adds one, and whatever a chapter gives is on the page."""

from importlib.metadata import EntryPoint, EntryPoints

import pandas as pd
import pytest
from markupsafe import escape
from matplotlib.figure import Figure
from synthetic import make_store

from circuitmeter.reports.chapters import chapter as registry
from circuitmeter.reports.chapters import foreign
from circuitmeter.reports.chapters.chapter import CHAPTERS, Chapter, Plot, chapters
from circuitmeter.reports.chapters.failures import FailuresChapter
from circuitmeter.reports.chapters.provenance import ProvenanceChapter
from circuitmeter.reports.page.table import Table, TableCell
from circuitmeter.reports.write import write_report
from circuitmeter.suite import registry as of_suite
from circuitmeter.suite.errors import SpecError
from circuitmeter.suite.registry import Registry


def blank():
    figure = Figure(figsize=(2, 1), layout="none")
    figure.text(0.5, 0.5, "drawn elsewhere")
    return figure


class Weather(Chapter):
    name, title, order = "weather", "Weather", 45

    def tables(self, results):
        full = pd.DataFrame({"degrees": [21.55]})
        rows = ((TableCell("21.6", 21.55),),)
        return Table("weather", "Degrees", "of Celsius", ("Degrees",), (True,), rows, full), Table(
            "empty", "Nothing", "", ("Nothing",), (True,)
        )

    def figures(self, results):
        return (Plot("sky", "The sky", "It is blue.", blank),)

    def words(self, results):
        return (f"It rains on {len(results.records)} cells.",)

    def summary(self, results):
        return ("Rain.",)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chapters") / "s"
    return make_store(folder, programs=1, methods=("eap",), ablations=("patch",), failures=False)


@pytest.fixture
def with_weather(monkeypatch):
    """Another package is there that offers a chapter."""
    chapters()  # those of this package are registered when they are first asked for
    point = EntryPoint("weather", f"{__name__}:Weather", "circuitmeter.chapters")
    monkeypatch.setattr(
        of_suite, "entry_points", lambda group: EntryPoints([point] if group == "circuitmeter.chapters" else [])
    )
    fresh = Registry("chapter", "circuitmeter.chapters", required=False)
    for name in CHAPTERS:
        if name != "weather":
            fresh.add(name, CHAPTERS.get(name))
    for module in (registry, foreign):
        monkeypatch.setattr(module, "CHAPTERS", fresh)


def test_a_chapter_of_another_package_is_in_the_page_and_in_the_files(with_weather, store, tmp_path, page_only):
    text = write_report(store.path, tmp_path / "out").read_text()
    part = text[text.index('<section id="weather">') :]
    part = part[: part.index("</section>")]
    assert "It rains on 1 cells." in part and "drawn elsewhere" in part and "It is blue." in part and "21.6" in part
    assert text.index('id="recovery"') < text.index('id="weather"') < text.index('id="circuits"')  # its order
    assert "Rain." in text[text.index('<section id="summary">') : text.index('<section id="recovery">')]
    assert (tmp_path / "out" / "tables" / "weather.csv").read_text() == "degrees\n21.55\n"
    assert (tmp_path / "out" / "figures" / "sky.svg").exists() and "weather" not in [each.name for each in _usual()]
    assert not list((tmp_path / "out" / "tables").glob("empty.*"))


@pytest.fixture
def reported(store, tmp_path, monkeypatch):
    """Writes the report of a small store with some of this package's chapters: the page, and the lines told."""

    def write(*own, figures=False):
        told = []
        if not figures:
            monkeypatch.setattr("circuitmeter.reports.write.chapters", lambda: [CHAPTERS.get(name)() for name in own])
        return write_report(store.path, tmp_path / "out", tell=told.append, brief=True).read_text(), told

    return write


def broken(*_):
    return 1 // 0


WRONG = {
    "tables": lambda self, results: (Table("weather", "", "", ("",), (True,), (("no cell",),)),),
    "figures": lambda self, results: (Plot("a/b", "", "", blank),),
    "words": lambda self, results: "a text and no list of texts",
    "summary": lambda self, results: (1,),
    "data": lambda self, results: {"degrees": [21.55]},
    "viewer": lambda self, results: {},
}


@pytest.mark.parametrize("fault", ["raises", "is wrong"])
@pytest.mark.parametrize("part", WRONG)
def test_what_another_packages_chapter_cannot_give_is_left_out_and_told_in_one_line(
    part, fault, with_weather, reported, monkeypatch
):
    monkeypatch.setattr(Weather, part, broken if fault == "raises" else WRONG[part])
    text, (line,) = reported("provenance")
    assert line.startswith(f"The {part} of the chapter 'weather', package 'test_chapters', is left out: ")
    assert "\n" not in line
    if fault == "raises":
        assert "ZeroDivisionError: integer division or modulo by zero (test_chapters.py, line " in line
    assert escape(line) in text and 'id="provenance"' in text
    assert ("It rains on 1 cells." in text) == (part != "words")


def test_a_figure_of_another_package_that_cannot_be_drawn_is_left_out(with_weather, reported, page_only, monkeypatch):
    monkeypatch.setattr(Weather, "figures", lambda self, results: (Plot("sky", "", "", broken),))
    text, (line,) = reported(figures=True)
    assert line.startswith("The figure 'sky' of the chapter 'weather', package 'test_chapters', is left out: ZeroDiv")
    assert escape(line) in text and "21.6" in text


@pytest.mark.parametrize("value", ["test_chapters:broken", "no_such_package.chapters:Weather"])
def test_a_chapter_that_cannot_be_made_or_imported_is_left_out(value, with_weather, reported, monkeypatch):
    point = EntryPoint("weather", value, "circuitmeter.chapters")
    monkeypatch.setattr(of_suite, "entry_points", lambda group: EntryPoints([point]))
    text, (line,) = reported()
    package = value.partition(":")[0].partition(".")[0]
    assert line.startswith(f"The content of the chapter 'weather', package {package!r}, is left out: ")
    assert escape(line) in text


def test_what_this_packages_chapters_raise_is_raised(reported, monkeypatch):
    """It is a bug, and its traceback is needed."""
    monkeypatch.setattr(ProvenanceChapter, "words", broken)
    with pytest.raises(ZeroDivisionError):
        reported("provenance")


@pytest.mark.parametrize("kind", ["figure", "table", "data"])
def test_what_has_the_name_of_another_is_left_out(kind, with_weather, reported, tmp_path, monkeypatch):
    """They are files by that name: without this one was drawn in the other's place."""
    taken = {
        "figure": (Plot("roc", "", "", blank),),
        "table": (Table("provenance", "", "", ("",), (True,), ((),)),),
        "data": {"provenance": pd.DataFrame({"degrees": [21.55]})},
    }[kind]
    part = kind if kind == "data" else f"{kind}s"
    monkeypatch.setattr(Weather, part, lambda self, results: taken)
    monkeypatch.setattr(Weather, "order", 1)  # before the other
    name = "roc" if kind == "figure" else "provenance"
    monkeypatch.setattr(ProvenanceChapter, "figures", lambda self, results: (Plot("roc", "", "", blank),))
    _, (line,) = reported("provenance")
    assert line.startswith(f"The {kind} {name!r} of the chapter 'weather', package 'test_chapters', is left out: ")
    if kind != "figure":
        assert "degrees" not in (tmp_path / "out" / "tables" / "provenance.csv").read_text()


@pytest.mark.parametrize("kind", ["figure", "table"])
def test_two_of_a_name_in_this_packages_chapters_are_refused(kind, reported, monkeypatch):
    taken = Plot("roc", "", "", blank) if kind == "figure" else Table("roc", "", "", ("",), (True,), ((),))
    for chapter in (ProvenanceChapter, FailuresChapter):
        monkeypatch.setattr(chapter, f"{kind}s", lambda self, results: (taken,))
    with pytest.raises(SpecError, match=f"two {kind}s .*'roc', in the chapters 'failures' and 'provenance'"):
        reported("failures", "provenance")


def _usual():
    return [kind for kind in (CHAPTERS.get(name) for name in CHAPTERS) if kind is not Weather]


def test_chapters_come_in_order_and_have_names_of_their_own():
    found = chapters()
    assert [part.order for part in found] == sorted(part.order for part in found) and len(found) >= 9
    assert {"recovery", "mismatch", "structures", "faithfulness", "sensitivity", "circuits", "tests", "failures"} <= {
        part.name for part in found
    }
    with pytest.raises(SpecError, match="two chapters are called 'recovery'"):

        @registry.chapter
        class Recovery(Chapter):
            name, title, order = "recovery", "Another", 1


def test_every_figure_and_table_of_every_chapter_is_on_the_page(usual_results, report):
    text = (report / "report.html").read_text()
    for part in chapters():
        for plot in part.figures(usual_results):
            assert f"<strong>{plot.title}.</strong>" in text
            assert all((report / "figures" / f"{plot.name}.{kind}").exists() for kind in ("pdf", "svg", "png"))
        for table in part.tables(usual_results):
            assert (f'<h3 id="{table.name}-table">' in text) == bool(table.rows)
