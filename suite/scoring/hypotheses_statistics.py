"""The statistics of hypothesis tests of a circuit, on plain numbers: a sign test, HSIC, a binomial test of a quantile.

Shi et al. 2024 (arXiv:2410.13032) define the tests. Their released code (blei-lab/circuitry) takes a mean difference
where the sign test needs a proportion, the bandwidth of HSIC from distances between one variable and the other, a
permutation p-value that can be 0, and does not correct for testing every edge; none of that is repeated here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.spatial.distance import pdist, squareform

ALPHA = 0.05


class SignTest(NamedTuple):
    """How often one of two values is better than the other."""

    proportion: float
    """The share of prompts on which the first is better; a tie counts as one half."""
    p_value: float


class Independence(NamedTuple):
    """An HSIC permutation test."""

    statistic: float
    p_value: float
    """At least 1 / (1 + permutations); 1 where one of the variables does not vary."""


def equivalence_test(difference: np.ndarray, *, epsilon: float = 0.1, tie: float = 0.0) -> SignTest:
    """Tests that neither of two circuits is better more often than chance allows: |P(difference > 0) - 1/2| < epsilon.

    Args:
        difference: float [n], the difference of the two scores on each prompt; only its sign counts.
        epsilon: the largest distance from one half that counts as equivalent.
        tie: differences no larger than this are ties and count half for each side, which makes the test conservative.
    Returns the proportion and the exact p-value at the null's edge, a proportion of 1/2 + epsilon: a small one says
    that the two are not equivalent.
    """
    difference = np.asarray(difference, dtype=np.float64)
    n = difference.size
    proportion = float(np.mean((difference > tie) + 0.5 * (np.abs(difference) <= tie)))
    return SignTest(proportion, _beyond(abs(proportion - 0.5) * n, n, 0.5 + epsilon))


def equivalence_power(n: int, better: float, *, epsilon: float = 0.1, level: float = ALPHA) -> float:
    """The chance that ``equivalence_test`` notices, with n prompts, that one is better on a share ``better`` of all."""
    rejecting = [half / 2 for half in range(n + 1) if _beyond(half / 2, n, 0.5 + epsilon) <= level]
    return _beyond(min(rejecting), n, better) if rejecting else 0.0


def _beyond(distance: float, n: int, chance: float) -> float:
    """P(|K - n/2| >= distance) for K binomial (n, chance)."""
    upper, lower = np.ceil(n / 2 + distance - 1e-9), np.floor(n / 2 - distance + 1e-9)
    if upper <= lower:
        return 1.0
    return float(min(1.0, stats.binom.sf(upper - 1, n, chance) + stats.binom.cdf(lower, n, chance)))


def independence_test(x: np.ndarray, y: np.ndarray, *, permutations: int = 1000, seed: int = 0) -> Independence:
    """Tests that x and y are independent: the Hilbert-Schmidt independence criterion, by permutation.

    Args:
        x, y: float [n] or [n, d], one observation per row. Each has a Gaussian kernel as wide as the median distance
            between its own observations (the mean distance where the median is 0), so that units do not matter.
        permutations: how many; the observed statistic is counted as one more.
        seed: of the permutations.

    Gretton et al. 2007, "A kernel statistical test of independence".
    """
    first, second = (_centred_kernel(np.asarray(values, dtype=np.float64)) for values in (x, y))
    if first is None or second is None:
        return Independence(0.0, 1.0)
    n = len(first)
    observed = float((first * second).sum())
    generator, larger = np.random.default_rng(seed), 0
    for _ in range(permutations):
        order = generator.permutation(n)
        larger += float((first * second[np.ix_(order, order)]).sum()) >= observed * (1 - 1e-9)
    return Independence(observed / (n - 1) ** 2, (1 + larger) / (1 + permutations))


def _centred_kernel(values: np.ndarray) -> np.ndarray | None:
    """The Gaussian kernel [n, n], centred over rows and columns; None when all values are equal."""
    distances = pdist(values.reshape(len(values), -1))
    width = np.median(distances) or distances.mean()
    if not width > 0:
        return None
    kernel = np.exp(-(squareform(distances) ** 2) / (2 * width**2))
    return kernel - kernel.mean(0) - kernel.mean(1, keepdims=True) + kernel.mean()


def more_often(wins: int, n: int, quantile: float) -> float:
    """The p-value, after ``wins`` of n, of: the circuit wins at most a share ``quantile`` of all comparisons."""
    return float(stats.binom.sf(wins - 1, n, quantile))


def less_often(wins: int, n: int, quantile: float) -> float:
    """The p-value, after ``wins`` of n, of: the circuit wins at least a share ``quantile`` of all comparisons."""
    return float(stats.binom.cdf(wins, n, quantile))


def more_often_power(n: int, chance: float, quantile: float, level: float = ALPHA) -> float:
    """The chance that ``more_often`` rejects when the circuit wins each comparison with probability ``chance``."""
    rejecting = [wins for wins in range(n + 1) if more_often(wins, n, quantile) <= level]
    return more_often(min(rejecting), n, chance) if rejecting else 0.0


def less_often_power(n: int, chance: float, quantile: float, level: float = ALPHA) -> float:
    """The chance that ``less_often`` rejects when the circuit wins each comparison with probability ``chance``."""
    rejecting = [wins for wins in range(n + 1) if less_often(wins, n, quantile) <= level]
    return less_often(max(rejecting), n, chance) if rejecting else 0.0
