"""Evaluations of a store -> tidy tables: how faithful each circuit is under each setting, and areas over circuit size.

What a method found under one ablation is evaluated under every other, so two ablations stand in a row: ``ablation``,
with which the circuit was found, and ``evaluation_ablation``, with which it was measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ...suite.intervention.levels import FACTORS, USUAL_LEVELS
from ...suite.scoring.bootstrap import interval
from ...suite.scoring.published import cpr
from ...suite.store.record import OWN_SIZES, EvaluatedCircuit, EvaluationRecord, Record, SettingRow
from .counted import rows_that_count
from .labels import ordered_ablations, ordered_labels, ordered_objectives, program_of
from .tables import CELL_COLUMNS, CellColumns, GroupedRows, cell_columns, row_groups

FACTOR_COLUMNS = {"ablation": "evaluation_ablation", "objective": "evaluation_objective"}
"""Factors of the ablation grid that are called otherwise here: the cell has an ablation and an objective of its own."""

USUAL = {**USUAL_LEVELS, "selection": "top-n"}
"""The levels that are shown where only one can be."""

SETTING_COLUMNS = ["evaluation_ablation", *list(USUAL)[:5], "evaluation_objective", *list(USUAL)[5:]]
MEASURED = ["full", "nothing", "value", "faithfulness", "uncertain"]
_COLUMNS = [
    *CELL_COLUMNS,
    *SETTING_COLUMNS,
    "split",
    "prompts",
    "size",
    "circuit_label",
    "circuit_edges",
    "undefined",
    *MEASURED,
]
_GROUP = ["label", "ablation", "evaluation_ablation", "size"]


def evaluation_table(records: Sequence[Record], evaluations: Iterable[EvaluationRecord]) -> pd.DataFrame:
    """One row per evaluated circuit and setting.

    Args:
        records: the cells to report; evaluations of others are left out.
        evaluations: those that count (``Results.evaluations``). Where several hold the same circuit under the same
            setting, the newest counts, and circuits of one cell under one setting are all measured as it measures them
            (``counted.rows_that_count``).
    Returns the cell's identity, the levels of the setting (``evaluation_ablation``, ``evaluation_objective``, ``set``,
    ...), ``size`` as it was asked for (``true``, ``native``, or a fraction of the edges, as text), ``circuit_edges``,
    ``undefined`` (why the setting has no meaning there, or None), the full model's value, that of ``nothing``, the
    circuit's, its ``faithfulness`` (1: the full model; NaN: not defined), ``uncertain``.
    """
    cells = {cell.key: cell for cell in cell_columns(records)}
    columns: dict[str, list] = {name: [] for name in _COLUMNS}
    for found, row in rows_that_count(found for found in evaluations if found.identity.cell in cells):
        _add(columns, cells[found.identity.cell], found, row)
    table = pd.DataFrame(columns, columns=_COLUMNS)
    which = ["key", *SETTING_COLUMNS, "size", "circuit_label"]
    return _in_order(table.drop_duplicates(which, keep="last"))


def _add(columns: dict[str, list], cell: CellColumns, found: EvaluationRecord, row: SettingRow) -> None:
    """Adds the circuits of a row, column by column, because stores hold hundreds of thousands of them."""
    circuits = found.circuits
    nothing = (None,) * len(circuits)
    each: dict[str, Sequence[str | int | float | None]] = {
        "size": [str(circuit.size) for circuit in circuits],
        "circuit_label": [_note(circuit) for circuit in circuits],
        "circuit_edges": [circuit.n_edges for circuit in circuits],
        "value": row.values or nothing,
        "faithfulness": row.faithfulness or nothing,
    }
    same = {**cell._asdict(), "selection": found.identity.selection, "split": found.split, "prompts": found.prompts}
    same |= _levels(row.setting) | {name: getattr(row, name) for name in ("undefined", "full", "nothing", "uncertain")}
    for name, values in columns.items():
        values.extend(each[name] if name in each else [same[name]] * len(circuits))


def _note(circuit: EvaluatedCircuit) -> str:
    """What tells a circuit from others of its cell and size."""
    return ", ".join(f"{name}={value}" for name, value in circuit.label.items())


def template_table(records: Sequence[Record], evaluations: Iterable[EvaluationRecord]) -> pd.DataFrame:
    """One row per evaluated circuit, setting and template of prompts: the faithfulness on that template's prompts.

    The rows are of evaluations with ``by_template``, of which the newest counts as in ``evaluation_table``. The columns
    are those of ``evaluation_table`` and ``template``, a number.
    """
    cells = {cell.key: cell for cell in cell_columns(records)}
    told = [found for found in evaluations if found.identity.cell in cells and any(r.by_template for r in found.rows)]
    rows = []
    for found, row in rows_that_count(told):
        same = {**cells[found.identity.cell]._asdict(), "selection": found.identity.selection, "split": found.split}
        same |= _levels(row.setting)
        for number, values in row.by_template.items():
            for circuit, value in zip(found.circuits, values, strict=True):
                of_circuit = {"size": str(circuit.size), "circuit_label": _note(circuit)}
                numbers = {"circuit_edges": circuit.n_edges, "template": int(number), "faithfulness": value}
                rows.append({**same, **of_circuit, **numbers})
    of_circuits = ["size", "circuit_label", "circuit_edges", "template", "faithfulness"]
    table = pd.DataFrame(rows, columns=[*CELL_COLUMNS, *SETTING_COLUMNS, "split", *of_circuits])
    which = ["key", *SETTING_COLUMNS, "size", "circuit_label", "template"]
    return table.drop_duplicates(which, keep="last", ignore_index=True).astype({"faithfulness": float})


_PARSED: dict[str, dict[str, str]] = {}


def _levels(text: str) -> dict[str, str]:
    """Column -> level, of a setting as it prints."""
    if text not in _PARSED:
        from ...suite.intervention.setting import Setting

        setting = Setting.parse(text)
        _PARSED[text] = {FACTOR_COLUMNS.get(factor, factor): setting.level(factor) for factor in FACTORS}
    return _PARSED[text]


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Rows in an order that does not depend on the order of keys."""
    table = table.astype({name: float for name in ("full", "nothing", "value", "faithfulness", "circuit_edges")})
    orders = {"ablation": ordered_ablations, "evaluation_ablation": ordered_ablations, "label": ordered_labels}
    orders |= {"size": ordered_sizes, "evaluation_objective": ordered_objectives}
    places = {name: {value: i for i, value in enumerate(order(table[name]))} for name, order in orders.items()}
    keys = ["ablation", "label", "task", "seed", "key", *SETTING_COLUMNS, "size", "circuit_edges", "circuit_label"]
    return table.sort_values(
        keys, kind="stable", na_position="first", key=lambda column: column.map(places.get(column.name, lambda x: x))
    ).reset_index(drop=True)


