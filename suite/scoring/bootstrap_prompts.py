"""How sure a number measured on prompts is: templates are drawn with replacement, and prompts within each.

Prompts of one template resemble each other, so with templates the prompts are not independent draws. A resample is
written as how often it holds each prompt: every number that is made of means over prompts is then a matrix product, and
all settings and circuits are resampled together, as paired comparisons need. Drawing at both levels counts the spread
between the prompts of a template slightly twice: the intervals err on the wide side.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

FEWEST_TEMPLATES = 5
"""With fewer templates they are taken as given, and prompts are drawn within each: two or three cannot say how
templates vary. Where one of these has a single prompt, which is all that could be drawn in its place, prompts are drawn
from all instead: else four prompts of four templates would not vary at all."""


def template_blocks(templates: np.ndarray | None) -> np.ndarray | None:
    """``templates`` [N] when there are enough to be drawn themselves; else ``None``: prompts are the blocks."""
    if templates is None or len(np.unique(templates)) < FEWEST_TEMPLATES:
        return None
    return np.unique(templates, return_inverse=True)[1]


def resample_counts(n: int, templates: np.ndarray | None, n_resamples: int, generator: np.random.Generator):
    """How often each resample holds each prompt: int [n_resamples, N].

    Args:
        n: prompts, N.
        templates: long [N]. ``FEWEST_TEMPLATES`` or more are drawn with replacement, and in each drawn one as many
            prompts as it has; fewer are kept, and prompts drawn within each; ``None``, or fewer of which one has a
            single prompt: prompts are drawn from all.
        generator: the source of random numbers.

    Returns none, [0, N], of a single prompt, which has no interval: nothing is known of how prompts vary.
    """
    if n == 1:
        return np.zeros((0, 1), dtype=np.int64)
    counts = np.zeros((n_resamples, n), dtype=np.int64)
    group = np.zeros(n, dtype=int) if templates is None else np.unique(templates, return_inverse=True)[1]
    if template_blocks(templates) is None and (np.bincount(group) == 1).any():
        group = np.zeros(n, dtype=int)
    n_groups = int(group.max()) + 1
    times = np.ones((n_resamples, n_groups), dtype=np.int64)
    if template_blocks(templates) is not None:
        times = generator.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_resamples)
    for g in range(n_groups):
        members = np.flatnonzero(group == g)
        # A template drawn c times gives c independent draws of its prompts, and they add up to one of c times as many.
        drawn = generator.multinomial(times[:, g] * len(members), np.full(len(members), 1 / len(members)))
        counts[:, members] = drawn
    return counts


def split_counts(counts: np.ndarray, n_runs: int, generator: np.random.Generator) -> np.ndarray:
    """Draws a run (a pairing seed) for each time a prompt was drawn: int [n_resamples, N, n_runs] from [.., N]."""
    return generator.multinomial(counts, np.full(n_runs, 1 / n_runs))


def quantile_interval(draws: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """The quantiles between which a share ``level`` of the draws [B, ...] lies: (low, high), each [...]; NaN of none,
    and where a draw has no number."""
    if not len(draws):
        return np.full(draws.shape[1:], np.nan), np.full(draws.shape[1:], np.nan)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def bca_interval(
    estimate: np.ndarray, draws: np.ndarray, influence: np.ndarray, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Bias-corrected and accelerated intervals (Efron, 1987), one for each column.

    Args:
        estimate: float [...].
        draws: float [n_resamples, ...], the number in each resample. Draws without a number are left out.
        influence: float [n_blocks, ...], each block's part in the estimate's error: the acceleration is their skewness.
        level: confidence, a fraction.
    Returns (low, high), each [...]; a single point when all draws agree, NaN when no draw has a number.
    """
    estimate, draws = np.asarray(estimate, dtype=np.float64), np.asarray(draws, dtype=np.float64)
    shape = estimate.shape
    estimate, draws = estimate.reshape(-1), draws.reshape(len(draws), estimate.size)
    influence = np.asarray(influence, dtype=np.float64).reshape(len(influence), -1)
    z_level = stats.norm.ppf([(1 - level) / 2, (1 + level) / 2])
    ends = np.full((2, len(estimate)), np.nan)
    for i in range(len(estimate)):
        known = draws[:, i][~np.isnan(draws[:, i])]
        if not known.size or np.isnan(estimate[i]):
            continue
        below = (known < estimate[i]).sum() + 0.5 * (known == estimate[i]).sum()
        share = min(max(below / known.size, 1 / (known.size + 1)), known.size / (known.size + 1))
        bias = stats.norm.ppf(share)
        cubed, squared = (influence[:, i] ** 3).sum(), (influence[:, i] ** 2).sum()
        acceleration = cubed / (6 * squared**1.5) if squared > 0 else 0.0
        shifted = bias + (bias + z_level) / (1 - acceleration * (bias + z_level))
        ends[:, i] = np.quantile(known, stats.norm.cdf(shifted))
    return ends[0].reshape(shape), ends[1].reshape(shape)


def simultaneous_interval(
    estimate: np.ndarray, draws: np.ndarray, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Intervals that hold in all settings at once with this confidence: max-T over the columns.

    Args:
        estimate: float [D].
        draws: float [n_resamples, D], resampled together.
    Returns (low, high), each [D]: estimate -+ c x standard error, with c the quantile of the largest studentised
    deviation over the columns (Romano and Wolf, 2005). A single point when all draws agree; NaN of no draws, and
    when a draw has no number.
    """
    estimate, draws = np.asarray(estimate, dtype=np.float64), np.asarray(draws, dtype=np.float64)
    error = draws.std(0, ddof=1) if len(draws) else np.full(estimate.shape, np.nan)
    varies = error > 1e-12 * np.maximum(1.0, np.abs(estimate))
    if not varies.any():
        return np.where(np.isnan(error), np.nan, estimate), np.where(np.isnan(error), np.nan, estimate)
    largest = (np.abs(draws[:, varies] - estimate[varies]) / error[varies]).max(1)
    half = np.where(varies, np.quantile(largest, level) * error, error * 0)
    return estimate - half, estimate + half
