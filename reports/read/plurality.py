"""Which of several minimal circuits methods find: a row a finished cell whose truth has them all listed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from ...suite.scoring.bootstrap import interval
from .labels import ORACLE, ordered_ablations, ordered_labels
from .tables import CELL_COLUMNS, cell_columns

if TYPE_CHECKING:
    from ...suite.store.record import Record, RecordedPlurality

OUTCOMES = ("minimal", "superset", "chimera", "miss")
"""The outcomes of a search that avoids nothing."""

SECOND_OUTCOMES = ("another", "both", "the same", "chimera", "miss")
"""The outcomes of a search that was to avoid one of the minimal circuits."""


def outcome_of(found: RecordedPlurality) -> str:
    """One of ``OUTCOMES`` or, when a minimal circuit was to be avoided, of ``SECOND_OUTCOMES``. A circuit that contains
    another minimal circuit and not the avoided one is ``another``, whatever else it contains.
    """
    if found.avoided is None or not found.contains:
        return found.verdict
    if found.contains == (found.avoided,):
        return "the same"
    return "both" if found.avoided in found.contains else "another"


def plurality_cells(records: Sequence[Record]) -> pd.DataFrame:
    """One row a finished cell, judged by the minimal circuits under its own ablation.

    Columns beside a cell's: ``minimal_circuits``, how many there are; ``n_edges`` of the circuit that was judged;
    ``avoids``, whether one of them was to be avoided; ``outcome``. A cell that was to avoid something else is left
    out, and so is the method that is given the answer.
    """
    rows = []
    for record, columns in zip(records, cell_columns(records), strict=True):
        found = record.plurality.get(columns.ablation)
        if not record.done or found is None or columns.method == ORACLE:
            continue
        if record.identity.parameters.get("avoid") and found.avoided is None:
            continue
        sizes = {"minimal_circuits": found.minimal_circuits, "n_edges": found.n_edges}
        rows.append({**columns._asdict(), **sizes, "avoids": found.avoided is not None, "outcome": outcome_of(found)})
    return pd.DataFrame(rows, columns=[*CELL_COLUMNS, "minimal_circuits", "n_edges", "avoids", "outcome"])


def plurality_shares(cells: pd.DataFrame) -> pd.DataFrame:
    """One row a label, ablation, ``avoids`` and ``several`` (whether there is more than one minimal circuit).

    Columns: the share of runs with each outcome; ``right``, with ``right_low`` and ``right_high``: the share with the
    best outcome, mean over programs, with its 95 % bootstrap interval over programs; ``n_programs``, ``n_cells``. The
    best outcome is a minimal circuit or, when one was to be avoided, another one; if there is no other, the avoided
    one.
    """
    every = list(dict.fromkeys((*OUTCOMES, *SECOND_OUTCOMES)))
    rows = []
    several = cells.assign(several=cells["minimal_circuits"] > 1)
    for (label, ablation, avoids, more), group in several.groupby(["label", "ablation", "avoids", "several"]):
        best = ("another" if more else "the same") if avoids else "minimal"
        by_program = {name: (own["outcome"] == best).astype(float) for name, own in group.groupby("program")}
        share = interval(by_program, statistic="mean")
        row: dict[str, Any] = {"label": label, "ablation": ablation, "avoids": avoids, "several": more}
        row |= {name: float((group["outcome"] == name).mean()) for name in every}
        row |= {"right": share.estimate, "right_low": share.low, "right_high": share.high}
        rows.append(row | {"n_programs": share.n, "n_cells": len(group)})
    columns = ["label", "ablation", "avoids", "several", *every, "right", "right_low", "right_high"]
    table = pd.DataFrame(rows, columns=[*columns, "n_programs", "n_cells"])
    rank = {label: i for i, label in enumerate(ordered_labels(table["label"]))}
    place = {ablation: i for i, ablation in enumerate(ordered_ablations(table["ablation"]))}
    order = table.assign(label=table["label"].map(rank), ablation=table["ablation"].map(place))
    keys = ["avoids", "several", "label", "ablation"]
    return table.loc[order.sort_values(keys, ascending=[True, False, True, True]).index].reset_index(drop=True)