def ordered_sizes(sizes: Iterable[str]) -> list[str]:
    """``true`` first, then fractions by size, then circuits that have their own."""

    def place(size: str) -> tuple[int, float]:
        if size in OWN_SIZES:
            return 2, OWN_SIZES.index(size)
        return (0, 0.0) if size == "true" else (1, float(size))

    return sorted(set(sizes), key=place)


def measured_on(evaluated: pd.DataFrame) -> str:
    """What medians are over, in words: ``3 prompts of prompts.jsonl`` of one task, or ``6 tasks``.

    Args:
        evaluated: ``evaluation_table``.
    """
    tasks = sorted(set(evaluated["task"].map(program_of)))
    if len(tasks) != 1:
        return f"{len(tasks)} tasks"
    numbers = [int(number) for number in evaluated["prompts"].dropna().unique()]
    one = "1 prompt" if numbers == [1] else f"{numbers[0]} prompts" if len(numbers) == 1 else "the prompts"
    return f"{one} of {tasks[0]}"


def usual(evaluated: pd.DataFrame) -> pd.DataFrame:
    """The rows that differ in ablations, sizes and cells only: every other factor is at its usual level.

    If the usual level was not evaluated, the first of the others takes its place. Of several objectives, that of a task
    is the first in the order of ``labels.ordered_objectives``.
    """
    for factor, level in USUAL.items():
        if len(evaluated):
            present = sorted(evaluated[factor].unique())
            evaluated = evaluated[evaluated[factor] == (level if level in present else present[0])]
    chosen = {
        task: ordered_objectives(rows["evaluation_objective"])[0] for task, rows in evaluated.groupby("task", sort=True)
    }
    return evaluated[evaluated["evaluation_objective"] == evaluated["task"].map(chosen)]


