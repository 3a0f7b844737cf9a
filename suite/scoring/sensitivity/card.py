"""The card: everything this analysis says about circuits in a grid of settings (``card_model`` says what each is)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...intervention.levels import FACTORS
from ..bootstrap_prompts import quantile_interval
from .card_model import (
    AgainstRandom,
    CircuitVerdict,
    GridVerdicts,
    SettingCounts,
    Settings,
    SettingValue,
    UndefinedSettings,
)
from .comparison import comparison
from .design import Design, LevelWeights
from .estimate import Estimates
from .rule import verdict_rule
from .shares import decomposition, source_shares
from .spread import flips, spread_of_faithfulness

if TYPE_CHECKING:
    from .measure import MeasuredGrid

ABOVE_RANDOM = 0.95
"""A circuit that exceeds this share of the random circuits of its size is told apart from them."""

ENOUGH_RANDOM = 20
"""Random circuits, of which one is a share of 5 %. Of fewer, a circuit that is told apart exceeds all."""


def grid_verdicts(
    grid: MeasuredGrid,
    estimates: Estimates,
    names: Sequence[str],
    *,
    threshold: float,
    level_weights: LevelWeights | None = None,
    seed: int = 0,
) -> GridVerdicts:
    """The verdicts on the circuits of the grid, which are called ``names``, in order.

    Args:
        threshold: the faithfulness from which on a circuit is called faithful.
        level_weights: see ``Design.of``. Weights of levels that have no value are left out.
    """
    rows = [[cell.setting.level(factor) for factor in FACTORS] for cell in grid.cells]
    there = {
        factor: {
            level: weight for level, weight in given.items() if any(level == row[FACTORS.index(factor)] for row in rows)
        }
        for factor, given in (level_weights or {}).items()
    }
    design = Design.of(FACTORS, rows, there)
    blocks = estimates.blocks
    return GridVerdicts(
        prompts=grid.n_prompts,
        templates=0 if grid.templates is None else len(np.unique(grid.templates)),
        resampled="prompts" if blocks is None else "templates, and prompts within each",
        settings=Settings(
            n=len(grid.cells),
            complete=design.complete,
            levels=dict(zip(FACTORS, design.levels, strict=True)),
            weights=design.marginals,
            level_weights={factor: dict(given) for factor, given in design.level_weights.items()},
        ),
        undefined=by_reason(grid),
        circuits=tuple(
            _of_circuit(grid, estimates, design, c, name, threshold=threshold, seed=seed)
            for c, name in enumerate(names)
        ),
        comparison=comparison(estimates, design, names) if len(names) > 1 else None,
    )


def by_reason(grid: MeasuredGrid) -> tuple[UndefinedSettings, ...]:
    """The settings that have no value, gathered by reason."""
    reasons: dict[str, list[str]] = {}
    for setting, reason in grid.undefined.items():
        reasons.setdefault(reason, []).append(str(setting))
    return tuple(
        UndefinedSettings(reason=why, n=len(settings), settings=tuple(settings)) for why, settings in reasons.items()
    )


def _of_circuit(
    grid: MeasuredGrid, estimates: Estimates, design: Design, c: int, name: str, *, threshold: float, seed: int
) -> CircuitVerdict:
    value, (low, high) = estimates.value[c], (ends[c] for ends in estimates.interval)
    part, of_part = design.complete_part(), None
    if not design.complete:
        of_part = decomposition(design.select(part), value[part], estimates, c, part)
    values = _values(grid, estimates, c)
    return CircuitVerdict(
        name=name,
        values=values,
        nothing_cut=sum(cell.nothing_cut[c] for cell in grid.cells),
        spread=spread_of_faithfulness(value, design.weights),
        flips=flips(value, low, high, design.weights, threshold),
        variance=decomposition(design, value, estimates, c, np.ones_like(part)),
        variance_of_complete_part=of_part,
        counts=SettingCounts.of((entry.interval for entry in values), threshold),
        rule=verdict_rule(values, threshold),
        sources=source_shares(design, value + estimates.influence[:, c], grid.templates, estimates.blocks, seed),
        random=_against_random(grid, estimates, design, c),
    )


def _values(grid: MeasuredGrid, estimates: Estimates, c: int) -> tuple[SettingValue, ...]:
    """One entry per setting: its value, 95 % intervals, and its percentile among random circuits."""
    percentile = np.stack(quantile_interval(estimates.percentile_draws[:, c]))  # NaN without random circuits
    return tuple(
        SettingValue(
            setting=str(cell.setting),
            levels={factor: cell.setting.level(factor) for factor in FACTORS},
            value=float(estimates.value[c, d]),
            low=float(estimates.interval[0][c, d]),
            high=float(estimates.interval[1][c, d]),
            simultaneous_low=float(estimates.simultaneous[0][c, d]),
            simultaneous_high=float(estimates.simultaneous[1][c, d]),
            percentile=float(estimates.percentile[c, d]),
            percentile_low=float(percentile[0, d]),
            percentile_high=float(percentile[1, d]),
            random_5=float(estimates.random[c, d, 0]),
            random_50=float(estimates.random[c, d, 1]),
            random_95=float(estimates.random[c, d, 2]),
            nothing_cut=cell.nothing_cut[c],
        )
        for d, cell in enumerate(grid.cells)
    )


def _against_random(grid: MeasuredGrid, estimates: Estimates, design: Design, c: int) -> AgainstRandom | None:
    """The same analysis of the percentiles: the disagreement that is left when each setting has its own scale."""
    percentile = estimates.percentile[c]
    known = ~np.isnan(percentile)
    if not known.any():
        return None
    design = design if known.all() else design.select(known)
    draws = estimates.percentile_draws[:, c, known]
    low, high = quantile_interval(draws)
    n = max(len(cell.null[c]) for cell in grid.cells)
    above = flips(percentile[known], low, high, design.weights, ABOVE_RANDOM if n >= ENOUGH_RANDOM else 1.0)
    return AgainstRandom(
        n=n,
        spread=spread_of_faithfulness(percentile[known], design.weights),
        above=above,
        variance=decomposition(design, percentile[known], estimates, c, known, of_percentiles=True),
        counts=SettingCounts.of(zip(percentile[known], low, high, strict=True), above.threshold),
    )
