"""Writes the report of a store: one page, the tables in three formats, the figures in three formats. Needs no GPU.

Everything comes from the store, and the same store gives the same bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from ..suite.errors import StoreError
from ..suite.harness.store import Store
from . import present, tables
from .labels import ordered_ablations
from .verdict import sentences

if TYPE_CHECKING:
    from .page import Picture, Section


ASKED_FOR = ("task", "model", "method", "parameters", "ablation", "objective", "seed")
"""What a benchmark asks for; the rest of an identity (versions, hashes) says with what it was answered."""


class Results(NamedTuple):
    """A store's records and the tidy tables made from them; ``superseded`` counts the records left out as outdated."""

    store: Store
    records: list[dict[str, Any]]
    recovery: pd.DataFrame
    superseded: int
    aggregate: pd.DataFrame
    pairwise: pd.DataFrame
    mismatch: pd.DataFrame
    failures: pd.DataFrame


def read(store_path: str | Path) -> Results:
    """Reads a store. Raises StoreError when there is none or a newer version wrote it."""
    store = Store(store_path)
    records, superseded = _current(store)
    recovery = tables.recovery_table(records)
    aggregate = tables.aggregate_table(recovery)
    derived = tables.pairwise_table(recovery), tables.mismatch_table(recovery), tables.failure_table(records)
    return Results(store, records, recovery, superseded, aggregate, *derived)


def _current(store: Store) -> tuple[list[dict[str, Any]], int]:
    """The records to report, and how many were left out because a benchmark now asks for a newer cell in their place.

    A store keeps every cell it ever held. When a method's source or a program's weights change, the benchmark's cells
    get new keys; the old ones answer a question that is no longer asked, and would stand beside the new as if they were
    rivals.
    """
    records = list(store.records())
    asked = {key for benchmark in store.benchmarks().values() for key in benchmark.get("cells", ())}

    def question(record: dict[str, Any]) -> str:
        return json.dumps([record["identity"][name] for name in ASKED_FOR], sort_keys=True)

    answered = {question(record) for record in records if record["key"] in asked}
    kept = [record for record in records if record["key"] in asked or question(record) not in answered]
    return kept, len(records) - len(kept)


def write_report(store_path: str | Path, out: str | Path | None = None) -> Path:
    """Writes ``report.html``, ``tables/`` (CSV, Markdown, LaTeX) and ``figures/`` (PDF, SVG, PNG).

    Args:
        store_path: the store to report.
        out: the folder to write to; the store's own when None.
    Returns the path of ``report.html``.
    Raises StoreError when the store cannot be read or the folder cannot be written.
    """
    from .page import page

    results = read(store_path)
    folder = Path(store_path if out is None else out)
    drawn, curves = _figures(results)
    try:
        pictures = _write_figures(folder / "figures", drawn)
        shown = _write_tables(folder / "tables", results, curves)
        html = page(_title(results.store), _facts(results), _sections(results, pictures, shown))
        path = folder / "report.html"
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"cannot write the report to {folder}: {error.strerror or error}; name another folder with --out."
        ) from error
    return path


def summary_table(store_path: str | Path) -> str:
    """The result in plain text: method by ablation, median area with its interval, exact recoveries, seconds."""
    records, _ = _current(Store(store_path))
    aggregate = tables.aggregate_table(tables.recovery_table(records), ["auroc", "exact"])
    failed = sum(record["status"] != "done" for record in records)
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


def _title(store: Store) -> str:
    names = ", ".join(store.benchmarks()) or store.path.resolve().name
    return f"CircuitMeter: {names}"


def _facts(results: Results) -> list[str]:
    """What the store holds, in a few numbers."""
    done = sum(record["status"] == "done" for record in results.records)
    facts = [f"{len(results.records)} cells", f"{done} done"]
    kinds = results.failures["kind"].value_counts()
    undefined = int(kinds.get("undefined", 0))
    facts += [f"{undefined} undefined"] if undefined else []
    facts += [f"{int(kinds.sum()) - undefined} failed"] if kinds.sum() > undefined else []
    asked = {key for benchmark in results.store.benchmarks().values() for key in benchmark.get("cells", ())}
    missing = len(asked - {record["key"] for record in results.records})
    facts += [f"{missing} not run yet"] if missing else []
    facts += [f"{results.superseded} outdated, left out"] if results.superseded else []
    facts += [f"{len(results.store.damaged)} damaged"] if results.store.damaged else []
    for column, word in (("task", "task"), ("label", "method"), ("ablation", "ablation")):
        n = results.recovery[column].nunique()
        facts += [f"{n} {word}{'s' * (n != 1)}"] if n else []
    return facts


