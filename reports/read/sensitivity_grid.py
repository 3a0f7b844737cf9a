"""The input of a store's sensitivity card: faithfulness by program and setting, of circuits of one size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from ...suite.store.record import OWN_SIZES
from .evaluations import FACTOR_COLUMNS, SETTING_COLUMNS, ordered_sizes
from .labels import ordered_ablations, ordered_objectives
from .tables import GroupedRows, row_groups


class ProgramGrid(NamedTuple):
    """One method's circuits found under one ablation: their faithfulness by program (down) and setting (across)."""

    label: str
    ablation: str
    settings: tuple[tuple[str, ...], ...]
    values: np.ndarray
    """float64 [n_programs, n_settings], NaN where undefined."""


def comparable(evaluated: pd.DataFrame) -> tuple[list[str], pd.DataFrame, str]:
    """(factors that vary, as columns; the rows of one size with faithfulness or, of a cut circuit, 1 less it; size)."""
    rows = evaluated[~evaluated["size"].isin(OWN_SIZES)]
    if rows.empty:
        return [], rows, ""
    size = ordered_sizes(rows["size"])[0]
    rows = rows[rows["size"] == size]
    of_task = {task: frozenset(names) for task, names in rows.groupby("task")["evaluation_objective"].unique().items()}
    if len(set(of_task.values())) > 1:  # tasks have different objectives: the first of each task is kept
        first = {task: ordered_objectives(names)[0] for task, names in of_task.items()}
        rows = rows[rows["evaluation_objective"] == rows["task"].map(first)].assign(evaluation_objective="the task's")
    rows = rows.assign(faithfulness=rows["faithfulness"].where(rows["set"] != "circuit", 1 - rows["faithfulness"]))
    rows = rows[rows["faithfulness"].notna()]
    return [name for name in SETTING_COLUMNS if rows[name].nunique() > 1], rows, size


def grids(rows: pd.DataFrame, factors: Sequence[str]) -> list[ProgramGrid]:
    """The grids with two settings and two programs at least."""
    found = []
    faithful = GroupedRows(rows, ["faithfulness"])
    levels = rows[list(factors)].to_numpy(dtype=object)
    for (label, ablation), places in row_groups(rows, ["label", "ablation"]):
        columns: dict[tuple[str, ...], dict[str, float]] = {}
        for setting in dict.fromkeys(map(tuple, levels[places])):
            here = places[(levels[places] == np.array(setting, dtype=object)).all(axis=1)]
            columns[setting] = {name: float(runs.mean()) for name, runs in faithful.by_program(here).items()}
        programs = sorted({name for column in columns.values() for name in column})
        # A median over the few programs for which a setting has a meaning is another measure.
        columns = {key: column for key, column in columns.items() if 2 * len(column) >= max(4, len(programs))}
        if len(columns) > 1:
            settings = _ordered(tuple(columns))
            values = [[columns[setting].get(name, float("nan")) for setting in settings] for name in programs]
            found.append(ProgramGrid(label, ablation, settings, np.array(values)))
    return found


def _ordered(settings: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    ablations = {
        name: f"{i:03}" for i, name in enumerate(ordered_ablations(level for row in settings for level in row))
    }
    return tuple(sorted(settings, key=lambda row: [ablations[level] for level in row]))


def factor_of(column: str) -> str:
    """The card's name for a column."""
    return {called: factor for factor, called in FACTOR_COLUMNS.items()}.get(column, column)
