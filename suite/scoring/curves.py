"""Mean curves over programs: every program's curve on one common grid, their mean, and a bootstrap band."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .bootstrap import mean_band
from .ranking import PrecisionRecallCurve, RocCurve

GRID = np.linspace(0.0, 1.0, 201)


class MeanCurve(NamedTuple):
    """A mean curve over programs: float64 [n_points] each; the band is pointwise, NaN for a single program."""

    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n: int
    """How many curves it is the mean of."""


def roc_on_grid(curve: RocCurve, grid: np.ndarray = GRID) -> np.ndarray:
    """True positive rate at each false positive rate of ``grid``: where the curve rises straight up, its upper end."""
    return np.interp(grid, curve.false_positive_rate, curve.true_positive_rate)


def precision_on_grid(curve: PrecisionRecallCurve, grid: np.ndarray = GRID) -> np.ndarray:
    """Precision once each recall of ``grid`` is reached: the step function whose area is the average precision."""
    reached = np.searchsorted(curve.recall, grid - 1e-12, side="left")
    return curve.precision[np.minimum(reached, curve.precision.size - 1)]


def mean_roc(curves: Sequence[RocCurve], *, seed: int = 0) -> MeanCurve:
    """Mean true positive rate at each false positive rate. Starts at (0, 0); undefined curves (NaN) are left out."""
    defined = [roc_on_grid(curve) for curve in curves if not np.isnan(np.concatenate(curve)).any()]
    found = _mean(defined, seed)
    anchored = [np.concatenate([[0.0], part]) for part in (found.x, found.mean, found.low, found.high)]
    return MeanCurve(*anchored, found.n)


def mean_precision_recall(curves: Sequence[PrecisionRecallCurve], *, seed: int = 0) -> MeanCurve:
    """Mean precision at each recall. Undefined curves (NaN) are left out.

    Recall 0 is left out of the grid's meaning: its value is the precision of the first edges found.
    """
    return _mean([precision_on_grid(curve) for curve in curves if not np.isnan(np.concatenate(curve)).any()], seed)


def _mean(values: Sequence[np.ndarray], seed: int) -> MeanCurve:
    if not values:
        nothing = np.full(GRID.size, np.nan)
        return MeanCurve(GRID, nothing, nothing, nothing, 0)
    stacked = np.stack(values)
    return MeanCurve(GRID, stacked.mean(axis=0), *mean_band(stacked, seed=seed), len(values))
