"""How much of a number's variance over settings is due to each choice.

Everything here rests on one quantity: the closed variance ``c(u) = Var(E[Y | the factors in u])``, a quadratic form of
the values of the settings. On a complete factorial the factors are independent, and the exact functional ANOVA follows
from it (Sobol, 1993): the component of a subset is ``V_u = sum over v in u of (-1)^(|u| - |v|) c(v)``, a factor's
first-order share ``V_k / V``, its total effect ``(V - c(all but k)) / V``, which counts every interaction it takes part
in. On an incomplete grid factors depend on each other, and components may be negative; Shapley effects (Owen, 2014;
Song, Nelson and Staum, 2016) still divide ``V`` completely: a factor gets its mean gain of closed variance over all
orders in which factors become known. On a complete factorial that is ``sum over u with k of V_u / |u|``, which lies
between the first-order and the total effect and is equal to both where there is no interaction.

Values measured on n prompts are noisy, and noise looks like variance between settings. Its expectation is the same
quadratic form of the noise's covariance, so it can be subtracted from every closed variance, and hence from every
component and effect: with prompts as blocks and even weights it takes off (D - 1) / D x residual variance / n.
"""

from __future__ import annotations

from itertools import combinations
from math import factorial
from typing import NamedTuple

import numpy as np

from .design import Design


class Effects(NamedTuple):
    """Variances, in squared units of the values; each with the leading axes of what they were made from.

    Divided by ``variance`` they are the usual shares. They can be negative after the noise is subtracted, because an
    unbiased estimate of a small number sometimes is.
    """

    variance: np.ndarray
    """Total over the settings, [...]."""
    first: np.ndarray
    """Explained by each factor alone, [..., K]."""
    total: np.ndarray
    """Left when all others are known, [..., K]. On an incomplete grid it can be less than ``first``."""
    shapley: np.ndarray
    """[..., K]; they add up to ``variance``."""


def closed_variances(design: Design, values: np.ndarray) -> np.ndarray:
    """``c(u)`` of every subset in the order of ``Design.subsets``: [..., 2^K'] from values [..., D]; c(none) = 0."""
    values = np.asarray(values, dtype=np.float64)
    centred = values - (values @ design.weights)[..., None]
    # Of each group of settings that share the levels of the subset: weight x (mean of the group)^2.
    return np.stack([((centred @ member) ** 2 / member.sum(0)).sum(-1) for member in design.members], axis=-1)


def effects(design: Design, closed: np.ndarray) -> Effects:
    """The variance and each factor's parts of it, from closed variances [..., 2^K'] (corrected for noise or not)."""
    place = {u: i for i, u in enumerate(design.subsets)}
    everything, n = design.varying, len(design.varying)
    shape = (*closed.shape[:-1], len(design.factors))
    first, total, shapley = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for k in everything:
        without = tuple(j for j in everything if j != k)
        first[..., k] = closed[..., place[(k,)]]
        total[..., k] = closed[..., -1] - closed[..., place[without]]
        for u in place:
            if k not in u:
                share = factorial(len(u)) * factorial(n - len(u) - 1) / factorial(n)
                shapley[..., k] += share * (closed[..., place[tuple(sorted((*u, k)))]] - closed[..., place[u]])
    return Effects(closed[..., -1].copy(), first, total, shapley)


def components(design: Design, closed: np.ndarray) -> dict[tuple[str, ...], float]:
    """The functional ANOVA of a complete factorial: the variance of every factor and interaction, by factor names.

    Args:
        closed: [2^K'], of one circuit.
    Raises ValueError on an incomplete grid, where components have no meaning.
    """
    if not design.complete:
        raise ValueError("an incomplete grid has no functional ANOVA; use its Shapley effects.")
    place = {u: i for i, u in enumerate(design.subsets)}
    return {
        tuple(design.factors[k] for k in u): float(
            sum((-1) ** (len(u) - size) * closed[place[v]] for size in range(len(u) + 1) for v in combinations(u, size))
        )
        for u in place
        if u
    }


