"""Writes the report of a store: one page, the tables in three formats, the figures in three formats. Needs no GPU.

Everything comes from the store, and the same store gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ..suite.errors import StoreError
from . import markup, present, tables
from .dependence import dependence
from .labels import ordered_ablations
from .leaderboard import leaderboard_json
from .results import Results, current, read
from .sensitivity import THRESHOLD
from .sensitivity_words import in_words
from .stores import Stores
from .verdict import sentences

if TYPE_CHECKING:
    from .gallery import Drawn
    from .page import Picture, Section
    from .viewer import Circuits


def write_report(store_path: str | Path, out: str | Path | None = None, *others: str | Path) -> Path:
    """Writes ``report.html``, ``leaderboard.json``, ``tables/`` (CSV, Markdown, LaTeX), ``figures/`` (PDF, SVG, PNG).

    Args:
        store_path: the store to report.
        out: the folder to write to; the store's own when None.
        others: more stores, reported together with the first.
    Returns the path of ``report.html``.
    Raises StoreError when the store cannot be read or the folder cannot be written.
    """
    from .gallery import gallery
    from .page import page
    from .viewer import circuits_of

    results = read(store_path, *others)
    folder = Path(store_path if out is None else out)
    drawn, curves = gallery(results)
    try:
        pictures = write_figures(folder / "figures", drawn)
        shown = _write_tables(folder / "tables", results, curves)
        circuits = circuits_of(results.store, results.recovery)
        sections = _sections(results, pictures, shown, circuits)
        html = page(_title(results.store), _facts(results), sections, circuits.json if circuits.shown else "")
        (folder / "leaderboard.json").write_text(leaderboard_json(results), encoding="utf-8")
        path = folder / "report.html"
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"cannot write the report to {folder}: {error.strerror or error}; name another folder with --out."
        ) from error
    return path


def summary_table(store_path: str | Path) -> str:
    """The result in plain text: method by ablation, median area with its interval, exact recoveries, seconds."""
    records, _ = current(Stores([store_path]))
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


def _title(store: Stores) -> str:
    names = ", ".join(store.benchmarks()) or ", ".join(sorted(part.path.resolve().name for part in store.stores))
    return f"CircuitMeter: {names}"


def _facts(results: Results) -> list[str]:
    """What the store holds, in a few numbers."""
    done = sum(record["status"] == "done" for record in results.records)
    facts = [f"{len(results.store.stores)} stores"] * (len(results.store.stores) > 1)
    facts += [f"{len(results.records)} cells", f"{done} done"]
    kinds = results.failures.loc[results.failures["kind"] != "damaged", "kind"].value_counts()
    undefined = int(kinds.get("undefined", 0))
    facts += [f"{undefined} undefined"] if undefined else []
    facts += [f"{int(kinds.sum()) - undefined} failed"] if kinds.sum() > undefined else []
    asked = {key for benchmark in results.store.benchmarks().values() for key in benchmark.get("cells", ())}
    missing = len(asked - {record["key"] for record in results.records})
    facts += [f"{missing} not run yet"] if missing else []
    for contents in results.store.benchmarks().values():
        facts += [f"{model['combinations']} not run on {model['model']}" for model in contents.get("not_run", ())]
    facts += [f"{results.superseded} outdated, left out"] if results.superseded else []
    facts += [f"{len(results.store.damaged)} damaged"] if results.store.damaged else []
    for column, word in (("task", "task"), ("label", "method"), ("ablation", "ablation")):
        n = results.recovery[column].nunique()
        facts += [f"{n} {word}{'s' * (n != 1)}"] if n else []
    return facts


def write_figures(folder: Path, drawn: dict[str, Drawn]) -> dict[str, Picture]:
    """Writes each figure as PDF, SVG and PNG; returns what the page shows of them."""
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
        present.evaluations(results.faithfulness),
        present.areas(results.areas),
        present.sensitivity(results.sensitivity.table, THRESHOLD),
        present.comparisons(results.pairwise),
        present.failures(results.failures),
        present.benchmarks(results.store.benchmarks(), {record["key"]: record["status"] for record in results.records}),
        present.provenance(origin),
    ]
    for table in shown:
        (folder / f"{table.name}.md").write_text(markup.markdown(table), encoding="utf-8")
        (folder / f"{table.name}.tex").write_text(markup.latex(table), encoding="utf-8")
    return {table.name: table for table in shown}


def _sections(
    results: Results, pictures: dict[str, Picture], shown: dict[str, present.Table], circuits: Circuits
) -> list[Section]:
    """The page's parts, in order; those that would be empty are left out."""
    from .page import Section

    scored = not results.recovery.empty
    summary = sentences(results.aggregate, results.pairwise, results.mismatch) if scored else [_nothing_scored(results)]
    summary += [text] if (text := dependence(results.faithfulness)) else []
    without = sum(record["status"] != "done" for record in results.records)
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
    if len(results.faithfulness):
        text = (
            "A circuit is faithful when the model without the rest still does what it did; what is put in place of the "
            "rest is the analyst's choice."
        )
        names = [name for name in ("evaluation", "faithfulness") if name in pictures]
        listed = [shown[name] for name in ("faithfulness", "areas") if shown[name].rows]
        drawn = tuple(pictures[name] for name in names)
        found.append(Section("faithfulness", "Faithfulness", (text,), drawn, tuple(listed)))
    if "sensitivity" in pictures:
        text = in_words(results.sensitivity)
        found.append(Section("sensitivity", "Sensitivity", text, (pictures["sensitivity"],), (shown["sensitivity"],)))
    if circuits.shown:
        text = (
            "What a method's best edges have in common with the true circuit of its ablation. The slider says how many "
            "edges; it starts at the true size. Point at an edge or a node, or reach it with the Tab key, to see names "
            "and scores. Layers from bottom to top; q, k and v enter a head at its left, middle and right.",
        )
        if circuits.shown < circuits.of:
            text += (
                f"The first {circuits.shown} of {circuits.of} pairs of task and ablation: more would slow the page.",
            )
        found.append(Section("circuits", "Circuits", text))
    if scored:
        found.append(Section("programs", "Programs", (), (), (shown["programs"], shown["runs"])))
        if shown["comparisons"].rows:
            found.append(Section("tests", "Tests", (), (), (shown["comparisons"],)))
    absent = _not_run(results)
    if len(results.failures) or absent:
        listed = (shown["failures"],) if len(results.failures) else ()
        found.append(Section("failures", "No result", absent, (), listed))
    if results.store.damaged:
        damaged = (f"{key}: {reason}" for key, reason in sorted(results.store.damaged.items()))
        text = (
            "These cells are not what was written and are left out of everything above; the next run replaces them.",
            *damaged,
        )
        found.append(Section("damaged", "Damaged cells", text))
    if results.records:
        listed = [shown[name] for name in ("benchmarks", "provenance") if shown[name].rows]
        found.append(Section("provenance", "Provenance", (), (), tuple(listed)))
    return found


def _not_run(results: Results) -> tuple[str, ...]:
    """A sentence for each model that a benchmark was not run on because it was not on the machine."""
    benchmarks = results.store.benchmarks().items()
    return tuple(
        f"{name} was not run on {model['model']} ({model['combinations']} cells): {model['reason']}"
        for name, contents in benchmarks
        for model in contents.get("not_run", ())
    )


def _nothing_scored(results: Results) -> str:
    if not results.records:
        return "This store holds no cells yet: run a benchmark into it and report again."
    if all(record["status"] != "done" for record in results.records):
        return "No cell of this store has a result: all of them failed or are undefined."
    return "No cell of this store could be scored: none of its tasks has a known circuit."
