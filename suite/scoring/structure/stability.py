"""How much of a circuit stays when what should not matter changes: other prompts, templates, seeds, orders.

A variant is the edge scores of one repetition: of a bootstrap resample of the prompts, or of another run. All numbers
are of the circuits that variants make at a size, the edges of largest absolute score (see ``top_edges``). A
resample of prompts is a weighted mean of the scores of each prompt, so that a thousand cost one matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from ...errors import Undefined
from ...rounding import floor
from ..bootstrap_prompts import resample_counts

_CONFIDENCE = 0.95
_Z = 1.959963984540054


@dataclass(frozen=True, eq=False)
class Stability:
    """How alike the circuits of B variants are, at each of S sizes. Arrays are float64 [S] unless their shape is given.

    Args:
        sizes: int, numbers of edges.
        jaccard: the mean over pairs of variants of the edges that both circuits have, as a share of those that either
            has.
        low, high: the 95 % interval of ``jaccard`` over the drawn units (``sampling_error``); NaN without resamples.
        lowest: the 2.5 % quantile of the Jaccard index over pairs, which says how different two circuits may be.
        chance: the Jaccard index of two random sets of this size: n / (2 E - n).
        with_whole: the mean Jaccard index of a variant's circuit with the circuit of all prompts.
        rank: the mean Spearman correlation, among the edges of the circuit of all prompts, of a variant's absolute
            scores with those of all; NaN with fewer than two edges.
        rank_low, rank_high: the 2.5 % and 97.5 % quantiles of that correlation over variants.
        inclusion: [S, E], the share of variants whose circuit has the edge.
        pairs: [S, B, B], the Jaccard index of each two variants.
    """

    sizes: np.ndarray
    jaccard: np.ndarray
    low: np.ndarray
    high: np.ndarray
    lowest: np.ndarray
    chance: np.ndarray
    with_whole: np.ndarray
    rank: np.ndarray
    rank_low: np.ndarray
    rank_high: np.ndarray
    inclusion: np.ndarray
    pairs: np.ndarray


def prompt_counts(
    n: int, templates: np.ndarray | None, n_resamples: int, *, over: str = "prompts", seed: int = 0
) -> np.ndarray:
    """How often each resample holds each prompt: int [B, N].

    Args:
        templates: long [N], or None.
        over: ``prompts``, drawn from all; or ``templates``, drawn whole, with all their prompts.

    Raises:
        Undefined: there is only one prompt, or one template, to draw from.
    """
    generator = np.random.default_rng(seed)
    if n < 2:
        raise Undefined("one prompt cannot be resampled; give two at least.")
    if over == "prompts":
        return resample_counts(n, None, n_resamples, generator)
    group = None if templates is None else np.unique(templates, return_inverse=True)[1]
    if group is None or group.max() < 1:
        raise Undefined("these prompts are of one template, or of none that is named; leave templates out of --over.")
    n_groups = int(group.max()) + 1
    times = generator.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_resamples)
    return times[:, group]


def drawn_units(counts: np.ndarray, templates: np.ndarray | None, *, over: str = "prompts") -> np.ndarray:
    """How often each resample holds each unit that was drawn on its own: int [B, U], from the counts of prompts [B, N].

    Args:
        templates: long [N], or None.
        over: as ``prompt_counts`` was given: U is the number of prompts, or of templates.
    """
    if over == "prompts" or templates is None:
        return counts
    return counts[:, np.unique(templates, return_index=True)[1]]


def resampled(scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The edge scores of each resample [B, E], from those of each prompt [N, E] and the counts [B, N]."""
    return (counts / counts.sum(1, keepdims=True)) @ scores


def stability(
    variants: np.ndarray, whole: np.ndarray, sizes: Sequence[int], counts: np.ndarray | None = None
) -> Stability:
    """Compares the circuits of variants.

    Args:
        variants: float [B, E], the scores of each variant, of which there are two at least.
        whole: float [E], the scores on all prompts.
        sizes: the sizes of the circuits, each from 1 to E.
        counts: int [B, U], how often each resample holds each unit that was drawn, a prompt or a template
            (``drawn_units``); None when the variants are other runs.
    """
    n_edges = variants.shape[1]
    rows = [_of_size(np.abs(variants), np.abs(whole), n, counts) for n in sizes]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    sizes = np.asarray(list(sizes))
    return Stability(sizes=sizes, chance=sizes / (2 * n_edges - sizes), **columns)


