"""Evaluations of a store -> circuits of rules that find their own size: how large, how true, how faithful they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from ...suite.scoring.bootstrap import interval
from ...suite.store.record import EvaluationRecord, Record
from .counted import newest_last
from .labels import ordered_ablations, ordered_labels
from .tables import CELL_COLUMNS, GroupedRows, cell_columns, row_groups

RULE_MEANINGS = {
    "confident": "the 95 % bootstrap interval excludes 0",
    "null": "above what random signs give any edge",
}
"""Sizes that are rules, and which edges they keep."""

SELECTED_NUMBERS = ("share", "precision", "recall", "faithfulness")


def selected_table(
    records: Sequence[Record], evaluations: Iterable[EvaluationRecord], usual: pd.DataFrame
) -> pd.DataFrame:
    """One row per ablation, label and rule: medians over programs with 95 % bootstrap intervals over them.

    Args:
        records: the cells to report; evaluations of others are left out.
        evaluations: those that count; of several of a cell, the newest.
        usual: ``evaluations.usual(...)``, of which the faithfulness under the cell's own ablation is taken.
    Returns ``share`` (of the graph's edges), ``precision`` and ``recall`` against the certified circuit, where there is
    one, and ``faithfulness``, each with ``_low`` and ``_high``; ``n_programs``.
    """
    cells = dict(zip((record.key for record in records), zip(cell_columns(records), records, strict=True), strict=True))
    own = usual[(usual["ablation"] == usual["evaluation_ablation"]) & usual["size"].isin(RULE_MEANINGS)]
    faithful = own.set_index(["key", "size"])["faithfulness"]
    faithful = faithful[~faithful.index.duplicated(keep="last")]
    rows = []
    for found in newest_last(evaluations):
        if not found.done or found.identity.cell not in cells:
            continue
        cell, record = cells[found.identity.cell]
        for circuit in found.circuits:
            if circuit.size in RULE_MEANINGS and record.n_edges:
                numbers: dict[str, Any] = {"share": circuit.n_edges / record.n_edges}
                numbers["faithfulness"] = faithful.get((cell.key, circuit.size))
                if circuit.recovery is not None:
                    numbers |= {"precision": circuit.recovery.precision, "recall": circuit.recovery.recall}
                rows.append({**cell._asdict(), "rule": circuit.size, **numbers})
    table = pd.DataFrame(rows, columns=[*CELL_COLUMNS, "rule", *SELECTED_NUMBERS])
    table = table.drop_duplicates(["key", "rule"], keep="last").astype({name: float for name in SELECTED_NUMBERS})
    places = {"ablation": ordered_ablations, "label": ordered_labels}
    ranks = {name: {value: i for i, value in enumerate(order(table[name]))} for name, order in places.items()}
    table = table.sort_values(
        ["ablation", "label", "rule", "task", "key"],
        kind="stable",
        key=lambda column: column.map(ranks.get(column.name, lambda x: x)),
    )
    runs, summed = GroupedRows(table, list(SELECTED_NUMBERS)), []
    for (ablation, label, rule), rows_of in row_groups(table, ["ablation", "label", "rule"]):
        row: dict[str, Any] = {"ablation": ablation, "label": label, "rule": rule}
        programs = runs.by_program(rows_of)
        for column, name in enumerate(SELECTED_NUMBERS):
            over = interval({program: values[:, column] for program, values in programs.items()})
            row |= {name: over.estimate, f"{name}_low": over.low, f"{name}_high": over.high}
        summed.append(row | {"n_programs": len(programs)})
    ends = [f"{name}{end}" for name in SELECTED_NUMBERS for end in ("", "_low", "_high")]
    return pd.DataFrame(summed, columns=["ablation", "label", "rule", *ends, "n_programs"])
