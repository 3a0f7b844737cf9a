"""The report is its chapters: another package adds one, and whatever a chapter gives is on the page."""

from importlib.metadata import EntryPoint, EntryPoints

import pandas as pd
import pytest
from matplotlib.figure import Figure
from synthetic import make_store

from circuitmeter.reports.chapters import chapter as registry
from circuitmeter.reports.chapters.chapter import CHAPTERS, Chapter, Plot, chapters
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


@pytest.fixture
def with_weather(monkeypatch):
    """Another package is there that offers a chapter."""
    chapters()  # those of this package are registered when they are first asked for
    point = EntryPoint("weather", f"{__name__}:Weather", "circuitmeter.chapters")
    monkeypatch.setattr(
        of_suite, "entry_points", lambda group: EntryPoints([point] if group == "circuitmeter.chapters" else [])
    )
    fresh = Registry("chapter", "circuitmeter.chapters")
    for name in CHAPTERS:
        if name != "weather":
            fresh.add(name, CHAPTERS.get(name))
    monkeypatch.setattr(registry, "CHAPTERS", fresh)


def test_a_chapter_of_another_package_is_in_the_page_and_in_the_files(with_weather, tmp_path, page_only):
    store = make_store(tmp_path / "s", programs=1, methods=("eap",), ablations=("patch",), failures=False)
    text = write_report(store.path, tmp_path / "out").read_text()
    part = text[text.index('<section id="weather">') :]
    part = part[: part.index("</section>")]
    assert "It rains on 1 cells." in part and "drawn elsewhere" in part and "It is blue." in part and "21.6" in part
    assert text.index('id="recovery"') < text.index('id="weather"') < text.index('id="circuits"')  # its order
    assert "Rain." in text[text.index('<section id="summary">') : text.index('<section id="recovery">')]
    assert (tmp_path / "out" / "tables" / "weather.csv").read_text() == "degrees\n21.55\n"
    assert (tmp_path / "out" / "figures" / "sky.svg").exists() and "weather" not in [each.name for each in _usual()]
    assert not list((tmp_path / "out" / "tables").glob("empty.*"))


@pytest.mark.parametrize("kind", ["figure", "table"])
def test_two_of_a_name_in_a_report_are_refused(kind, with_weather, tmp_path, monkeypatch):
    """They are files by that name: without this one was drawn in the other's place."""
    taken = Plot("roc", "", "", blank) if kind == "figure" else Table("leaderboard", "", "", ("",), (True,), ((),))
    monkeypatch.setattr(Weather, f"{kind}s", lambda self, results: (taken,))
    store = make_store(tmp_path / "s", programs=1, methods=("eap",), ablations=("patch",), failures=False)
    monkeypatch.setattr("circuitmeter.reports.write.write_figures", lambda folder, plots: {})
    with pytest.raises(SpecError, match=f"two {kind}s .*'{taken.name}', in the chapters 'recovery' and 'weather'"):
        write_report(store.path, tmp_path / "out")


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
