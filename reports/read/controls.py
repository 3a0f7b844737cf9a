"""Evaluations of a store -> the results of controls: nulls, adversaries, exact patching."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pandas as pd

from ...suite.scoring.bootstrap import interval
from ...suite.scoring.structure.controls_found import ControlsFound
from ...suite.store.record import EvaluationRecord, Record
from .counted import newest_last
from .labels import ordered_ablations, ordered_labels
from .tables import CELL_COLUMNS, GroupedRows, cell_columns, row_groups

FAITHFULNESS = "faithfulness"
NULL_NAMES = {"reset-weights": "weights reset", "permuted-labels": "labels permuted", "nonsense": "nonsense prompts"}
"""What nulls are called in a report."""

CONTROLS = {
    FAITHFULNESS: "the whole complement cut",
    "random": "random halves of it cut",
    "worst": "the worst subset cut",
    "lost": "faithfulness that the worst subset takes beyond the whole complement",
    **{f"null {kind}": f"{words}: faithfulness" for kind, words in NULL_NAMES.items()},
    **{f"beyond {kind}": f"{words}: faithfulness beyond it" for kind, words in NULL_NAMES.items()},
    **{f"shared {kind}": f"{words}: Jaccard index beyond chance" for kind, words in NULL_NAMES.items()},
    **{f"AUC {kind}": f"{words}: AUC" for kind, words in NULL_NAMES.items()},
    "rank": "rank correlation with exact patching",
    "explained": "share of exact effects explained",
}
"""Each number by a short name, in order, and what it is."""

COLUMNS = [*CELL_COLUMNS, "control", "words", "value", "low", "high", "undefined"]


def control_table(records: Sequence[Record], evaluations: Iterable[EvaluationRecord]) -> pd.DataFrame:
    """One row per cell and number of ``CONTROLS``: ``value``, its interval if it has one, or why it is ``undefined``.

    Args:
        records: the cells to report; evaluations of others are left out.
        evaluations: those that count, of which those with controls are read; of several of a cell, the newest.
    """
    cells = {cell.key: cell for cell in cell_columns(records)}
    rows = []
    for found in newest_last(evaluations):
        if not found.done or found.controls is None or found.identity.cell not in cells:
            continue
        about = cells[found.identity.cell]._asdict()
        for name, value, low, high, why in _numbers(found.controls):
            row = {"control": name, "words": CONTROLS[name], "value": value, "low": low, "high": high}
            rows.append({**about, **row, "undefined": why})
    table = pd.DataFrame(rows, columns=COLUMNS).astype({"value": float, "low": float, "high": float})
    return _in_order(table.drop_duplicates(["key", "control"], keep="last"))


_Number = tuple[str, float | None, float | None, float | None, str | None]


def _numbers(found: ControlsFound) -> Iterator[_Number]:
    """(name, value, low, high, why it is undefined) of each number of a cell's controls."""
    if (rest := found.complement) is not None:
        yield FAITHFULNESS, rest.whole, None, None, rest.undefined
        yield "random", rest.random, rest.random_low, rest.random_high, rest.undefined
        yield "worst", rest.worst, rest.low, rest.high, rest.undefined
        lost = None if rest.whole is None or rest.worst is None else rest.whole - rest.worst
        yield "lost", lost, None, None, rest.undefined
    for kind, null in found.nulls.items():
        shared = None if null.jaccard is None or null.chance is None else null.jaccard - null.chance
        yield f"null {kind}", null.faithfulness, null.low, null.high, null.undefined
        yield f"beyond {kind}", null.beyond, null.beyond_low, null.beyond_high, null.undefined
        yield f"shared {kind}", shared, None, None, null.undefined
        yield f"AUC {kind}", null.auroc, None, None, null.undefined
    if (exact := found.exact) is not None:
        yield "rank", exact.rank, exact.rank_low, exact.rank_high, exact.undefined
        yield "explained", exact.explained, exact.explained_low, exact.explained_high, exact.undefined


def control_summary(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """One row per ablation, label and control: the median over programs with a 95 % bootstrap interval over them."""
    known = table[table["value"].notna()]
    runs, rows = GroupedRows(known, ["value"]), []
    for (ablation, label, control), places in row_groups(known, ["ablation", "label", "control"]):
        found = interval({name: of_one[:, 0] for name, of_one in runs.by_program(places).items()}, seed=seed)
        about: dict[str, Any] = {"ablation": ablation, "label": label, "control": control, "words": CONTROLS[control]}
        rows.append(about | {"value": found.estimate, "low": found.low, "high": found.high, "n_programs": found.n})
    return pd.DataFrame(rows, columns=["ablation", "label", "control", "words", "value", "low", "high", "n_programs"])


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Rows in an order that does not depend on the order of keys."""
    places = {
        "ablation": {name: i for i, name in enumerate(ordered_ablations(table["ablation"]))},
        "label": {name: i for i, name in enumerate(ordered_labels(table["label"]))},
        "control": {name: i for i, name in enumerate(CONTROLS)},
    }
    keys = ["ablation", "label", "control", "task", "model", "key"]
    return table.sort_values(
        keys, kind="stable", key=lambda column: column.map(places.get(column.name, lambda x: x))
    ).reset_index(drop=True)
