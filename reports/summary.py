"""The result of a store in plain text, for the end of a run. Needs neither torch nor matplotlib."""

from __future__ import annotations

from pathlib import Path

from .page.plain_text import text_table
from .page.table import amount, count, with_interval
from .read.ranking import best_of
from .read.results import read_results

_COLUMNS = ("AUC, median [95 %]", "programs", "exact", "seconds")


def summary_table(store_path: str | Path) -> str:
    """Method by ablation: median area with its interval, exact recoveries, seconds."""
    results = read_results(store_path)
    records, aggregate = results.records, results.aggregate
    failed = sum(not record.done for record in records)
    warning = [results.warning] if results.warning else []
    if aggregate.empty:
        n = len(records)
        text = f"No cell has been scored against a known circuit yet ({n} cells, {failed} without a result)."
        return "\n".join([text, *warning])
    best = best_of(aggregate)
    lines = []
    for ablation, group in aggregate.groupby("ablation", sort=False):
        rows = []
        for found in group.to_dict("records"):
            area = with_interval(found["auroc"], found["auroc_low"], found["auroc_high"])
            mark = "*" if (ablation, found["label"]) in best else " "
            exact = f"{found['exact_cells']}/{found['exact_of']}"
            rows.append((f"{mark} {found['label']}", area, count(found["n_programs"]), exact, amount(found["seconds"])))
        lines.append(text_table((f"  {ablation} ablation", *_COLUMNS), rows, (False, False, True, True, True)))
        lines.append("")
    lines.append("AUC: area under the ROC curve over edges, median over programs. * best, or within its interval.")
    have = "1 cell has" if failed == 1 else f"{failed} cells have"
    lines += [f"{have} no result; the report says why."] if failed else []
    return "\n".join([*lines, *warning])
