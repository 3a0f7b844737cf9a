"""Mean curves over programs: every program's curve on one common grid, their mean, and a bootstrap band."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .bootstrap import mean_band
from .ranking import PrecisionRecallCurve, RocCurve

GRID = np.linspace(0.0, 1.0, 101)


class MeanCurve(NamedTuple):
    """A mean curve over programs: float64 [n_points] each; the band is pointwise, NaN for a single program."""

    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n: int
    """How many programs it is the mean of."""


def roc_on_grid(curve: RocCurve, grid: np.ndarray = GRID) -> np.ndarray:
    """The true positive rate at each false positive rate of ``grid``; where the curve is vertical, its upper end."""
    return np.interp(grid, curve.false_positive_rate, curve.true_positive_rate)


def precision_on_grid(curve: PrecisionRecallCurve, grid: np.ndarray = GRID) -> np.ndarray:
    """The precision when each recall of ``grid`` is reached: the step function whose area is the average precision."""
    # Recall 0 stands for the first true edge. Before it, precision would be that of an empty set or of false edges.
    reached = np.searchsorted(curve.recall, np.maximum(grid, 1e-9) - 1e-12, side="left")
    return curve.precision[np.minimum(reached, curve.precision.size - 1)]


def mean_roc(curves: Mapping[str, Sequence[RocCurve]], *, seed: int = 0) -> MeanCurve:
    """Mean true positive rate at each false positive rate, starting at (0, 0).

    Args:
        curves: the curves of each program's runs, which are averaged first. Undefined ones (NaN) are left out.
    """
    found = _mean(curves, roc_on_grid, seed)
    x, mean, low, high = (np.concatenate([[0.0], part]) for part in (found.x, found.mean, found.low, found.high))
    return MeanCurve(x, mean, low, high, found.n)


def mean_precision_recall(curves: Mapping[str, Sequence[PrecisionRecallCurve]], *, seed: int = 0) -> MeanCurve:
    """Mean precision at each recall; at recall 0 it is that of the first true edge.

    Args:
        curves: the curves of each program's runs, which are averaged first. Undefined ones (NaN) are left out.
    """
    return _mean(curves, precision_on_grid, seed)


def _mean(curves: Mapping[str, Sequence], on_grid: Callable, seed: int) -> MeanCurve:
    programs = []
    for runs in curves.values():
        defined = [on_grid(curve) for curve in runs if not np.isnan(np.concatenate(curve)).any()]
        if defined:
            programs.append(np.mean(defined, axis=0))
    if not programs:
        nothing = np.full(GRID.size, np.nan)
        return MeanCurve(GRID, nothing, nothing, nothing, 0)
    stacked = np.stack(programs)
    return MeanCurve(GRID, stacked.mean(axis=0), *mean_band(stacked, seed=seed), len(programs))
