"""The card: everything this analysis says about circuits in a grid of settings, as plain values.

Its keys are a promise to scripts; ``circuitmeter sensitivity`` writes it as ``card.json``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...intervention.setting import FACTORS
from .comparison import comparison
from .design import Design, LevelWeights
from .estimate import Estimates
from .measure import MeasuredGrid
from .shares import decomposition, source_shares
from .spread import flips, spread

ABOVE_RANDOM = 0.95
"""A circuit that exceeds this share of the random circuits of its size is told apart from them."""


def card(
    grid: MeasuredGrid,
    estimates: Estimates,
    names: Sequence[str],
    *,
    threshold: float,
    level_weights: LevelWeights | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The card of circuits called ``names`` (as many as the grid's, in order); numbers are floats, NaN where unknown.

    Args:
        threshold: the faithfulness from which somebody would call a circuit faithful.
        level_weights: see ``Design.of``; those of levels without any value are of no use and left out.
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
    found = {
        "prompts": grid.n_prompts,
        "templates": 0 if grid.templates is None else len(np.unique(grid.templates)),
        "resampled": "prompts" if blocks is None else "templates, and prompts within each",
        "settings": {
            "n": len(grid.cells),
            "complete": design.complete,
            "levels": {factor: list(levels) for factor, levels in zip(FACTORS, design.levels, strict=True)},
            "weights": design.marginals,
            "level_weights": design.level_weights,
        },
        "undefined": by_reason(grid),
        "circuits": [
            _of_circuit(grid, estimates, design, c, threshold=threshold, seed=seed) | {"name": name}
            for c, name in enumerate(names)
        ],
    }
    return found | {"comparison": comparison(estimates, design, names) if len(names) > 1 else None}


def by_reason(grid: MeasuredGrid) -> list[dict[str, Any]]:
    """The settings that have no value, gathered by reason."""
    reasons: dict[str, list[str]] = {}
    for setting, reason in grid.undefined.items():
        reasons.setdefault(reason, []).append(str(setting))
    return [{"reason": reason, "n": len(settings), "settings": settings} for reason, settings in reasons.items()]


def _of_circuit(
    grid: MeasuredGrid, estimates: Estimates, design: Design, c: int, *, threshold: float, seed: int
) -> dict[str, Any]:
    value, (low, high) = estimates.value[c], (ends[c] for ends in estimates.interval)
    part, of_part = design.complete_part(), None
    if not design.complete:
        of_part = decomposition(design.select(part), value[part], estimates, c, part)
    return {
        "values": _values(grid, estimates, c),
        "nothing_cut": sum(cell.nothing_cut[c] for cell in grid.cells),
        "spread": spread(value, design.weights)._asdict(),
        "flips": flips(value, low, high, design.weights, threshold)._asdict(),
        "variance": decomposition(design, value, estimates, c, np.ones_like(part)),
        "variance_of_complete_part": of_part,
        "sources": source_shares(design, value + estimates.influence[:, c], grid.templates, estimates.blocks, seed),
        "random": _against_random(grid, estimates, design, c),
    }


def _values(grid: MeasuredGrid, estimates: Estimates, c: int) -> list[dict[str, Any]]:
    """One entry a setting: its value, 95 % intervals, and where it stands among random circuits."""
    percentile = np.quantile(estimates.percentile_draws[:, c], [0.025, 0.975], axis=0)  # NaN without random circuits
    return [
        {
            "setting": str(cell.setting),
            "levels": {factor: cell.setting.level(factor) for factor in FACTORS},
            "value": float(estimates.value[c, d]),
            "low": float(estimates.interval[0][c, d]),
            "high": float(estimates.interval[1][c, d]),
            "simultaneous_low": float(estimates.simultaneous[0][c, d]),
            "simultaneous_high": float(estimates.simultaneous[1][c, d]),
            "percentile": float(estimates.percentile[c, d]),
            "percentile_low": float(percentile[0, d]),
            "percentile_high": float(percentile[1, d]),
            "random_5": float(estimates.random[c, d, 0]),
            "random_50": float(estimates.random[c, d, 1]),
            "random_95": float(estimates.random[c, d, 2]),
            "nothing_cut": cell.nothing_cut[c],
        }
        for d, cell in enumerate(grid.cells)
    ]


def _against_random(grid: MeasuredGrid, estimates: Estimates, design: Design, c: int) -> dict[str, Any] | None:
    """The same analysis of the percentiles: what is left of the disagreement once each setting has its own scale."""
    percentile = estimates.percentile[c]
    known = ~np.isnan(percentile)
    if not known.any():
        return None
    design = design if known.all() else design.select(known)
    draws = estimates.percentile_draws[:, c, known]
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    above = flips(percentile[known], low, high, design.weights, ABOVE_RANDOM)
    return {
        "n": max(len(cell.null[c]) for cell in grid.cells),
        "spread": spread(percentile[known], design.weights)._asdict(),
        "above": above._asdict(),
        "variance": decomposition(design, percentile[known], estimates, c, known, of_percentiles=True),
    }
