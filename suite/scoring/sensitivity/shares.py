"""Shares of the variance over settings, corrected for noise, with intervals, for the card."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .card_model import NAN, FactorShare, Interaction, SourceShares, VarianceDecomposition
from .design import Design
from .variance import Effects, VarianceSources, closed_variances, components, effects, noise_variances, sources

if TYPE_CHECKING:
    from .estimate import Estimates

NEGLIGIBLE = 1e-12
"""Variances up to this are rounding: all settings agree."""

SOURCE_RESAMPLES = 200


def decomposition(
    design: Design,
    value: np.ndarray,
    estimates: Estimates,
    c: int,
    settings: np.ndarray,
    *,
    of_percentiles: bool = False,
) -> VarianceDecomposition:
    """How much of the variance of circuit ``c`` over settings is due to each factor.

    Args:
        design: the design of the D' settings that the bool [D] ``settings`` keeps of those of ``estimates``.
        value: float [D'], the values in these settings.
        of_percentiles: whether the values are percentiles among random circuits. The noise's part is then estimated
            from the resamples, because percentiles have no influence function.
    """
    if of_percentiles:
        draws = estimates.percentile_draws[:, c][:, settings]
        return partition(design, value, draws)
    draws = estimates.draws[:, c][:, settings]
    return partition(
        design, value, draws, noise_variances(design, estimates.influence[:, c][:, settings], estimates.blocks)
    )


def partition(
    design: Design, value: np.ndarray, draws: np.ndarray, noise: np.ndarray | None = None
) -> VarianceDecomposition:
    """How much of the variance of ``value`` [D] over the settings is due to each factor.

    Args:
        draws: float [B, D], the values of resamples, from which the shares have their intervals.
        noise: what noise adds to each closed variance; None estimates it from the resamples.
    """
    if noise is None and len(draws) < 2:
        noise = np.full(2 ** len(design.varying), np.nan)
    elif noise is None:
        deviations = (draws - draws.mean(0)) / np.sqrt(len(draws) - 1)
        noise = closed_variances(design, deviations).sum(0)
    naive = closed_variances(design, value)
    corrected = naive - noise
    if np.isnan(noise).any():
        corrected = naive
    of_draws = closed_variances(design, draws[~np.isnan(draws).any(1)])
    # Resamples are noisier than the sample. They are shifted to the corrected estimate and keep their spread.
    of_draws = (of_draws - of_draws.mean(0) + corrected) if len(of_draws) else of_draws
    found, spread = effects(design, corrected), effects(design, of_draws)
    measurable = bool(found.variance > NEGLIGIBLE)
    low, high = _ends(spread.variance)
    return VarianceDecomposition(
        n_settings=len(value),
        complete=design.complete,
        levels=dict(zip(design.factors, design.levels, strict=True)),
        naive=float(naive[-1]),
        noise=float(noise[-1]),
        variance=float(found.variance),
        variance_low=low,
        variance_high=high,
        beyond_noise=measurable and low > 0,
        factors=tuple(
            FactorShare(
                factor=design.factors[k],
                levels=len(design.levels[k]),
                **(_shares(found, spread, k) if measurable else {}),
            )
            for k in design.varying
        ),
        interactions=_interactions(design, corrected) if design.complete and measurable else None,
    )


def _shares(found: Effects, spread: Effects, k: int) -> dict[str, float]:
    """First-order, total and Shapley shares of factor ``k`` with their intervals, from 0 to 1 as shares are.

    What noise adds is subtracted, so that an estimate may come out beyond; it, and the end of its interval, is then the
    nearest share that there is.
    """
    positive = spread.variance > NEGLIGIBLE
    shares = {}
    for kind in ("first", "total", "shapley"):
        shares[kind] = float(np.clip(getattr(found, kind)[k] / found.variance, 0, 1))
        ends = _ends(np.clip(getattr(spread, kind)[positive, k] / spread.variance[positive], 0, 1))
        shares[f"{kind}_low"], shares[f"{kind}_high"] = ends
    return shares


def _ends(draws: np.ndarray) -> tuple[float, float]:
    if not draws.size:
        return NAN, NAN
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def _interactions(design: Design, closed: np.ndarray) -> tuple[Interaction, ...]:
    """The shares of the interactions of two or more factors in a complete factorial, the largest first."""
    parts = {subset: part / closed[-1] for subset, part in components(design, closed).items() if len(subset) > 1}
    ordered = sorted(parts, key=lambda subset: -parts[subset])
    return tuple(Interaction(factors=subset, share=float(parts[subset])) for subset in ordered)


def source_shares(
    design: Design, scores: np.ndarray, templates: np.ndarray | None, blocks: np.ndarray | None, seed: int
) -> SourceShares:
    """The sources of a single score's variance, and the faithfulness sensitivity index with its interval.

    Args:
        scores: float [N, D], the score of each prompt in each setting.
        templates: long [N], or None.
        blocks: long [N], the blocks of prompts that are resampled together; None resamples single prompts.
    """
    found = sources(design, scores, templates, blocks)
    if not found.method > NEGLIGIBLE:
        return SourceShares(**found._asdict(), fsi=NAN, fsi_low=NAN, fsi_high=NAN)
    generator = np.random.default_rng(seed)
    block = np.arange(len(scores)) if blocks is None else blocks
    members = [np.flatnonzero(block == b) for b in range(int(block.max()) + 1)]

    def resampled() -> VarianceSources:
        drawn = [members[b] for b in generator.integers(len(members), size=len(members))]
        rows = np.concatenate(drawn)
        copies = None if blocks is None else np.repeat(np.arange(len(drawn)), [len(each) for each in drawn])
        return sources(design, scores[rows], None if templates is None else templates[rows], copies)

    draws = np.array([resampled() for _ in range(SOURCE_RESAMPLES)])
    moved = draws - draws.mean(0) + np.array(found)
    low, high = _ends(np.array([VarianceSources(*row).fsi for row in moved if VarianceSources(*row).all > 0]))
    return SourceShares(**found._asdict(), fsi=found.fsi, fsi_low=low, fsi_high=high)