def faithfulness_table(evaluated: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """One row per label, discovery ablation, evaluation ablation and size: the median faithfulness over programs.

    Args:
        evaluated: ``usual(evaluation_table(...))``.
    Returns ``faithfulness`` with a 95 % bootstrap interval over programs (``_low``, ``_high``), ``share`` (the size as
    a fraction of the edges; NaN for ``true``), ``n_programs``, and ``state``: ``defined``, ``undefined`` (the setting
    has no meaning), or ``no number`` (the setting has a meaning, but the faithfulness is nowhere defined, because the
    full model does no more than the reference).
    """
    rows = []
    sized = evaluated[~evaluated["size"].isin(OWN_SIZES)]
    runs, has_reason = GroupedRows(sized, ["faithfulness"]), sized["undefined"].notna().to_numpy()
    for key, places in row_groups(sized, _GROUP):
        found = interval({name: of_one[:, 0] for name, of_one in runs.by_program(places).items()}, seed=seed)
        meaningless = has_reason[places].all()
        state = "defined" if found.n else "undefined" if meaningless else "no number"
        ends = {"faithfulness": found.estimate, "faithfulness_low": found.low, "faithfulness_high": found.high}
        share = float("nan") if key[3] == "true" else float(key[3])
        counted = {"share": share, **ends, "n_programs": found.n, "state": state}
        rows.append(dict(zip(_GROUP, key, strict=True)) | counted)
    columns = [*_GROUP, "share", "faithfulness", "faithfulness_low", "faithfulness_high", "n_programs", "state"]
    return pd.DataFrame(rows, columns=columns)


def area_table(evaluated: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """One row per label, discovery ablation and evaluation ablation: areas over circuit size, if there are several.

    CPR and CMD of MIB (arXiv 2504.13151) over the fractions that were evaluated, and the same over the logarithm of the
    size; medians over programs with 95 % bootstrap intervals. ``sizes`` says over which fractions.
    """
    fractions = evaluated[~evaluated["size"].isin(["true", *OWN_SIZES]) & evaluated["faithfulness"].notna()]
    measures = ("cpr", "cmd", "cpr_log", "cmd_log")
    rows = []
    curves = fractions.pivot_table(index=[*_GROUP[:3], "program", "key"], columns="size", values="faithfulness")
    names = sorted(curves.columns, key=float)
    curves = curves[names].reset_index()
    heights, programs = curves[names].to_numpy(dtype=np.float64), curves["program"].to_numpy(dtype=object)
    first = {key: i for i, (key, _) in enumerate(row_groups(fractions, _GROUP[:3]))}
    for key, places in sorted(row_groups(curves, _GROUP[:3]), key=lambda group: first[group[0]]):
        measured = ~np.isnan(heights[places]).all(axis=0)
        sizes = [float(name) for name, there in zip(names, measured, strict=True) if there]
        if len(sizes) < 2:
            continue
        of_group = heights[places][:, measured]
        whole = ~np.isnan(of_group).any(axis=1)  # an area over fewer sizes is another measure
        row: dict[str, Any] = dict(zip(_GROUP[:3], key, strict=True)) | {
            "sizes": " ".join(f"{size:g}" for size in sizes)
        }
        for name, areas in zip(measures, _areas(sizes, of_group[whole]), strict=True):
            values: dict[str, list[float]] = {}
            for program, area in zip(programs[places][whole], areas, strict=True):
                values.setdefault(program, []).append(area)
            found = interval(values, seed=seed)
            row |= {name: found.estimate, f"{name}_low": found.low, f"{name}_high": found.high, "n_programs": found.n}
        rows.append(row)
    ends = [f"{name}{end}" for name in measures for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=[*_GROUP[:3], "sizes", *ends, "n_programs"])


def _areas(sizes: Sequence[float], heights: np.ndarray) -> tuple[np.ndarray, ...]:
    """CPR, CMD and both over log size of curves [n_curves, n_sizes]: float64 [n_curves] each.

    An area is linear in the heights. The area of a curve that is 1 at one size and 0 elsewhere is therefore the weight
    of that size.
    """
    weights = [np.array([cpr(sizes, unit, log=log) for unit in np.eye(len(sizes))]) for log in (False, True)]
    return tuple(curves @ weight for weight in weights for curves in (heights, np.abs(1 - heights)))
