"""Whether two methods differ: a paired test over programs, and an effect size.

With few programs a test cannot tell much, and this file says so in numbers instead of hiding it: ``smallest_p`` is the
smallest p-value that so many pairs could ever give. Six programs that differ cannot get below 0.031, five not below
0.0625.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class PairedTest(NamedTuple):
    """Two methods on the same programs."""

    n: int
    """Programs on which both have a value."""
    n_different: int
    """Programs on which the values differ: the others say nothing in this test."""
    median_difference: float
    p_value: float
    """Two-sided; NaN when no program differs."""
    smallest_p: float
    """2 / 2**n_different: no data of this size could give less. NaN when no program differs."""
    a12: float


TIE_TOLERANCE = 1e-9
"""Scores no further apart than this are equal: the rest is rounding."""

_MOST_EXACT = 100
"""Up to so many programs that differ the p-value is exact."""


def vargha_delaney(first: Sequence[float], second: Sequence[float], tolerance: float = TIE_TOLERANCE) -> float:
    """A12: the chance that a value of ``first`` is larger than one of ``second``, ties counting half; NaN if either is
    empty.

    0.5: no difference; conventionally 0.56 is a small, 0.64 a medium, 0.71 a large one. It ignores the pairing.

    Vargha and Delaney, 2000, "A critique and improvement of the CL common language effect size statistics".
    """
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if not x.size or not y.size:
        return float("nan")
    difference = x[:, None] - y[None]
    return float(np.mean((difference > tolerance) + 0.5 * (np.abs(difference) <= tolerance)))


def paired_test(first: Sequence[float], second: Sequence[float], tolerance: float = TIE_TOLERANCE) -> PairedTest:
    """Wilcoxon's signed-rank test of ``first`` against ``second``, program by program.

    Args:
        first, second: [n_programs], in the same order. Programs where either is NaN are left out.
        tolerance: differences up to this are rounding and count as none. Programs without a difference are dropped
            (Wilcoxon's own rule). The p-value is exact, with or without ties, up to ``_MOST_EXACT`` programs that
            differ; beyond them it is scipy's normal approximation.
    Raises ValueError when the two have different lengths.
    """
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if x.shape != y.shape:
        raise ValueError(f"paired values need one length, got {x.size} and {y.size}")
    both = ~(np.isnan(x) | np.isnan(y))
    x, y = x[both], y[both]
    difference = np.where(np.abs(x - y) <= tolerance, 0.0, x - y)
    n_different = int(np.count_nonzero(difference))
    return PairedTest(
        n=x.size,
        n_different=n_different,
        median_difference=float(np.median(difference)) if x.size else float("nan"),
        p_value=_signed_rank_p(difference[difference != 0]),
        smallest_p=2.0 / 2.0**n_different if n_different else float("nan"),
        a12=vargha_delaney(x, y, tolerance),
    )


def _signed_rank_p(difference: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test: nonzero differences [n]; NaN when n is 0.

    scipy is exact for few pairs without ties only; areas tie often. All 2**n signs are counted instead, by adding one
    rank after the other to the distribution of the rank sum.
    """
    if not difference.size:
        return float("nan")
    if difference.size > _MOST_EXACT:
        return float(stats.wilcoxon(difference, method="asymptotic").pvalue)
    # Sizes that differ by rounding are tied; ties share their mean rank, and doubled ranks are whole numbers.
    ranks = np.rint(2 * stats.rankdata(np.round(np.abs(difference), 9))).astype(int)
    chance = np.zeros(ranks.sum() + 1)
    chance[0] = 1.0
    for rank in ranks:
        chance[rank:] = (chance[rank:] + chance[:-rank]) / 2
        chance[:rank] /= 2
    total = ranks.sum()
    distance = abs(2 * ranks[difference > 0].sum() - total)
    return float(min(chance[np.abs(2 * np.arange(total + 1) - total) >= distance].sum(), 1.0))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p-values corrected for the number of tests (Holm, 1979): float64, as given; NaN stays NaN, uncounted."""
    p = np.asarray(p_values, dtype=np.float64)
    corrected = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(order.size, 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected
