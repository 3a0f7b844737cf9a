"""How far a verdict moves with the analyst's choices: its spread over settings, and how often the conclusion flips."""

from __future__ import annotations

import numpy as np
from scipy import stats

from .card_model import ROUNDING, Flips, Spread


def spread_of_faithfulness(values: np.ndarray, weights: np.ndarray) -> Spread:
    """Summary statistics of the values [D] of settings that have ``weights`` [D]."""
    values, weights = np.asarray(values, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    low, high = (weighted_quantile(values, weights, q) for q in (0.25, 0.75))
    counted = values[weights > 0]
    worst, best = float(counted.min()), float(counted.max())
    return Spread(
        worst=worst,
        best=best,
        range=best - worst,
        quartiles=(low, high),
        iqr=high - low,
        mean=float(values @ weights),
        negative=float(weights[values < -ROUNDING].sum()),
        above_one=float(weights[values > 1 + ROUNDING].sum()),
    )


def weighted_quantile(values: np.ndarray, weights: np.ndarray, q: float) -> float:
    """The smallest value that a fraction ``q`` of the weight does not exceed; or the mean of two such values."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    below, above = (np.searchsorted(reached, q * reached[-1] + shift, side="left") for shift in (-1e-12, 1e-12))
    last = len(values) - 1
    return float((values[order[min(below, last)]] + values[order[min(above, last)]]) / 2)


def flips(values: np.ndarray, low: np.ndarray, high: np.ndarray, weights: np.ndarray, threshold: float) -> Flips:
    """Conclusion flips over settings with values and interval ends [D]. With NaN ends (no interval) none is sure."""
    hold = float(weights[np.asarray(values) >= threshold].sum())
    return Flips(
        threshold=threshold,
        hold=min(hold, 1.0),
        entropy=binary_entropy(hold),
        surely=float(weights[np.asarray(low) >= threshold].sum()),
        surely_not=float(weights[np.asarray(high) < threshold].sum()),
    )


def binary_entropy(share: float) -> float:
    """The entropy, in bits, of an answer that is yes with this probability: 0 at 0 and 1, and 1 at one half."""
    share = min(max(share, 0.0), 1.0)
    return max(0.0, float(stats.entropy([share, 1 - share], base=2)))


def percentiles(values: np.ndarray, null: np.ndarray, tolerance: float = 1e-9) -> np.ndarray:
    """The share of the random circuits that each value exceeds: [..., D], from 0 to 1. Ties count half.

    Args:
        values: float [..., D].
        null: float [..., M, D], the same number for M random circuits. Those where it is undefined (NaN) are left out.
        tolerance: values that differ by no more than this are tied, because such differences are rounding.
    """
    difference = np.asarray(values)[..., None, :] - null
    below = (difference > tolerance) + 0.5 * (np.abs(difference) <= tolerance)
    known = ~np.isnan(null)
    counted = known.sum(-2)
    return np.where(counted > 0, np.where(known, below, 0).sum(-2) / np.maximum(counted, 1), np.nan)
