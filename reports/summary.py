"""The result of a store in plain text, for the end of a run. Needs neither torch nor matplotlib."""

from __future__ import annotations

from pathlib import Path

from .page.plain_text import text_table
from .page.table import amount, count, number, share_text, with_interval, without_result
from .read.ranking import best_of
from .read.results import Results, read_results

ONE_TASK = (
    "Of one task there is no interval over tasks; `circuitmeter sensitivity CIRCUIT.json` has those over prompts."
)
_COLUMNS = ("AUC, median [95 %]", "programs", "exact", "seconds")


def _size(size: str) -> str:
    return share_text(float(size)) if size[:1].isdigit() else size


def _faithfulness(results: Results) -> list[str]:
    """Method by ablation: the faithfulness of circuits of each size, under the ablation of their search."""
    table = results.faithfulness
    own = table[table["ablation"] == table["evaluation_ablation"]] if len(table) else table
    if own.empty:
        return []
    sizes, one = list(dict.fromkeys(own["size"])), bool(own["n_programs"].max() == 1)
    rows = []
    for (label, ablation), group in own.groupby(["label", "ablation"], sort=False):
        values = dict(zip(group["size"], group["faithfulness"], strict=True))
        tasks = () if one else (count(group["n_programs"].max()),)
        rows.append((f"  {label}", str(ablation), *(number(values.get(size)) for size in sizes), *tasks))
    heads = ("  method", "ablation", *map(_size, sizes), *(["tasks"] * (not one)))
    right = (False, False, *[True] * (len(heads) - 2))
    about = (
        f"{'Faithfulness on' if one else 'Median faithfulness over'} {results.measured_on}, by the size of circuits "
    )
    about += "that were found and evaluated under one ablation:"
    scale = "1: the whole model, 0: everything cut."
    scale += f" {ONE_TASK}" * one
    return [about, "", text_table(heads, rows, right), "", scale]


def summary_table(store_path: str | Path) -> str:
    """Method by ablation: median area with its interval, exact recoveries, seconds."""
    results = read_results(store_path)
    records, aggregate = results.records, results.aggregate
    warning = [results.warning] if results.warning else []
    lacking = without_result([record.kind for record in records])
    if aggregate.empty:
        measured = _faithfulness(results)
        counts = f"({count(len(records))} cells{f', of which {lacking}' if lacking else ''})"
        if not records or any(record.identity.truth for record in records):
            return "\n".join([*measured, f"No cell has been scored against a known circuit yet {counts}.", *warning])
        text = f"No task of this benchmark has a known circuit {counts}, so no method is scored against one."
        return "\n".join([*measured, text, *warning])
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
    lines += [f"Of {count(len(records))} cells {lacking}; the report says why."] if lacking else []
    return "\n".join([*lines, *warning])