def _figures(results: Results) -> tuple[dict[str, tuple[Any, str, str]], pd.DataFrame]:
    """The figures by name, each with title and caption; and the mean curves drawn."""
    from .curves import curve_tables
    from .figures.auc_by_method import auc_by_method
    from .figures.cost import cost
    from .figures.mismatch import mismatch
    from .figures.panels import MOST_BANDS
    from .figures.precision_recall import precision_recall
    from .figures.roc import roc
    from .figures.true_size import true_size

    means, _ = curve_tables(results.store, results.recovery)
    band = "Lines are means over programs."
    if means["label"].nunique() <= MOST_BANDS:
        band += " Shaded bands are pointwise 95 % bootstrap intervals over programs."
    drawn = {
        "auc_by_method": (
            auc_by_method(results.recovery, results.aggregate),
            "Area under the ROC curve",
            "Small dots are programs (mean over seeds and variants), large markers medians, bars 95 % bootstrap "
            "intervals over programs; the dashed line is chance. Each method is judged by "
            "the truth of the ablation it was run with.",
        ),
        "roc": (
            roc(means),
            "ROC curves",
            "How many true edges are found for how many false ones, as edges are added by absolute score. "
            f"{band} The diagonal is chance.",
        ),
        "precision_recall": (
            precision_recall(means),
            "Precision-recall curves",
            "How pure the ranking is down to each share of the true edges; few edges are true, so this tells more than "
            f"the ROC. {band}",
        ),
        "true_size": (
            true_size(results.aggregate),
            "At the true size",
            "Precision and recall of the circuit with as many edges as the true one, medians over programs with 95 % "
            "bootstrap intervals. The two differ where a method scores too few edges above zero.",
        ),
        "cost": (
            cost(results.aggregate),
            "Cost against recovery",
            "Median number of passes over one example (forward and backward alike) that a cell takes, against the "
            "median area under the ROC curve with its interval. Methods that run no model stand at the "
            "left edge; the dashed line is chance.",
        ),
        "mismatch": (
            mismatch(results.mismatch),
            "Truth mismatch",
            "Median average precision when what was found under one ablation (rows) is scored against the true circuit "
            "of another (columns). Framed: both agree, which is how methods are judged elsewhere on this page. "
            "Blue is low, yellow high.",
        ),
    }
    return drawn, means


def _write_figures(folder: Path, drawn: dict[str, tuple[Any, str, str]]) -> dict[str, Picture]:
    from .page import Picture
    from .style import FORMATS, render

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
    tidy = {
        "recovery": results.recovery,
        "leaderboard": results.aggregate,
        "programs": by_program,
        "mismatch": results.mismatch,
        "comparisons": results.pairwise,
        "circuits": tables.circuit_table(results.records),
        "failures": results.failures,
        "provenance": origin,
        "curves": curves,
    }
    for name, table in tidy.items():
        table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    shown = [
        present.leaderboard(results.aggregate),
        present.programs(by_program),
        present.mismatches(results.mismatch),
        present.comparisons(results.pairwise),
        present.failures(results.failures),
        present.provenance(origin),
    ]
    for table in shown:
        (folder / f"{table.name}.md").write_text(present.markdown(table), encoding="utf-8")
        (folder / f"{table.name}.tex").write_text(present.latex(table), encoding="utf-8")
    return {table.name: table for table in shown}


def _sections(results: Results, pictures: dict[str, Picture], shown: dict[str, present.Table]) -> list[Section]:
    """The page's parts, in order; those that would be empty are left out."""
    from .page import Section

    scored = not results.recovery.empty
    summary = sentences(results.aggregate, results.pairwise, results.mismatch) if scored else [_nothing_scored(results)]
    without = len(results.failures)
    if without:
        summary.append(f"{without} of {len(results.records)} cells have no result; the reasons are listed below.")
    found = [Section("summary", "Summary", tuple(summary))]
    if scored:
        found.append(Section("recovery", "Recovery", (), (pictures["auc_by_method"],), (shown["leaderboard"],)))
        found.append(
            Section("curves", "Curves", (), (pictures["roc"], pictures["precision_recall"], pictures["true_size"]))
        )
        found.append(Section("cost", "Cost", (), (pictures["cost"],)))
        if len(ordered_ablations(results.mismatch["truth_ablation"])) > 1:
            text = (
                "An edge that one ablation needs another may not: which circuit is true depends on how edges are cut."
            )
            found.append(Section("mismatch", "Truth mismatch", (text,), (pictures["mismatch"],), (shown["mismatch"],)))
        found.append(Section("programs", "Programs", (), (), (shown["programs"],)))
        if shown["comparisons"].rows:
            found.append(Section("tests", "Tests", (), (), (shown["comparisons"],)))
    if without:
        found.append(Section("failures", "No result", (), (), (shown["failures"],)))
    if results.store.damaged:
        damaged = (f"{key}: {reason}" for key, reason in sorted(results.store.damaged.items()))
        text = (
            "These cells are not what was written and are left out of everything above; the next run replaces them.",
            *damaged,
        )
        found.append(Section("damaged", "Damaged cells", text))
    if results.records:
        found.append(Section("provenance", "Provenance", (), (), (shown["provenance"],)))
    return found


def _nothing_scored(results: Results) -> str:
    if not results.records:
        return "This store holds no cells yet: run a benchmark into it and report again."
    if len(results.failures) == len(results.records):
        return "No cell of this store has a result: all of them failed or are undefined."
    return "No cell of this store could be scored: none of its tasks has a known circuit."
