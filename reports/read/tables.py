"""Store -> tidy tables (pandas DataFrames). Everything a figure or a page shows is computed from these.

A row of the recovery table is one finished cell scored against one truth; ``own`` marks the truth of the cell's own
discovery ablation, which is what a method is judged by. The other rows are the mismatch experiment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from ...suite.json_model import Kept
from ...suite.scoring.agreement import holm, paired_test
from ...suite.scoring.bootstrap import Statistic, interval
from ...suite.store.record import CircuitRecovery, EvaluationRecord, Record
from .labels import ORACLE, method_labels, ordered_ablations, ordered_labels, program_of

COST_COLUMNS = ["seconds", "forward", "backward", "passes", "peak_memory_bytes"]
_METRICS = [
    *["auroc", "auroc_structural", "auroc_signed", "auroc_signed_structural"],
    *[
        "average_precision",
        "average_precision_structural",
        "average_precision_signed",
        "average_precision_signed_structural",
    ],
    *["true_size", "precision", "recall", "f1", "exact"],
    *["node_auroc", "node_average_precision", "pessimistic_auc", "node_pessimistic_auc", "mib_auroc"],
]


class CellColumns(NamedTuple):
    """The columns that every table has of a cell. ``program`` is the unit of intervals: a task without its variant and,
    if there are several models, the model.
    """

    key: str
    task: str
    model: str
    program: str
    method: str
    label: str
    ablation: str
    objective: str | None
    seed: int | None


CELL_COLUMNS = list(CellColumns._fields)


def cell_columns(records: Sequence[Record]) -> list[CellColumns]:
    """The identity columns of each record, with its label."""
    prompts = {record.key: record.prompts for record in records}
    labels = method_labels({record.key: record.identity for record in records}, prompts)
    models: dict[str, set[str]] = {}
    for record in records:
        models.setdefault(record.identity.task, set()).add(record.identity.model)
    return [
        CellColumns(
            key=record.key,
            task=cell.task,
            model=cell.model,
            program=program_of(cell.task) + (f" on {cell.model}" if len(models[cell.task]) > 1 else ""),
            method=cell.method,
            label=labels[record.key],
            ablation=cell.ablation,
            objective=cell.objective,
            seed=cell.seed,
        )
        for record in records
        for cell in [record.identity]
    ]


def _cost(record: Record) -> dict[str, float]:
    """Seconds, passes and bytes of a cell; ``passes`` adds forward and backward passes over one example."""
    names = ("seconds", "forward", "backward", "peak_memory_bytes")
    found = {name: _number(getattr(record.cost, name)) for name in names}
    return {**found, "passes": found["forward"] + found["backward"]}


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def recovery_table(records: Sequence[Record]) -> pd.DataFrame:
    """One row per finished cell and truth: identity, ``truth_ablation``, ``own``, metrics (NaN: undefined), cost."""
    rows = []
    for cell, record in zip(cell_columns(records), records, strict=True):
        if not record.done:
            continue
        for truth_ablation, metrics in record.recovery.items():
            scores = {name: _number(value) for name, value in metrics}
            truth = {"truth_ablation": truth_ablation, "own": truth_ablation == cell.ablation}
            truth["certificate"] = record.identity.truth
            rows.append({**cell._asdict(), **truth, "n_edges": record.n_edges, **scores, **_cost(record)})
    columns = [*CELL_COLUMNS, "truth_ablation", "own", "certificate", "n_edges", *_METRICS, *COST_COLUMNS]
    table = pd.DataFrame(rows, columns=columns if not rows else None)
    extra = [name for name in table.columns if name not in columns]
    return _in_order(table[columns + extra], ["ablation", "truth_ablation"])


def circuit_table(records: Sequence[Record]) -> pd.DataFrame:
    """One row per native circuit of a finished cell, scored against its own ablation's truth."""
    rows = []
    for cell, record in zip(cell_columns(records), records, strict=True):
        for index, circuit in enumerate(record.circuits):
            found = circuit.recovery.get(cell.ablation, CircuitRecovery())
            rates = {name: _number(getattr(found, name)) for name in ("precision", "recall", "f1", "tpr", "fpr")}
            note = ", ".join(f"{name}={value}" for name, value in circuit.label.items())
            about = {"circuit": index, "circuit_label": note, "circuit_edges": circuit.n_edges}
            rows.append({**cell._asdict(), **about, **rates})
    columns = [*CELL_COLUMNS, "circuit", "circuit_label", "circuit_edges", "precision", "recall", "f1", "tpr", "fpr"]
    return _in_order(pd.DataFrame(rows, columns=columns), ["ablation"])


