"""Whether two methods differ, when their runs come in clusters: paired differences, and sign flips of whole clusters.

Runs of one program (seeds, variants of its inputs) are not independent: the program is what is exchanged. Under
the hypothesis of no difference, a program's mean difference has either sign with the same chance. With few programs
the test cannot tell much, and ``smallest_p`` says how much: six programs that differ cannot give a p below 0.031.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .agreement import TIE_TOLERANCE
from .bootstrap import interval

MOST_EXACT = 16
"""Up to so many clusters that differ all signs are counted; beyond them ``RANDOM_SIGNS`` are drawn."""

RANDOM_SIGNS = 100_000


class ClusteredTest(NamedTuple):
    """Paired differences, first minus second, in clusters."""

    n_pairs: int
    n_clusters: int
    n_different: int
    """Clusters whose mean difference is not zero: the others say nothing in this test."""
    mean_difference: float
    """The mean over clusters of each cluster's mean difference."""
    low: float
    high: float
    """The ends of its 95 % bootstrap interval over clusters and the pairs within; NaN with one cluster."""
    p_value: float
    """Two-sided; 1 where no cluster differs, NaN where there is no pair."""
    smallest_p: float
    """What no result of so many clusters could go below; 1 where none differs."""


def clustered_test(differences: Mapping[str, Sequence[float]], *, seed: int = 0) -> ClusteredTest:
    """Tests whether the mean of paired differences is zero, by flipping the signs of whole clusters.

    Args:
        differences: cluster (a program) -> the differences of its pairs. NaN values are left out, and clusters with
            nothing left. Differences up to ``TIE_TOLERANCE`` are rounding and count as none.
        seed: of the bootstrap, and of the signs where there are too many to count.
    """
    kept = {name: found for name, each in differences.items() if (found := _finite(each)).size}
    means = np.array([found.mean() for found in kept.values()])
    different = means[np.abs(means) > TIE_TOLERANCE]
    estimate, low, high, _ = interval(kept, statistic="mean", seed=seed)
    return ClusteredTest(
        n_pairs=sum(map(len, kept.values())),
        n_clusters=len(kept),
        n_different=different.size,
        mean_difference=estimate,
        low=low,
        high=high,
        p_value=sign_flip_p(different, seed=seed) if kept else float("nan"),
        smallest_p=min(1.0, 2.0 / 2.0**different.size),
    )


def clusters_needed(level: float) -> int:
    """How many clusters must differ before any result can have a p-value below ``level``.

    >>> clusters_needed(0.05)
    6
    """
    n = 1
    while 2.0 / 2.0**n >= level:
        n += 1
    return n


def sign_flip_p(values: np.ndarray, *, seed: int = 0) -> float:
    """The share of all signs of ``values`` [n] whose sum is as far from zero as the sum itself, two-sided.

    Exact for up to ``MOST_EXACT`` values; beyond them (1 + hits) / (1 + draws) over random signs, which is never zero.
    """
    n = len(values)
    if n <= MOST_EXACT:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float(np.mean(_as_far(signs @ values, values)))
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(RANDOM_SIGNS, n))
    return float((1 + np.sum(_as_far(signs @ values, values))) / (1 + RANDOM_SIGNS))


def in_sequence(p_values: Sequence[float]) -> list[float]:
    """p-values of tests in an order fixed beforehand, corrected for their number: each becomes the largest up to it.

    A later test counts only where all before it did (fixed-sequence testing), which keeps the chance of any false
    finding at the level without dividing it. NaN, a test without data, stops the sequence: those after it are NaN.
    """
    return [float(p) for p in np.maximum.accumulate(np.asarray(p_values, dtype=np.float64))]


def _as_far(sums: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.abs(sums) >= abs(values.sum()) - 1e-12 * np.abs(values).sum()


def _finite(values: Sequence[float]) -> np.ndarray:
    values = np.asarray(list(values), dtype=np.float64)
    values = values[~np.isnan(values)]
    return np.where(np.abs(values) <= TIE_TOLERANCE, 0.0, values)
