"""Evaluations of a store -> how alike the circuits of resampled prompts are, and whether that predicts recovery."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ...suite.scoring.bootstrap import interval
from ...suite.store.record import EvaluationRecord, Record, with_size
from .counted import newest_last
from .evaluations import ordered_sizes
from .labels import BASELINES, ordered_ablations, ordered_labels
from .tables import CELL_COLUMNS, GroupedRows, cell_columns, row_groups

CERTIFIED, UNCERTIFIED = "certified circuit", "no known circuit"
"""``truth``: what is known of a cell's model."""

OF_POINT = ["jaccard", "low", "high", "lowest", "chance", "with_whole", "rank", "rank_low", "rank_high"]
COUNTS = ["always", "sometimes"]
OF_CELL = ["auroc", "precision", "f1", "auroc_of_inclusion", "precision_of_always"]
_COLUMNS = [*CELL_COLUMNS, "truth", "over", "size", "edges", "share", "main", *OF_POINT, *COUNTS, *OF_CELL, "undefined"]
_GROUP = ["truth", "ablation", "over", "label", "size"]
SUMMED = ("jaccard", "rank")

_FEWEST = 4
"""Methods on a program, or programs of a method, below which no rank correlation is taken."""

_RESAMPLES = 1000


def stability_table(records: Sequence[Record], evaluations: Iterable[EvaluationRecord]) -> pd.DataFrame:
    """One row per cell, what was resampled, and size; the reason in ``undefined`` if there is no number.

    Args:
        records: the cells to report; evaluations of others are left out.
        evaluations: those that count, of which those with stability are read; of several of a cell, the newest with
            what was resampled.
    Returns the cell's identity; ``truth``, whether its circuit is certified; ``size`` as it was asked for, ``edges``,
    ``share``; ``main``, whether inclusion and recovery are told of this size; the numbers of
    ``suite.scoring.structure.stability.Stability``; and of the cell, where its circuit is certified, the AUC of its
    scores, precision and F1 of its circuit (``auroc``, ``precision``, ``f1``), and the first two of inclusion.
    """
    cells = dict(zip((record.key for record in records), zip(cell_columns(records), records, strict=True), strict=True))
    rows = []
    done = [found for found in newest_last(evaluations) if found.done and found.identity.cell in cells]
    counts = {(found.identity.cell, over): found.key for found in done for over in found.stability}
    for found in done:
        cell, record = cells[found.identity.cell]
        own = record.own_recovery
        for over, change in found.stability.items():
            if counts[cell.key, over] != found.key:
                continue
            of_cell: dict[str, Any] = {**cell._asdict(), "over": over, "undefined": change.undefined}
            of_cell["truth"] = UNCERTIFIED if own is None else CERTIFIED
            of_cell |= {name: own and getattr(own, name) for name in OF_CELL[:3]}
            of_cell |= {name: getattr(change, name) for name in OF_CELL[3:]}
            points = {point.size: point for point in change.points}
            if change.undefined is not None:
                rows.append(of_cell | {"size": "", "main": True})
            sized = [circuit for circuit in with_size(found.circuits) if circuit.n_edges in points]
            for i, circuit in enumerate(sized):
                point = points[circuit.n_edges]
                numbers = {name: getattr(point, name) for name in (*OF_POINT, *COUNTS)}
                share = circuit.n_edges / record.n_edges if record.n_edges else None
                about = {"size": str(circuit.size), "edges": circuit.n_edges, "share": share, "main": i == 0}
                rows.append(of_cell | about | numbers)
    table = pd.DataFrame(rows, columns=_COLUMNS)
    table = table.astype({name: float for name in ("edges", "share", *OF_POINT, *COUNTS, *OF_CELL)})
    table = table.drop_duplicates(["key", "over", "size"], keep="last")
    return _in_order(table)


def stability_summary(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """One row per kind of truth, ablation, what is resampled, label and size: medians over programs with intervals.

    Args:
        table: ``stability_table``.
    Returns ``jaccard`` and ``rank`` with ``_low`` and ``_high`` (95 % bootstrap over programs), and medians of
    ``share``, ``chance``, ``always``, ``sometimes``; ``n_programs``.
    """
    sized = table[table["undefined"].isna()]
    runs, rows = GroupedRows(sized, list(SUMMED)), []
    for key, places in row_groups(sized, _GROUP):
        row: dict[str, Any] = dict(zip(_GROUP, key, strict=True))
        programs = runs.by_program(places)
        for column, name in enumerate(SUMMED):
            found = interval({program: values[:, column] for program, values in programs.items()}, seed=seed)
            row |= {name: found.estimate, f"{name}_low": found.low, f"{name}_high": found.high}
        here = sized.iloc[places]
        row |= {name: float(here[name].median()) for name in ("share", "chance", *COUNTS)}
        rows.append(row | {"n_programs": len(programs)})
    ends = [f"{name}{end}" for name in SUMMED for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=[*_GROUP, *ends, "share", "chance", *COUNTS, "n_programs"])


def at_true_size(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``stability_table`` of the true size, where it was asked for, of certified circuits."""
    return table[(table["size"] == "true") & (table["truth"] == CERTIFIED) & table["undefined"].isna()]


QUESTIONS = {
    "methods": "rank correlation of stability (Jaccard index) with recovery (F1), among methods on one program",
    "programs": "the same, among programs of one method",
    "inclusion": "AUC of how often edges are included, less that of the scores",
    "always": "precision of edges in 95 % of circuits, less that of the circuit",
}
"""Does stability predict recovery? What is asked, by a short name."""


def prediction_table(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """One row per ablation, what is resampled, and question of ``QUESTIONS``: the number, and its interval.

    Args:
        table: ``stability_table``; of it the rows of the true size on models with a certified circuit. Baselines are
            left out: they measure the benchmark.
    Returns ``value``, and ``low``, ``high``: 95 % bootstrap, programs drawn with all their methods; NaN with fewer than
    two programs.
    """
    main = at_true_size(table)
    main = main[~main["method"].isin(BASELINES)]
    rows = []
    for (ablation, over), places in row_groups(main, ["ablation", "over"]):
        cells = main.iloc[places]
        matrix = {name: cells.pivot_table(index="label", columns="program", values=name) for name in ASKED}
        labels, programs = sorted(set(cells["label"])), sorted(set(cells["program"]))
        of = {name: each.reindex(index=labels, columns=programs).to_numpy() for name, each in matrix.items()}
        everything = np.arange(len(programs))[None]
        drawn = np.random.default_rng(seed).integers(len(programs), size=(_RESAMPLES, len(programs)))
        values, draws = _answers(of, everything), _answers(of, drawn)
        for name, words in QUESTIONS.items():
            known = draws[name][~np.isnan(draws[name])]
            low, high = np.quantile(known, [0.025, 0.975]) if known.size and len(programs) > 1 else (np.nan, np.nan)
            about = {"ablation": ablation, "over": over, "question": name, "words": words}
            ends = {"value": float(values[name][0]), "low": float(low), "high": float(high)}
            rows.append(about | ends | {"n_programs": len(programs), "n_cells": len(cells)})
    columns = ["ablation", "over", "question", "words", "value", "low", "high", "n_programs", "n_cells"]
    return pd.DataFrame(rows, columns=columns)


ASKED = ("jaccard", *OF_CELL)


def _answers(of: Mapping[str, np.ndarray], drawn: np.ndarray) -> dict[str, np.ndarray]:
    """The number of each question, float64 [B], for programs drawn, int [B, P], from matrices [methods, programs]."""
    gain = {
        "inclusion": of["auroc_of_inclusion"] - of["auroc"],
        "always": of["precision_of_always"] - of["precision"],
    }
    among_methods = spearman(of["jaccard"].T, of["f1"].T)  # [programs]
    among_programs = [spearman(x[drawn], y[drawn]) for x, y in zip(of["jaccard"], of["f1"], strict=True)]
    return {
        "methods": mean_of_known(among_methods[drawn]),
        "programs": mean_of_known(np.stack(among_programs, 1)),
        **{name: mean_of_known(values.T[drawn].reshape(len(drawn), -1)) for name, values in gain.items()},
    }


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation along the last axis: float64 [...]; of the pairs that are numbers.

    NaN when there are fewer than ``_FEWEST`` pairs, or one of the two does not vary.
    """
    known = ~np.isnan(x) & ~np.isnan(y)
    ranks = [_centred_ranks(values, known) for values in (x, y)]
    size = np.sqrt(np.square(ranks[0]).sum(-1) * np.square(ranks[1]).sum(-1))
    enough = (known.sum(-1) >= _FEWEST) & (size > 0)
    return np.where(enough, (ranks[0] * ranks[1]).sum(-1) / np.where(enough, size, 1), np.nan)


def _centred_ranks(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Ranks less their mean among the known, ties at their mean rank; 0 for the others."""
    values = np.round(np.where(known, values, 0), 9)
    sign = np.sign(values[..., :, None] - values[..., None, :])
    return np.where(known, (sign * known[..., None, :]).sum(-1) / 2, 0)


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """The mean over the last axis of the values that are not NaN; NaN when all are."""
    known = ~np.isnan(values)
    count = known.sum(-1)
    return np.where(count > 0, np.where(known, values, 0).sum(-1) / np.maximum(count, 1), np.nan)


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Rows in an order that does not depend on the order of keys."""
    orders = {"ablation": ordered_ablations, "label": ordered_labels}
    orders["size"] = lambda sizes: ordered_sizes(size for size in sizes if size) + [""]
    places = {name: {value: i for i, value in enumerate(order(table[name]))} for name, order in orders.items()}
    keys = ["truth", "ablation", "over", "label", "task", "model", "key", "size"]
    return table.sort_values(
        keys, kind="stable", key=lambda column: column.map(places.get(column.name, lambda x: x))
    ).reset_index(drop=True)