def failure_table(
    records: Sequence[Record], evaluations: Iterable[EvaluationRecord] = (), damaged: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """One row per cell that has no result: its ``kind`` (undefined, error, nan, memory, ...) and the ``reason``.

    Args:
        evaluations: those that went wrong have rows of their own, of kind ``evaluation: ...``.
        damaged: key -> how a cell differs from what was written. Its identity cannot be read.
    """
    cells = {cell.key: cell for cell in cell_columns(records)}
    failed: list[tuple[str, str, Record | EvaluationRecord]] = []
    failed += [(record.key, "", record) for record in records if not record.done]
    failed += [
        (found.identity.cell, "evaluation: ", found)
        for found in evaluations
        if not found.done and found.identity.cell in cells
    ]
    rows = [
        {**cells[key]._asdict(), "kind": f"{where}{found.kind}", "reason": found.reason or "no reason was recorded"}
        for key, where, found in failed
    ]
    unknown = dict.fromkeys(CELL_COLUMNS, "") | {"kind": "damaged", "seed": None}
    rows += [{**unknown, "key": key, "reason": reason} for key, reason in sorted((damaged or {}).items())]
    return _in_order(pd.DataFrame(rows, columns=[*CELL_COLUMNS, "kind", "reason"]), ["ablation"])


def _in_order(table: pd.DataFrame, ablation_columns: Sequence[str]) -> pd.DataFrame:
    """Rows in an order that does not depend on the order in which cells finished."""
    for column in ablation_columns:
        table[column] = pd.Categorical(table[column], ordered_ablations(table[column]), ordered=True)
    table["label"] = pd.Categorical(table["label"], ordered_labels(table["label"]), ordered=True)
    keys = [name for name in ("ablation", "label", "task", "seed", "truth_ablation", "key", "circuit") if name in table]
    table = table.sort_values(keys, kind="stable", na_position="first").reset_index(drop=True)
    return table.astype({column: object for column in [*ablation_columns, "label"]})


def row_groups(table: pd.DataFrame, columns: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], np.ndarray]]:
    """Each group's values of ``columns`` and the places of its rows, int [n_rows]; groups in the order of first rows.

    pandas' own groups are tables, which take milliseconds each, and a report has tens of thousands.
    """
    if table.empty:
        return
    which = table.groupby(list(columns), sort=False).ngroup().to_numpy()
    order = np.argsort(which, kind="stable")
    places = np.split(order, np.flatnonzero(np.diff(which[order])) + 1)
    keys = [table[name].to_numpy(dtype=object) for name in columns]
    for rows in places:
        yield tuple(key[rows[0]] for key in keys), rows