def noise_variances(design: Design, influence: np.ndarray, blocks: np.ndarray | None = None) -> np.ndarray:
    """What noise adds to each closed variance in expectation: [2^K'], to be subtracted.

    Args:
        influence: float [N, D]: each prompt's part in the error of each setting's value; its mean over prompts is 0.
            For a mean of scores it is the score less the mean, for a ratio of means (a - F b) / mean(b).
        blocks: long [N], which prompts were drawn together (their template); every prompt by itself when omitted.
    Returns NaN with fewer than two blocks, from which the noise cannot be estimated.
    """
    n = len(influence)
    block = np.arange(n) if blocks is None else np.unique(blocks, return_inverse=True)[1]
    n_blocks = int(block.max()) + 1
    if n_blocks < 2:
        return np.full(2 ** len(design.varying), np.nan)
    sums = np.zeros((n_blocks, influence.shape[1]))
    np.add.at(sums, block, np.asarray(influence, dtype=np.float64) / n)
    return n_blocks / (n_blocks - 1) * closed_variances(design, sums).sum(0)


class VarianceSources(NamedTuple):
    """The sources of the variance of a single prompt's score in a single setting. Estimates may be negative."""

    method: float
    """The analyst's choices: the variance over settings, corrected for noise."""
    template: float
    """NaN where prompts have no templates, or one."""
    prompt: float
    residual: float
    """Prompts and templates that react differently to the choices; the same prompt twice in one setting does not
    differ."""

    @property
    def all(self) -> float:
        """The sum of the sources, in which negative and undefined estimates count as 0."""
        return float(sum(max(part, 0.0) for part in self if not np.isnan(part)))

    @property
    def fsi(self) -> float:
        """The share of the variance that is due to the analyst's choices, 0 to 1; NaN when there is no variance."""
        return max(self.method, 0.0) / self.all if self.all > 0 else float("nan")


def sources(
    design: Design, scores: np.ndarray, templates: np.ndarray | None = None, blocks: np.ndarray | None = None
) -> VarianceSources:
    """Variance components of scores of the same prompts in every setting, by the method of moments.

    Args:
        scores: float [N, D], one per prompt and setting (for a ratio of means: its value plus the prompt's influence).
        templates: long [N], the template of each prompt.
        blocks: long [N], which prompts were drawn together, as in ``noise_variances``: what blocks have in common in
            one setting and not in another is noise, and no choice of the analyst's.
    Returns NaN everywhere with fewer than two prompts or blocks.
    """
    scores = np.asarray(scores, dtype=np.float64)
    n, n_settings = scores.shape
    if n < 2 or (blocks is not None and len(np.unique(blocks)) < 2):
        return VarianceSources(*[float("nan")] * 4)
    weights, concentration = design.weights, float(np.sum(design.weights**2))
    means = scores.mean(0)
    method = closed_variances(design, means)[-1] - noise_variances(design, scores - means, blocks)[-1]
    of_prompt = scores @ weights
    template, prompt = _one_way(of_prompt, templates)
    residual = 0.0
    if n_settings > 1 and concentration < 1:
        left = scores - means - (of_prompt - of_prompt.mean())[:, None]
        of_template, of_each = (part @ weights / (1 - concentration) for part in _one_way(left, templates))
        # What templates and prompts are on average over the settings still holds some of how they react to them.
        template, prompt = template - concentration * of_template, prompt - concentration * of_each
        residual = float(of_each if np.isnan(of_template) else of_template + of_each)
    return VarianceSources(float(method), float(template), float(prompt), residual)


def _one_way(values: np.ndarray, groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(variance between groups, variance within) of values [N, ...] by the analysis of variance; sizes may differ.

    Each is [...]; the first is NaN without groups, or where each has one member.
    """
    n = len(values)
    _, group = np.unique(np.zeros(n) if groups is None else groups, return_inverse=True)
    sizes = np.bincount(group)
    if len(sizes) < 2 or len(sizes) == n:
        return np.full(values.shape[1:], np.nan), values.var(axis=0, ddof=1)
    weight = sizes.reshape(-1, *[1] * (values.ndim - 1))
    sums = np.zeros((len(sizes), *values.shape[1:]))
    np.add.at(sums, group, values)
    means = sums / weight
    within = ((values - means[group]) ** 2).sum(0) / (n - len(sizes))
    between = (weight * (means - values.mean(0)) ** 2).sum(0) / (len(sizes) - 1)
    typical = (n - (sizes**2).sum() / n) / (len(sizes) - 1)
    return (between - within) / typical, within
