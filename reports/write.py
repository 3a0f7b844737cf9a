"""Writes the report of a store: one page, the tables in three formats, the figures in three formats. Needs no GPU.

The report is its chapters (``chapters/``), one after the other. Everything comes from the store, and the same store
gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..suite.errors import SpecError
from ..suite.store.published import publishing
from .brief import brief_sections
from .chapters.chapter import Chapter, Plot, chapters
from .chapters.files import write_data, write_figures, write_tables
from .leaderboard import leaderboard_json
from .page.page import Picture, Section, page
from .page.table import Table
from .read.results import Results, read_results
from .read.stores import Stores

BRIEF = "brief.html"


def write_report(
    store_path: str | Path, out: str | Path | None = None, *others: str | Path, brief: bool = False
) -> Path:
    """Writes ``report.html``, ``leaderboard.json``, ``tables/`` (CSV, Markdown, LaTeX), ``figures/`` (PDF, SVG, PNG).

    Args:
        store_path: the store to report.
        out: the folder to write to; the store's own when None.
        others: more stores, reported together with the first.
        brief: write ``brief.html`` as well, two pages for an e-mail (``brief.py``).
    Returns the path of ``report.html``.
    Raises StoreError when the store cannot be read or the folder cannot be written, and SpecError when two figures, or
    two tables, have one name: one would stand in the other's place.
    """
    results, parts = read_results(store_path, *others), chapters()
    folder = Path(store_path if out is None else out)
    with publishing(folder) as new:
        plots = {part.name: part.figures(results) for part in parts}
        _each_once("figure", plots)
        pictures = write_figures(new / "figures", [plot for of_part in plots.values() for plot in of_part])
        shown = {part.name: [table for table in part.tables(results) if table.rows] for part in parts}
        _each_once("table", shown)
        write_tables(new / "tables", [table for of_part in shown.values() for table in of_part])
        for part in parts:
            write_data(new / "tables", part.data(results))
        summary = Section("summary", "Summary", tuple(_summary(results, parts)))
        sections = [summary, *(_section(part, results, pictures, plots[part.name], shown[part.name]) for part in parts)]
        _write_page(new / "report.html", results, sections)
        if brief:
            _write_page(new / BRIEF, results, brief_sections(sections, results, parts), brief=True)
        (new / "leaderboard.json").write_text(leaderboard_json(results), encoding="utf-8")
    return folder / "report.html"


def _each_once(kind: str, named: Mapping[str, Sequence[Plot] | Sequence[Table]]) -> None:
    """Raises SpecError when two things of a kind, by chapter, have one name."""
    seen: dict[str, str] = {}
    for part, things in named.items():
        for thing in things:
            if thing.name in seen:
                raise SpecError(
                    f"two {kind}s of the report are called {thing.name!r}, in the chapters {seen[thing.name]!r} and "
                    f"{part!r}; rename one of them."
                )
            seen[thing.name] = part


def _write_page(path: Path, results: Results, sections: Sequence[Section], *, brief: bool = False) -> None:
    shown = [section for section in sections if not section.empty]
    path.write_text(page(title(results.store), facts(results), shown, brief=brief), encoding="utf-8")


def _section(
    part: Chapter, results: Results, pictures: Mapping[str, Picture], plots: Sequence[Plot], tables: Sequence[Table]
) -> Section:
    """A chapter as it stands in the page."""
    drawn = tuple(pictures[plot.name] for plot in plots)
    return Section(part.name, part.title, tuple(part.words(results)), drawn, tuple(tables), part.viewer(results))


def _summary(results: Results, parts: Sequence[Chapter]) -> list[str]:
    """What every chapter says in the summary; where no cell could be scored, why."""
    texts = [] if len(results.recovery) else [_nothing_scored(results)]
    return texts + [text for part in parts for text in part.summary(results)]


def _nothing_scored(results: Results) -> str:
    if not results.records:
        return "This store holds no cells yet: run a benchmark into it and report again."
    if all(not record.done for record in results.records):
        return "No cell of this store has a result: all of them failed or are undefined."
    return "No cell of this store could be scored: none of its tasks has a known circuit."


def title(store: Stores) -> str:
    """The page's: the benchmarks, or where the store knows of none the folders."""
    names = ", ".join(store.benchmarks()) or ", ".join(sorted(part.path.resolve().name for part in store.stores))
    return f"CircuitMeter: {names}"


def facts(results: Results) -> list[str]:
    """What the store holds, in a few numbers."""
    done = sum(record.done for record in results.records)
    found = [f"{len(results.store.stores)} stores"] * (len(results.store.stores) > 1)
    found += [f"{len(results.records)} cells", f"{done} done"]
    kinds = results.failures.loc[results.failures["kind"] != "damaged", "kind"].value_counts()
    undefined = int(kinds.get("undefined", 0))
    found += [f"{undefined} undefined"] if undefined else []
    found += [f"{int(kinds.sum()) - undefined} failed"] if kinds.sum() > undefined else []
    asked = {key for benchmark in results.store.benchmarks().values() for key in benchmark.cells}
    missing = len(asked - {record.key for record in results.records})
    found += [f"{missing} not run yet"] if missing else []
    for benchmark in results.store.benchmarks().values():
        found += [f"{model.combinations} not run on {model.model}" for model in benchmark.not_run]
    found += [f"{results.superseded} outdated, left out"] if results.superseded else []
    found += [f"{len(results.store.damaged)} damaged"] if results.store.damaged else []
    for column, word in (("task", "task"), ("label", "method"), ("ablation", "ablation")):
        n = results.recovery[column].nunique()
        found += [f"{n} {word}{'s' * (n != 1)}"] if n else []
    return found