def _of_size(variants: np.ndarray, whole: np.ndarray, n: int, counts: np.ndarray | None) -> dict[str, np.ndarray]:
    chosen = top_edges(variants, n)
    reference = top_edges(whole[None], n)[0]
    pairs = jaccard_matrix(chosen)
    off = pairs[np.triu_indices(len(pairs), 1)]
    mean = off.mean()
    error = np.nan if counts is None else sampling_error(pairs, counts)
    shared, either = (chosen & reference).sum(1), (chosen | reference).sum(1)
    ranks = _rank_correlations(variants[:, reference], whole[reference])
    low, high = np.quantile(ranks, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    return {
        "jaccard": mean,
        "low": np.clip(mean - _Z * error, 0, 1),
        "high": np.clip(mean + _Z * error, 0, 1),
        "lowest": np.quantile(off, (1 - _CONFIDENCE) / 2),
        "with_whole": np.where(either > 0, shared / np.maximum(either, 1), 1.0).mean(),
        "rank": ranks.mean(),
        "rank_low": low,
        "rank_high": high,
        "inclusion": chosen.mean(0),
        "pairs": pairs,
    }


def top_edges(values: np.ndarray, n: int) -> np.ndarray:
    """Which n edges of each row have the largest values, ties to the lower index: bool [B, E].

    As in ``recovery``, values are rounded (``floor``, row by row) and values of zero are never chosen, so that fewer
    than n edges may be chosen. Otherwise a ranking by rounding errors alone would seem stable.
    """
    floored = floor(values, axis=1)
    order = np.argsort(-floored, axis=1, kind="stable")[:, :n]
    chosen = np.zeros(values.shape, dtype=bool)
    np.put_along_axis(chosen, order, True, axis=1)
    return chosen & (floored > 0)


def jaccard_matrix(chosen: np.ndarray) -> np.ndarray:
    """The Jaccard index of each two rows of bool [B, E]: float64 [B, B]; 1 for two empty ones."""
    counted = chosen.astype(np.float64)
    shared = counted @ counted.T
    size = counted.sum(1)
    either = size[:, None] + size - shared
    return np.where(either > 0, shared / np.maximum(either, 1), 1.0)


def beside_chance(circuits: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """(the Jaccard index of two circuits, bool [2, E], of the scores [2, E]; that of two random sets of their sizes).

    Edges whose score is zero are left out: nothing but their place chose them. Random sets of a and of b edges, of all
    E, share a b / E edges on average.
    """
    chosen = circuits & (floor(scores, axis=1) != 0)
    a, b = chosen.sum(1).tolist()
    shared = a * b / chosen.shape[1]
    return float(jaccard_matrix(chosen)[0, 1]), shared / (a + b - shared) if a + b else 1.0


def sampling_error(pairs: np.ndarray, counts: np.ndarray) -> float:
    """The standard error over units of the mean of ``pairs`` [B, B] without its diagonal.

    This is the infinitesimal jackknife after bootstrap. A unit's influence is twice the covariance, over resamples
    [B, U], of how often it was drawn with the mean over partners: twice, because both resamples of a pair were drawn.
    The part that is due to the finite number of resamples is subtracted (Wager, Hastie and Efron, 2014, "Confidence
    intervals for random forests"). A unit is what is drawn on its own. Prompts that are drawn together are one unit,
    since they would otherwise be counted several times.
    """
    n_resamples, n = counts.shape
    means = 2 * (pairs.sum(1) - np.diag(pairs)) / (n_resamples - 1)
    means = means - means.mean()
    influence = (counts - counts.mean(0)).T @ means / n_resamples
    variance = np.square(influence).sum() - n / n_resamples * np.square(means).mean()
    return float(np.sqrt(max(variance, 0.0)))


def difference(first: Stability, second: Stability, counts: np.ndarray) -> list[tuple[float, float, float]]:
    """By size, how much more alike the first method's circuits are than the second's: (difference, low, high).

    Both methods have the same resamples ``counts`` [B, U] of drawn units, so that the interval is that of a paired
    comparison.
    """
    found = []
    for one, other in zip(first.pairs, second.pairs, strict=True):
        gap = one - other
        mean = float(gap[np.triu_indices(len(gap), 1)].mean())
        error = sampling_error(gap, counts)
        found.append((mean, mean - _Z * error, mean + _Z * error))
    return found


def _rank_correlations(variants: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each row with ``whole``: float64 [B]; NaN when the correlation is undefined.

    Scores that differ by rounding (``floor``) are tied.
    """
    nothing = np.full(len(variants), np.nan)
    if variants.shape[1] < 2 or not whole.max() > 0:
        return nothing
    variants, whole = floor(variants, axis=1), floor(whole)
    ranks, reference = rankdata(variants, axis=1), rankdata(whole)
    ranks, reference = ranks - ranks.mean(1, keepdims=True), reference - reference.mean()
    norm = np.linalg.norm(ranks, axis=1) * np.linalg.norm(reference)
    return (ranks @ reference) / norm if norm.all() else nothing
