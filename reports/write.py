"""Writes the report of a store: one page, the tables in three formats, the figures in three formats. Needs no GPU.

The report is its chapters (``chapters/``), one after the other. Everything comes from the store, and the same store
gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..suite.errors import SpecError
from ..suite.store.published import publishing
from .brief import brief_sections, methods_paragraph
from .chapters.chapter import Chapter, Plot, by_order, chapters
from .chapters.files import write_data, write_figures, write_tables
from .chapters.foreign import ForeignChapter, foreign_chapters
from .leaderboard import leaderboard_json
from .page.page import Picture, Section, page
from .page.table import Table
from .read.results import Results, read_results
from .read.stores import Stores

BRIEF = "brief.html"


_Named = TypeVar("_Named", Plot, Table)


def write_report(
    store_path: str | Path,
    out: str | Path | None = None,
    *others: str | Path,
    brief: bool = False,
    rivals: Sequence[str] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Path:
    """Writes ``report.html``, ``leaderboard.json``, ``tables/`` (CSV, Markdown, LaTeX), ``figures/`` (PDF, SVG, PNG).

    Args:
        store_path: the store to report.
        out: the folder to write to; the store's own when None.
        others: more stores, reported together with the first.
        brief: write ``brief.html`` as well, two pages for an e-mail (``brief.py``).
        rivals: methods to test those of the user's against, in this order (``read_results``).
        tell: is called with one line for each part of another package's chapter that is left out, and why. The page
            says the same.

    Returns the path of ``report.html``.
    Raises StoreError when the store cannot be read or the folder cannot be written, and SpecError when a rival is not
    in the store, or two figures, or two tables, of this package's chapters have one name, because one would replace the
    other.
    """
    results, own, foreign = read_results(store_path, *others, rivals=rivals), chapters(), foreign_chapters()
    parts = sorted([*own, *foreign], key=by_order)
    folder = Path(store_path if out is None else out)
    with publishing(folder) as new:
        plots = _each_once("figure", {part: part.figures(results) for part in [*own, *foreign]})
        failed = {
            plot.name: partial(part.leave_out, f"figure {plot.name!r}") for part in foreign for plot in plots[part]
        }
        pictures = write_figures(new / "figures", [plot for part in parts for plot in plots[part]], failed=failed)
        tables = {part: [table for table in part.tables(results) if table.rows] for part in [*own, *foreign]}
        tables = {part: _warned(of_part, part, results) for part, of_part in _each_once("table", tables).items()}
        write_tables(new / "tables", [table for part in parts for table in tables[part]])
        for part in own:
            write_data(new / "tables", part.data(results))
        for part in foreign:
            _write_foreign_data(new / "tables", part, results)
        summary = Section("summary", "Summary", tuple(_summary(results, parts)))
        sections = [summary, *(_section(part, results, pictures, plots[part], tables[part]) for part in parts)]
        methods = Section("methods", "Methods", methods_paragraph(results, parts))
        _write_page(new / "report.html", results, [*sections, methods])
        if brief:
            _write_page(new / BRIEF, results, brief_sections(sections, results, parts), brief=True)
        (new / "leaderboard.json").write_text(leaderboard_json(results), encoding="utf-8")
    for fault in (fault for part in foreign for fault in part.faults.values()):
        if tell is not None:
            tell(fault)
    return folder / "report.html"


def _warned(tables: Sequence[Table], part: Chapter, results: Results) -> list[Table]:
    """A chapter's tables, those about circuits with a warning where a model hardly does a task."""
    if not part.of_circuits or (warning := results.warning) is None:
        return list(tables)
    return [replace(table, caption=f"{table.caption} {warning}") for table in tables]


def _each_once(kind: str, things: Mapping[Chapter, Sequence[_Named]]) -> dict[Chapter, list[_Named]]:
    """The figures, or the tables, of each chapter, of which no two have one name.

    When two have one name, that of another package's chapter is left out. Raises SpecError when both are of this
    package.
    """
    kept: dict[Chapter, list[_Named]] = {part: [] for part in things}
    seen: dict[str, str] = {}
    for part, of_part in things.items():
        for thing in of_part:
            if thing.name not in seen:
                seen[thing.name] = part.name
                kept[part].append(thing)
            elif isinstance(part, ForeignChapter):
                taken = f"the chapter {seen[thing.name]!r} has a {kind} of this name; rename one of them"
                part.leave_out(f"{kind} {thing.name!r}", taken)
            else:
                raise SpecError(
                    f"two {kind}s of the report are called {thing.name!r}, in the chapters {seen[thing.name]!r} and "
                    f"{part.name!r}; rename one of them."
                )
    return kept


def _write_foreign_data(folder: Path, part: ForeignChapter, results: Results) -> None:
    for name, table in part.data(results).items():
        if (folder / f"{name}.csv").exists():
            part.leave_out(f"data {name!r}", "the report has a table of this name; rename it")
        else:
            write_data(folder, {name: table})


def _write_page(path: Path, results: Results, sections: Sequence[Section], *, brief: bool = False) -> None:
    shown = [section for section in sections if not section.empty]
    path.write_text(page(title(results.store), facts(results), shown, brief=brief), encoding="utf-8")


def _section(
    part: Chapter, results: Results, pictures: Mapping[str, Picture], plots: Sequence[Plot], tables: Sequence[Table]
) -> Section:
    """A chapter as a section of the page, with a note on the parts that are left out."""
    words, viewer = tuple(part.words(results)), part.viewer(results)
    if isinstance(part, ForeignChapter):
        words += tuple(part.faults.values())
    drawn = tuple(pictures[plot.name] for plot in plots if plot.name in pictures)
    return Section(part.name, part.title, words, drawn, tuple(tables), viewer)


def _summary(results: Results, parts: Sequence[Chapter]) -> list[str]:
    """The paragraphs of all chapters for the summary; before them a warning where a model hardly does a task, and
    behind them, when no cell could be scored, the reason."""
    texts = [results.warning] if results.warning else []
    texts += [text for part in parts for text in part.summary(results)]
    return texts + ([] if len(results.recovery) else [_nothing_scored(results)])


def _nothing_scored(results: Results) -> str:
    if not results.records:
        return "This store holds no cells yet: run a benchmark into it and report again."
    if all(not record.done for record in results.records):
        return "No cell of this store has a result: all of them failed or are undefined."
    return "None of these tasks has a known circuit, so no method is scored against one."


def title(store: Stores) -> str:
    """The title of the page: the benchmarks or, for stores without any, the folders."""
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
    for column, word in (("task", "task"), ("method", "method"), ("ablation", "ablation")):
        n = results.recovery[column].nunique()
        found += [f"{n} {word}{'s' * (n != 1)}"] if n else []
    return found
