"""The numbers of all circuits in all settings, and what their intervals are computed from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..bootstrap_prompts import bca_interval, resample_counts, simultaneous_interval, split_counts, template_blocks
from .spread import percentiles

if TYPE_CHECKING:
    from .measure import MeasuredGrid

NULL_RESAMPLES = 200
"""Resamples in which the random circuits are computed as well: a percentile's interval needs no more."""


@dataclass(frozen=True, eq=False)
class Estimates:
    """C circuits in D settings on N prompts, resampled B times.

    Args:
        value: float [C, D], faithfulness.
        draws: float [B, C, D], resampled together; B is 0 for a single prompt, and there is no interval.
        influence: float [N, C, D], each prompt's part in the error.
        percentile: float [C, D], the share of random circuits exceeded, 0 to 1; NaN without random circuits.
        percentile_draws: float [B', C, D].
        random: float [C, D, 3], the 5th, 50th and 95th percentile of the random circuits' faithfulness.
        blocks: long [N], the templates when these are resampled; else None.
    """

    value: np.ndarray
    draws: np.ndarray
    influence: np.ndarray
    percentile: np.ndarray
    percentile_draws: np.ndarray
    random: np.ndarray
    blocks: np.ndarray | None

    @cached_property
    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """95 % BCa intervals of the values, each setting by itself: (low, high), each [C, D]."""
        return bca_interval(self.value, self.draws, self.block_sums(self.influence))

    @cached_property
    def simultaneous(self) -> tuple[np.ndarray, np.ndarray]:
        """95 % intervals that hold in all settings at once, each circuit by itself: (low, high), each [C, D]."""
        ends = [simultaneous_interval(value, self.draws[:, c]) for c, value in enumerate(self.value)]
        return np.stack([low for low, _ in ends]), np.stack([high for _, high in ends])

    def block_sums(self, influence: np.ndarray) -> np.ndarray:
        """Influence added up within the blocks that are resampled: [n_blocks, ...] from [N, ...]."""
        if self.blocks is None:
            return influence
        sums = np.zeros((int(self.blocks.max()) + 1, *influence.shape[1:]))
        np.add.at(sums, self.blocks, influence)
        return sums


def estimate(grid: MeasuredGrid, *, resamples: int = 1000, seed: int = 0) -> Estimates:
    """The estimates of a measured grid that has at least one setting with a value. The resamples are seeded."""
    generator = np.random.default_rng(seed)
    counts = resample_counts(grid.n_prompts, grid.templates, resamples, generator)
    split = {1: counts[..., None]}
    found: dict[str, list[np.ndarray]] = {
        name: [] for name in ("value", "draws", "influence", "percentile", "percentile_draws", "random")
    }
    for cell in grid.cells:
        runs = cell.scores.n_runs
        if runs not in split:  # the prompts that all numbers are resampled over, and a run for each of them
            split[runs] = split_counts(counts, runs, generator)
        everyone = cell.scores.values()
        own = cell.scores.first(grid.n_circuits)
        with_null = cell.scores.values(split[runs][:NULL_RESAMPLES])
        found["value"].append(everyone[0, : grid.n_circuits])
        found["draws"].append(own.values(split[runs]))
        found["influence"].append(own.influence())
        found["percentile"].append(_percentiles(everyone, cell.null)[0])
        found["percentile_draws"].append(_percentiles(with_null, cell.null))
        found["random"].append(_quantiles(everyone[0], cell.null))
    stacked = {name: np.stack(parts, -2 if name == "random" else -1) for name, parts in found.items()}
    return Estimates(**stacked, blocks=template_blocks(grid.templates))


def _percentiles(values: np.ndarray, null: tuple[range, ...]) -> np.ndarray:
    """The percentile of each circuit among its random circuits: [B, C] from values of all circuits [B, rows]."""
    return np.stack(
        [percentiles(values[:, [c]], values[:, list(rows), None])[:, 0] for c, rows in enumerate(null)], axis=1
    )


def _quantiles(values: np.ndarray, null: tuple[range, ...]) -> np.ndarray:
    """The 5th, 50th and 95th percentile of each circuit's random ones: [C, 3] from values [rows]."""
    found = np.full((len(null), 3), np.nan)
    for c, rows in enumerate(null):
        known = values[list(rows)]
        known = known[~np.isnan(known)]
        if known.size:
            found[c] = np.quantile(known, [0.05, 0.5, 0.95])
    return found
