"""Whether the settings agree about which of several circuits is better, for the card."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..bootstrap_prompts import bca_interval, simultaneous_interval
from .card_model import NAN, CircuitComparison, PairOfCircuits
from .design import Design
from .estimate import Estimates
from .ranks import kendall_matrix, kendall_w, pairs, reversals

_DIGITS = 6
"""Values that agree to so many digits are tied: the rest is rounding."""


def comparison(estimates: Estimates, design: Design, names: Sequence[str]) -> CircuitComparison:
    """How circuits called ``names`` rank in each setting, and how often two settings contradict each other.

    A reversal is a pair of circuits and a pair of settings with opposite signs of the difference. Raw ones count every
    sign; significant ones only those whose paired 95 % intervals exclude zero, setting by setting; simultaneous ones
    those whose intervals hold in all settings at once.
    """
    value = np.round(estimates.value, _DIGITS)
    pairwise = tuple(_pair(estimates, design, names, first, second) for first, second in pairs(len(names)))
    n = sum(pair.setting_pairs for pair in pairwise)
    above = (value[:, None] < value[None]).sum(1)
    tied = (value[:, None] == value[None]).sum(1)  # a setting's agreement with itself
    ranks = above + (tied + 1) / 2
    best = np.where(above == 0, 1 / tied, 0.0)  # circuits that share the first place share its weight
    return CircuitComparison(
        pairs=pairwise,
        setting_pairs=n,
        reversals_raw_rate=sum(pair.reversals_raw for pair in pairwise) / n if n else NAN,
        reversals_significant_rate=sum(pair.reversals_significant for pair in pairwise) / n if n else NAN,
        reversals_simultaneous_rate=sum(pair.reversals_simultaneous for pair in pairwise) / n if n else NAN,
        kendall_w=kendall_w(value),
        kendall_tau=between_levels(design, kendall_matrix(value)),
        ranks={name: tuple(row.tolist()) for name, row in zip(names, ranks, strict=True)},
        best={name: float(row @ design.weights) for name, row in zip(names, best, strict=True)},
        best_in={name: int((row == 0).sum()) for name, row in zip(names, above, strict=True)},
    )


def _pair(estimates: Estimates, design: Design, names: Sequence[str], first: int, second: int) -> PairOfCircuits:
    difference = estimates.value[first] - estimates.value[second]
    draws = estimates.draws[:, first] - estimates.draws[:, second]
    influence = estimates.block_sums(estimates.influence[:, first] - estimates.influence[:, second])
    apart, together = (
        [np.round(end, _DIGITS) for end in ends]
        for ends in (bca_interval(difference, draws, influence), simultaneous_interval(difference, draws))
    )
    difference = np.round(difference, _DIGITS)
    counted, strict = (reversals(difference[None], low[None], high[None]) for low, high in (apart, together))
    return PairOfCircuits(
        first=names[first],
        second=names[second],
        difference=difference.tolist(),
        low=apart[0].tolist(),
        high=apart[1].tolist(),
        first_better=float(design.weights[apart[0] > 0].sum()),
        second_better=float(design.weights[apart[1] < 0].sum()),
        setting_pairs=counted.n,
        reversals_raw=counted.raw,
        reversals_significant=counted.significant,
        reversals_simultaneous=strict.significant,
    )


def between_levels(design: Design, tau: np.ndarray) -> dict[str, dict[str, dict[str, float]]]:
    """Mean Kendall's tau-b between settings that differ in one factor only: by factor, level and level.

    NaN when no two settings differ in one factor only, or when they tie all circuits.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for k in design.varying:
        rest = np.delete(design.codes, k, axis=1)
        alike = (rest[:, None] == rest[None]).all(-1) & ~np.isnan(tau)
        of_factor = found.setdefault(design.factors[k], {})
        for code, level in enumerate(design.levels[k]):
            for other_code, other in enumerate(design.levels[k]):
                here, there = design.codes[:, k] == code, design.codes[:, k] == other_code
                chosen = tau[alike & here[:, None] & there[None]]
                of_factor.setdefault(level, {})[other] = float(chosen.mean()) if chosen.size else float("nan")
    return found
