"""Runs circuits, and random circuits of their sizes, in every setting of a grid that has a meaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from torch import Tensor

from ...circuit import Circuit
from ...data import Data
from ...intervention.faithfulness import REFERENCE_NAMES, CircuitValues, measure_by_each
from ...intervention.levels import Component
from ...intervention.objective import OBJECTIVES, Objective
from ...intervention.setting import Cut, Setting
from ...model.transformer import Transformer
from ..null import random_circuits, size_of
from .scores import Scores


class Measure(Protocol):
    """Runs circuits in a cut: a value of each circuit by each objective."""

    def __call__(
        self, circuits: Sequence[Circuit], cut: Cut, objectives: Sequence[Objective], *, seed: int
    ) -> list[CircuitValues]: ...


@dataclass(frozen=True, eq=False)
class MeasuredSetting:
    """A setting in which every circuit has a value.

    Args:
        setting: the setting.
        scores: the scores of the circuits and, after them, of random circuits.
        null: for each circuit, the rows of ``scores`` that are random circuits of its size; may be empty.
        nothing_cut: for each circuit, whether it keeps every edge in this setting, so that it is the whole model.
    """

    setting: Setting
    scores: Scores
    null: tuple[range, ...]
    nothing_cut: tuple[bool, ...]


@dataclass(frozen=True, eq=False)
class MeasuredGrid:
    """The settings that have a value, and why the others do not."""

    cells: tuple[MeasuredSetting, ...]
    undefined: dict[Setting, str]
    n_circuits: int
    n_prompts: int
    templates: np.ndarray | None


def measure_grid(
    model: Transformer,
    data: Data,
    circuits: Sequence[Circuit],
    settings: Sequence[Setting],
    *,
    n_random: int = 100,
    n_pairings: int = 3,
    seed: int = 0,
    measure: Measure | None = None,
) -> MeasuredGrid:
    """Measures ``circuits`` in ``settings``: all circuits and all objectives of a cut in one run.

    Args:
        circuits: one circuit at least, of the graph of ``model``.
        settings: the settings of the grid, each once.
        n_random: the number of random connected circuits of each size, from which percentiles are computed; may be 0.
        n_pairings: the number of seeds with which a random ablation (``resample``, ``noise``) is run.
        seed: the seed of random circuits and pairings.
        measure: runs circuits in a cut, as ``measure_by_each`` does on ``model`` and ``data``.
    """
    measure = measure or partial(measure_by_each, model, data)
    undefined = {setting: setting.undefined(data, model) for setting in settings}
    by_cut: dict[Cut, list[Setting]] = {}
    for setting in settings:
        if undefined[setting] is None:
            by_cut.setdefault(setting.cut, []).append(setting)
    drawn: dict[tuple[Component, int], list[Circuit]] = {}
    cells = []
    for cut, wanted in by_cut.items():
        rows, null = _with_null(circuits, cut.component, n_random, seed, drawn)
        nothing_cut = tuple(cut.cuts_nothing(circuit) for circuit in circuits)
        names = list(dict.fromkeys(setting.objective for setting in wanted))
        seeds = range(seed, seed + (n_pairings if cut.ablation.stochastic else 1))
        objectives = [OBJECTIVES.get(name) for name in names]
        runs = [measure(rows, cut, objectives, seed=each) for each in seeds]
        for setting in wanted:
            found = [run[names.index(setting.objective)] for run in runs]
            undefined[setting] = _unusable(found, setting)
            if undefined[setting] is None:
                cells.append(MeasuredSetting(setting, Scores.of(found, setting), null, nothing_cut))
    return MeasuredGrid(
        tuple(cells),
        {setting: reason for setting, reason in undefined.items() if reason is not None},
        len(circuits),
        data.n,
        _numpy(data.templates),
    )


def _with_null(
    circuits: Sequence[Circuit],
    component: Component,
    n_random: int,
    seed: int,
    drawn: dict[tuple[Component, int], list[Circuit]],
) -> tuple[list[Circuit], tuple[range, ...]]:
    """The circuits, followed by random circuits of their sizes, and the rows of the random circuits of each."""
    rows, of_size, null = list(circuits), {0: range(0)}, []
    for circuit in circuits:
        size = size_of(circuit, component)
        if size not in of_size:
            if (component, size) not in drawn:
                drawn[component, size] = random_circuits(circuit.graph, size, n_random, component=component, seed=seed)
            of_size[size] = range(len(rows), len(rows) + n_random)
            rows += drawn[component, size]
        null.append(of_size[size])
    return rows, tuple(null)


def _unusable(runs: Sequence[CircuitValues], setting: Setting) -> str | None:
    """Why the measurements in this setting are of no use, or None."""
    for run in runs:
        if reason := run.undefined(setting.reference):
            return f"{reason}, so that there is no share of their distance"
    if any(run.uncertain(setting.reference) for run in runs):
        return (
            f"on these prompts the full model's {setting.objective} cannot be told from that of "
            f"{REFERENCE_NAMES[setting.reference]}, so a share of their distance says nothing"
        )
    return None


def _numpy(templates: Tensor | None) -> np.ndarray | None:
    return None if templates is None else templates.numpy()