class GroupedRows:
    """Numbers of a table's rows, to be taken group by group.

    Args:
        table: has a column ``program``.
        columns: which numbers.
    """

    def __init__(self, table: pd.DataFrame, columns: Sequence[str]) -> None:
        names, self._program = np.unique(table["program"].to_numpy(dtype=str), return_inverse=True)
        self._names = names.tolist()
        self._values = table[list(columns)].to_numpy(dtype=np.float64)

    def by_program(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Each program's runs among the rows at these places, float64 [n_runs, n_columns]; programs by their names."""
        program = self._program[rows]
        order = np.argsort(program, kind="stable")
        ends = np.flatnonzero(np.diff(program[order])) + 1
        names = [self._names[i] for i in program[order][np.concatenate([[0], ends])]] if len(rows) else []
        return dict(zip(names, np.split(self._values[rows[order]], ends), strict=False))


def numbers_among(values: np.ndarray) -> np.ndarray:
    """The values that are not NaN, as one row."""
    return values[~np.isnan(values)]


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else float("nan")


def aggregate_table(
    recovery: pd.DataFrame, metrics: Iterable[str] = tuple(_METRICS), statistic: Statistic = "median", seed: int = 0
) -> pd.DataFrame:
    """One row per label and ablation: each metric over programs with a 95 % bootstrap interval.

    Columns: ``<metric>``, ``<metric>_low``, ``<metric>_high``, and ``<metric>_n``, the number of programs on which it
    is defined; ``n_programs``, ``n_cells``; ``exact_cells`` of ``exact_of`` exactly recovered; median ``seconds`` and
    ``passes`` a cell. Runs of one program (seeds, variants of its inputs) are averaged before, and resampled within
    it. Best area first, by median and then by mean.
    """
    metrics = list(metrics)
    rows = []
    own = recovery[recovery["own"].astype(bool)]
    runs, areas, methods = GroupedRows(own, metrics), GroupedRows(own, ["auroc"]), own["method"].to_numpy(dtype=object)
    others = {name: own[name].to_numpy(dtype=np.float64) for name in ("exact", "seconds", "passes")}
    for (ablation, label), places in row_groups(own, ["ablation", "label"]):
        row: dict[str, Any] = {"label": label, "method": methods[places[0]], "ablation": ablation}
        programs = runs.by_program(places)
        for column, metric in enumerate(metrics):
            values = {program: matrix[:, column] for program, matrix in programs.items()}
            found = interval(values, statistic=statistic, seed=seed)
            row |= {metric: found.estimate, f"{metric}_low": found.low, f"{metric}_high": found.high}
            row[f"{metric}_n"] = found.n
        exact, seconds, passes = (numbers_among(column[places]) for column in others.values())
        row |= {"n_programs": len(programs), "n_cells": len(places)}
        row |= {"exact_cells": int(exact.sum()), "exact_of": len(exact)}
        row |= {"seconds": _median(seconds), "passes": _median(passes)}
        means = [area.mean() for of_one in areas.by_program(places).values() if (area := numbers_among(of_one)).size]
        row["mean_auroc"] = float(np.mean(means)) if means else float("nan")
        rows.append(row)
    ends = [f"{metric}{end}" for metric in metrics for end in ("", "_low", "_high", "_n")]
    counts = ["n_programs", "n_cells", "exact_cells", "exact_of", "seconds", "passes", "mean_auroc"]
    table = pd.DataFrame(rows, columns=["label", "method", "ablation", *ends, *counts])
    if table.empty or "auroc" not in metrics:
        return table
    place = {ablation: i for i, ablation in enumerate(ordered_ablations(table["ablation"]))}
    table = table.assign(place=table["ablation"].map(place)).round({"auroc": 9, "mean_auroc": 9})
    best_first = table.sort_values(["place", "auroc", "mean_auroc", "label"], ascending=[True, False, False, True])
    return best_first.drop(columns="place").reset_index(drop=True)


def pairwise_table(recovery: pd.DataFrame, metric: str = "auroc") -> pd.DataFrame:
    """One row per pair of labels and ablation: paired Wilcoxon test over programs (Holm-corrected per ablation) and
    A12.

    The method that is given the answer is left out: it is no rival, and would cost the others power.
    If ``median_difference`` is positive and ``a12`` above one half, ``first`` is better. ``smallest_p`` is the least
    that so many differing programs can give.
    """
    columns = [
        "ablation",
        "first",
        "second",
        "n",
        "n_different",
        "median_difference",
        "p_value",
        "p_holm",
        "smallest_p",
        "a12",
    ]
    rows = []
    own = recovery[recovery["own"].astype(bool) & (recovery["method"] != ORACLE)]
    for ablation, group in own.groupby("ablation", sort=False):
        means = group.groupby(["program", "label"])[metric].mean().unstack("label")
        tests = []
        for first, second in combinations(ordered_labels(means.columns), 2):
            found = paired_test(means[first].to_numpy(), means[second].to_numpy())
            tests.append({"ablation": ablation, "first": first, "second": second, **found._asdict()})
        for test, corrected in zip(tests, holm([test["p_value"] for test in tests]), strict=True):
            rows.append({**test, "p_holm": float(corrected)})
    return pd.DataFrame(rows, columns=columns)


def mismatch_table(recovery: pd.DataFrame, metric: str = "average_precision", seed: int = 0) -> pd.DataFrame:
    """One row per label, discovery ``ablation`` and ``truth_ablation``: the metric over programs, with its interval.

    The scores that a method found under one ablation are compared with the truth of another. ``own`` marks the matching
    truth. The metric is average precision and not the ROC curve's area: if 2 of 94 edges are true, seven edges too many
    cost the area .04 and the average precision .78.
    """
    rows = []
    runs = GroupedRows(recovery, [metric])
    for (ablation, label, truth), places in row_groups(recovery, ["ablation", "label", "truth_ablation"]):
        found = interval({name: of_one[:, 0] for name, of_one in runs.by_program(places).items()}, seed=seed)
        key = {"label": label, "ablation": ablation, "truth_ablation": truth, "own": ablation == truth}
        rows.append(
            {
                **key,
                metric: found.estimate,
                f"{metric}_low": found.low,
                f"{metric}_high": found.high,
                "n_programs": found.n,
            }
        )
    columns = ["label", "ablation", "truth_ablation", "own", metric, f"{metric}_low", f"{metric}_high", "n_programs"]
    return pd.DataFrame(rows, columns=columns)


def program_table(recovery: pd.DataFrame, metric: str = "auroc") -> pd.DataFrame:
    """One row per task and ablation, one column per label: the metric against the own truth, mean over seeds."""
    own = recovery[recovery["own"].astype(bool)]
    if own.empty:
        return pd.DataFrame(columns=["ablation", "task", "true_size", "n_edges"])
    sizes = own.groupby(["ablation", "task"], sort=False)[["true_size", "n_edges"]].first()
    values = own.groupby(["ablation", "task", "label"], sort=False)[metric].mean().unstack("label")
    table = sizes.join(values[ordered_labels(values.columns)]).reset_index()
    place = {ablation: i for i, ablation in enumerate(ordered_ablations(table["ablation"]))}
    order = sorted(table.index, key=lambda i: (place[table["ablation"][i]], table["task"][i]))
    return table.loc[order].reset_index(drop=True)


def run_table(recovery: pd.DataFrame, metrics: Sequence[str] = ("auroc", "average_precision")) -> pd.DataFrame:
    """One row per task, ablation and label: the metrics against the own truth, over seeds, and what a run cost.

    Columns: ``n_seeds``; ``<metric>`` (the mean), ``<metric>_low``, ``<metric>_high`` (Student's 95 % interval of the
    mean, within [0, 1]; NaN with one seed); median ``seconds`` and ``passes`` of a run; of seeds that ran together,
    each has a share.
    """
    rows = []
    own = recovery[recovery["own"].astype(bool)]
    numbers = {name: own[name].to_numpy(dtype=np.float64) for name in (*metrics, "seconds", "passes")}
    for (task, ablation, label), places in row_groups(own, ["task", "ablation", "label"]):
        row: dict[str, Any] = {"task": task, "ablation": ablation, "label": label, "n_seeds": len(places)}
        for metric in metrics:
            columns = (metric, f"{metric}_low", f"{metric}_high")
            row |= dict(zip(columns, _over_seeds(numbers_among(numbers[metric][places])), strict=True))
        rows.append(row | {name: _median(numbers_among(numbers[name][places])) for name in ("seconds", "passes")})
    ends = [f"{metric}{end}" for metric in metrics for end in ("", "_low", "_high")]
    table = pd.DataFrame(rows, columns=["task", "ablation", "label", "n_seeds", *ends, "seconds", "passes"])
    place = {ablation: i for i, ablation in enumerate(ordered_ablations(table["ablation"]))}
    rank = {label: i for i, label in enumerate(ordered_labels(table["label"]))}
    ordered = table.assign(ablation=table["ablation"].map(place), label=table["label"].map(rank))
    return table.loc[ordered.sort_values(["task", "ablation", "label"], kind="stable").index].reset_index(drop=True)


def _over_seeds(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and Student's 95 % interval of a share: NaN ends for a single value, a point where all agree."""
    if len(values) < 2:
        return (float(values[0]) if len(values) else float("nan")), float("nan"), float("nan")
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)
    return float(values.mean()), max(0.0, float(values.mean()) - half), min(1.0, float(values.mean()) + half)


def provenance_table(records: Sequence[Record]) -> pd.DataFrame:
    """One row per provenance entry and value, with the number of cells that have it: mixed versions show."""
    counts: dict[tuple[str, str], int] = {}
    for record in records:
        for name, value in flat(record.provenance):
            text = entry_text(name, value)
            counts[name, text] = counts.get((name, text), 0) + 1
    rows = [{"name": name, "value": value, "cells": cells} for (name, value), cells in sorted(counts.items())]
    return pd.DataFrame(rows, columns=["name", "value", "cells"])


def entry_text(name: str, value: Any) -> str:
    """The value of an entry. An installed copy knows its commit only where pip fetched it by one."""
    return "not known (installed from a folder or a package)" if name == "commit" and value is None else str(value)


def flat(part: Kept, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values that a part of a file gives, each with the names on the way to it: ``versions.torch``."""
    for name, value in part:
        if name not in part.model_fields_set:
            continue
        if isinstance(value, Kept):
            yield from flat(value, f"{prefix}{name}.")
        elif isinstance(value, Mapping):
            yield from ((f"{prefix}{name}.{key}", each) for key, each in value.items())
        else:
            yield f"{prefix}{name}", value
