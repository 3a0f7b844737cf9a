"""Cells that have no result, and why."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ...suite.store.record import Record
from ..page.table import Table, count, count_cell, text_cell, without_result
from ..read.labels import ordered_ablations
from ..read.results import Results
from .chapter import Chapter, chapter


@chapter
class FailuresChapter(Chapter):
    """Cells that failed or have no meaning, models that were not there, and cells that were damaged."""

    name, title, order = "failures", "No result", 80
    of_circuits = False

    def tables(self, results: Results) -> Sequence[Table]:
        return (failures(results.failures),)

    def words(self, results: Results) -> Sequence[str]:
        texts = _not_run(results)
        if results.store.damaged:
            texts.append(
                "These cells are not what was written and are left out of everything above; the next run replaces them."
            )
            texts += [f"{key}: {reason}" for key, reason in sorted(results.store.damaged.items())]
        return texts

    def summary(self, results: Results) -> Sequence[str]:
        return () if (text := without_a_result(results.records)) is None else (text,)


def without_a_result(records: Sequence[Record]) -> str | None:
    """How many cells have no meaning and how many failed, in a sentence; ``None`` where every cell has a result."""
    lacking = without_result([record.kind for record in records])
    where = f"the chapter “{FailuresChapter.title}” has the reasons"
    return f"Of {count(len(records))} cells {lacking}; {where}." if lacking else None


def _not_run(results: Results) -> list[str]:
    """A sentence for each model that a benchmark was not run on because it was not on the machine."""
    return [
        f"{name} was not run on {model.model} ({model.combinations} cells): {model.reason}"
        for name, benchmark in results.store.benchmarks().items()
        for model in benchmark.not_run
    ]


def failures(table: pd.DataFrame) -> Table:
    """Cells without a result, and why; those of a method without one for the same reason share a row."""
    rows = []
    keys = ["kind", "label", "reason"]
    for (kind, label, reason), group in table.groupby(keys, sort=True) if len(table) else ():
        ablations, tasks = ", ".join(ordered_ablations(group["ablation"])), ", ".join(sorted(set(group["task"])))
        words = [text_cell(text) for text in (kind, label, ablations)]
        rows.append((*words, count_cell(len(group)), text_cell(reason), text_cell(tasks)))
    return Table(
        "failures",
        "Cells without a result",
        "Undefined: the combination has no meaning. All others went wrong; run again with --retry-failed.",
        ("Kind", "Method", "Ablations", "Cells", "Reason", "Tasks"),
        (False, False, False, True, False, False),
        tuple(rows),
        table,
    )
