"""The result of a store in plain text, for the end of a run. Needs neither torch nor matplotlib."""

from __future__ import annotations

from pathlib import Path

from .page.plain_text import text_table
from .page.table import amount, count, number, share_text, with_interval
from .read.ranking import best_of
from .read.results import Results, read_results

_COLUMNS = ("AUC, median [95 %]", "programs", "exact", "seconds")


def _size(size: str) -> str:
    return share_text(float(size)) if size[:1].isdigit() else size


def _faithfulness(results: Results) -> list[str]:
    """Method by ablation: the median faithfulness of circuits of each size, under the ablation of their search."""
    table = results.faithfulness
    own = table[table["ablation"] == table["evaluation_ablation"]] if len(table) else table
    if own.empty:
        return []
    sizes = list(dict.fromkeys(own["size"]))
    rows = []
    for (label, ablation), group in own.groupby(["label", "ablation"], sort=False):
        values = dict(zip(group["size"], group["faithfulness"], strict=True))
        tasks = count(group["n_programs"].max())
        rows.append((f"  {label}", str(ablation), *(number(values.get(size)) for size in sizes), tasks))
    heads = ("  method", "ablation", *map(_size, sizes), "tasks")
    right = (False, False, *[True] * (len(sizes) + 1))
    about = "Median faithfulness over tasks, by the size of circuits that were found and evaluated under one ablation:"
    return [about, "", text_table(heads, rows, right), "", "1: the whole model, 0: everything cut."]


def summary_table(store_path: str | Path) -> str:
    """Method by ablation: median area with its interval, exact recoveries, seconds."""
    results = read_results(store_path)
    records, aggregate = results.records, results.aggregate
    failed = sum(not record.done for record in records)
    warning = [results.warning] if results.warning else []
    if aggregate.empty:
        n = len(records)
        counts = f"({n} cells, {failed} without a result)"
        if not records or any(record.identity.truth for record in records):
            return "\n".join([f"No cell has been scored against a known circuit yet {counts}.", *warning])
        text = f"No task of this benchmark has a known circuit {counts}, so no method is scored against one."
        return "\n".join([text, *_faithfulness(results), *warning])
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
