"""Writes the report of a store: one page, the tables in three formats, the figures in three formats. Needs no GPU.

Everything comes from the store, and the same store gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ..suite.store.published import publishing
from .chapters import present, present_evaluations
from .chapters.leaderboard import leaderboard_json
from .chapters.sensitivity import THRESHOLD
from .page import markup
from .read import tables
from .read.results import Results, current, read
from .read.stores import Stores

if TYPE_CHECKING:
    from .chapters.gallery import Drawn
    from .page.page import Picture


def write_report(store_path: str | Path, out: str | Path | None = None, *others: str | Path) -> Path:
    """Writes ``report.html``, ``leaderboard.json``, ``tables/`` (CSV, Markdown, LaTeX), ``figures/`` (PDF, SVG, PNG).

    Args:
        store_path: the store to report.
        out: the folder to write to; the store's own when None.
        others: more stores, reported together with the first.
    Returns the path of ``report.html``.
    Raises StoreError when the store cannot be read or the folder cannot be written.
    """
    from .chapters.gallery import gallery
    from .chapters.sections import facts, sections, title
    from .page.page import page
    from .page.viewer import circuits_of

    results = read(store_path, *others)
    folder = Path(store_path if out is None else out)
    drawn, curves = gallery(results)
    with publishing(folder) as new:
        pictures = write_figures(new / "figures", drawn)
        shown = _write_tables(new / "tables", results, curves)
        circuits = circuits_of(results.store, results.recovery)
        parts = sections(results, pictures, shown, circuits)
        html = page(title(results.store), facts(results), parts, circuits.json if circuits.shown else "")
        (new / "leaderboard.json").write_text(leaderboard_json(results), encoding="utf-8")
        (new / "report.html").write_text(html, encoding="utf-8")
    return folder / "report.html"


def summary_table(store_path: str | Path) -> str:
    """The result in plain text: method by ablation, median area with its interval, exact recoveries, seconds."""
    records, _ = current(Stores([store_path]))
    aggregate = tables.aggregate_table(tables.recovery_table(records), ["auroc", "exact"])
    failed = sum(not record.done for record in records)
    if aggregate.empty:
        return f"No cell has been scored against a known circuit yet ({len(records)} cells, {failed} without a result)."
    best = present.best_of(aggregate)
    lines = []
    for ablation, group in aggregate.groupby("ablation", sort=False):
        rows = [("", f"{ablation} ablation", "AUC, median [95 %]", "programs", "exact", "seconds")]
        for found in group.to_dict("records"):
            area = present.with_interval(found["auroc"], found["auroc_low"], found["auroc_high"])
            mark = "*" if (ablation, found["label"]) in best else ""
            exact = f"{found['exact_cells']}/{found['exact_of']}"
            programs = str(int(found["n_programs"]))
            rows.append((mark, found["label"], area, programs, exact, present.amount(found["seconds"])))
        widths = [max(len(row[column]) for row in rows) for column in range(6)]
        for mark, label, area, *numbers in rows:
            right = "  ".join(f"{number:>{width}}" for number, width in zip(numbers, widths[3:], strict=True))
            lines.append(f"{mark:1} {label:{widths[1]}}  {area:{widths[2]}}  {right}".rstrip())
        lines.append("")
    lines.append("AUC: area under the ROC curve over edges, median over programs. * best, or within its interval.")
    lines += [f"{failed} cells have no result; the report says why."] if failed else []
    return "\n".join(lines)


def write_figures(folder: Path, drawn: dict[str, Drawn]) -> dict[str, Picture]:
    """Writes each figure as PDF, SVG and PNG; returns what the page shows of them."""
    from .draw.style import FORMATS, render
    from .page.page import Picture

    folder.mkdir(parents=True, exist_ok=True)
    pictures = {}
    for name, (figure, title, caption) in drawn.items():
        content = {file_format: render(figure, file_format) for file_format in FORMATS}
        for file_format, data in content.items():
            (folder / f"{name}.{file_format}").write_bytes(data)
        pictures[name] = Picture(name, title, caption, content["svg"])
    return pictures


def _write_tables(folder: Path, results: Results, curves: pd.DataFrame) -> dict[str, present.Table]:
    """Writes the tidy tables as CSV and the tables to be read as Markdown and LaTeX; returns the latter by name."""
    folder.mkdir(parents=True, exist_ok=True)
    by_program, origin = tables.program_table(results.recovery), tables.provenance_table(results.records)
    by_run = tables.run_table(results.recovery)
    tidy = {
        "recovery": results.recovery,
        "leaderboard": results.aggregate,
        "programs": by_program,
        "runs": by_run,
        "mismatch": results.mismatch,
        "evaluations": results.evaluated,
        "faithfulness": results.faithfulness,
        "areas": results.areas,
        "sensitivity": results.sensitivity.table,
        "comparisons": results.pairwise,
        "circuits": tables.circuit_table(results.records),
        "structures": results.structures.drop(columns="place"),
        "failures": results.failures,
        "provenance": origin,
        "curves": curves,
    }
    for name, table in tidy.items():
        table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    shown = [
        present.leaderboard(results.aggregate),
        present.programs(by_program),
        present.runs(by_run),
        present.mismatches(results.mismatch),
        present_evaluations.evaluations(results.faithfulness),
        present_evaluations.areas(results.areas),
        present_evaluations.sensitivity(results.sensitivity.table, THRESHOLD),
        present.comparisons(results.pairwise),
        present.structures(results.structures),
        present.failures(results.failures),
        present.benchmarks(results.store.benchmarks(), {record.key: record.status for record in results.records}),
        present.provenance(origin),
    ]
    for table in shown:
        (folder / f"{table.name}.md").write_text(markup.markdown(table), encoding="utf-8")
        (folder / f"{table.name}.tex").write_text(markup.latex(table), encoding="utf-8")
    return {table.name: table for table in shown}
