"""How sure a number is: bootstrap intervals over programs, and over the runs within a program.

The benchmark's claim is about programs, so programs are what is resampled; several runs of one program (seeds, variants
of its input domain) are not independent and are resampled within it. Everything is seeded: same input, same interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

Statistic = Literal["mean", "median"]
Kind = Literal["percentile", "bca"]
RESAMPLES = 2000
"""How often programs are drawn again for an interval."""


class Interval(NamedTuple):
    """An estimate with the ends of its confidence interval; NaN ends when there are too few programs for one."""

    estimate: float
    low: float
    high: float
    n: int
    """How many programs it rests on."""


def interval(
    values: Mapping[str, Iterable[float]],
    *,
    statistic: Statistic = "median",
    kind: Kind = "percentile",
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """A bootstrap interval of the mean or median over programs of each program's mean.

    Args:
        values: the runs' values by program. NaN values are left out, and programs with nothing left.
        statistic: how programs are summed up.
        kind: ``percentile`` resamples programs and, within each, its runs (hierarchical); ``bca`` (bias-corrected and
            accelerated) knows one level only and resamples the programs' means.
        level: confidence, a fraction.
    Returns the estimate and the interval. With one program there is no interval (NaN ends), and
    without programs there is no estimate. When all programs agree, the interval is a point.
    """
    groups = [kept for runs in values.values() if (kept := _finite(runs)).size]
    means = np.array([group[0] if group.size == 1 else group.mean() for group in groups])
    summary = np.mean if statistic == "mean" else np.median
    if means.size < 2:
        return Interval(float(means[0]) if means.size else float("nan"), float("nan"), float("nan"), means.size)
    estimate = float(summary(means))
    single = all(group.size == 1 for group in groups)
    if np.ptp(means) == 0 and (single or all(np.ptp(group) == 0 for group in groups)):
        return Interval(estimate, estimate, estimate, means.size)
    generator = np.random.default_rng(seed)
    if kind == "bca":
        found = stats.bootstrap(
            (means,), summary, confidence_level=level, n_resamples=resamples, method="BCa", rng=generator
        ).confidence_interval
        return Interval(estimate, float(found.low), float(found.high), means.size)
    if single and statistic == "median":
        drawn = _medians(means, resamples, seed)
    else:
        drawn = summary(_resampled(groups, means, single, resamples, generator), axis=1)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), means.size)


def mean_band(
    curves: np.ndarray, *, level: float = 0.95, resamples: int = 500, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Pointwise percentile band of the mean curve over programs.

    Args:
        curves: float [n_programs, n_points].
    Returns (low, high), each [n_points]; NaN with fewer than two programs. Pointwise: it does not cover whole curves.
    """
    curves = np.asarray(curves, dtype=np.float64)
    n_programs, n_points = curves.shape
    if n_programs < 2:
        return np.full(n_points, np.nan), np.full(n_points, np.nan)
    generator = np.random.default_rng(seed)
    # A resample is a vector of how often each program was drawn: the means are then one matrix product.
    weights = generator.multinomial(n_programs, np.full(n_programs, 1 / n_programs), size=resamples) / n_programs
    low, high = np.quantile(weights @ curves, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def _finite(runs: Iterable[float]) -> np.ndarray:
    numbers = np.asarray(runs if isinstance(runs, np.ndarray) else list(runs), dtype=np.float64)
    return numbers[~np.isnan(numbers)]


def _medians(means: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """The median of each resample of ``means``: float64 [resamples].

    The places in the sorted values between which a median lies do not depend on the values. They are drawn once for
    each number of programs, because a report has thousands of intervals over as many programs.
    """
    below, above = _middles(means.size, resamples, seed)
    ordered = np.sort(means)
    return (ordered[below] + ordered[above]) / 2


@lru_cache(maxsize=64)
def _middles(n: int, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The two middle places (equal when ``n`` is odd) of each resample of n sorted values: int [resamples] each."""
    drawn = np.sort(np.random.default_rng(seed).integers(n, size=(resamples, n)), axis=1)
    return drawn[:, (n - 1) // 2], drawn[:, n // 2]


def _resampled(
    groups: list[np.ndarray], means: np.ndarray, single: bool, resamples: int, generator: np.random.Generator
) -> np.ndarray:
    """Program means of each resample: float64 [resamples, n_programs]."""
    chosen = generator.integers(len(groups), size=(resamples, len(groups)))
    if single:
        return means[chosen]
    drawn = np.empty(chosen.shape)
    for program, group in enumerate(groups):
        slots = chosen == program
        runs = generator.integers(group.size, size=(int(slots.sum()), group.size))
        drawn[slots] = group[runs].mean(axis=1)
    return drawn
