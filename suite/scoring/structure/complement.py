"""Whether a circuit stays faithful when only parts of its complement are cut: effects may cancel when all of it is cut.

The worst subset is found by a search (``worst_subset``) on some prompts, and judged on others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...circuit import Circuit
from ...data import Data
from ...intervention.ablation import Ablation
from ...intervention.faithfulness import CircuitValues, evaluator_of, measure_circuits
from ...intervention.objective import Objective
from ...intervention.setting import Cut
from ...model.transformer import Transformer
from ..bootstrap_prompts import resample_counts
from .controls_found import BLOCKS, ROUNDS, ComplementFound

_RESAMPLES = 1000
_AT_ONCE = 256

_Faithfulness = Callable[[Tensor], np.ndarray]
"""Takes the subsets that are cut, bool [C, W, R], and returns the faithfulness of the circuit, float64 [C]."""


def complement_cuts(
    model: Transformer,
    data: Data,
    held_out: Data,
    circuit: Circuit,
    ablation: Ablation,
    objective: Objective,
    *,
    subsets: int = 64,
    seed: int = 0,
    batch_size: int | None = None,
) -> ComplementFound:
    """The faithfulness of a circuit with the whole complement cut, with random halves of it, and with the worst subset.

    Faithfulness is that of evaluations (``intervention.faithfulness``), of the circuit that is left when the subset is
    cut, without dead ends: 1 where cutting the subset changes nothing.

    Args:
        data: the prompts of the search.
        held_out: the prompts on which all three are judged.
        subsets: the number of random halves. The search begins with the worst of them or with the whole complement.
        seed: of the halves, of what the ablation draws, and of the bootstrap over prompts.
        batch_size: prompts at a time; chosen from the model's size when omitted.
    """
    rest = model.graph.exists & ~circuit.edges
    blocks = blocks_of(rest)
    if not len(blocks):
        return ComplementFound(undefined="the circuit is the whole graph; it has no complement")
    searched, judged = (
        _Scale(model, prompts, circuit, ablation, objective, seed=seed, batch_size=batch_size)
        for prompts in (data, held_out)
    )
    if reason := searched.undefined or judged.undefined:
        return ComplementFound(undefined=reason)
    drawn = torch.rand(subsets, len(blocks), generator=torch.Generator().manual_seed(seed)) < 0.5
    chosen, worst, evaluated = worst_subset(searched.faithfulness, blocks, drawn, searched.step)
    halves = judged.faithfulness(subset_of(blocks, drawn)) if subsets else np.array([np.nan])
    found = judged.measured(chosen[None])
    low, high = interval_over_prompts([(found.circuits[0], found.reference("cut-graph"), found.full)], seed)
    return ComplementFound(
        whole=float(judged.own.faithfulness()[0]),
        random=float(halves.mean()),
        random_low=float(np.quantile(halves, 0.025)),
        random_high=float(np.quantile(halves, 0.975)),
        worst=float(found.faithfulness()[0]),
        low=low,
        high=high,
        searched=worst,
        edges=int(chosen.sum()),
        of=int(rest.sum()),
        evaluated=evaluated,
    )


def blocks_of(rest: Tensor) -> Tensor:
    """The parts of the complement, bool [W, R], that the search adds or removes as a whole: bool [K, W, R]."""
    places = rest.nonzero()
    if len(places) <= BLOCKS:
        blocks = torch.zeros(len(places), *rest.shape, dtype=torch.bool)
        blocks[torch.arange(len(places)), places[:, 0], places[:, 1]] = True
        return blocks
    writers = rest.any(1).nonzero()[:, 0]
    blocks = torch.zeros(len(writers), *rest.shape, dtype=torch.bool)
    blocks[torch.arange(len(writers)), writers] = rest[writers]
    return blocks


def subset_of(blocks: Tensor, chosen: Tensor) -> Tensor:
    """The edges of the chosen blocks: bool [C, W, R] from bool [K, W, R] and bool [C, K]."""
    flat = chosen.float() @ blocks.flatten(1).float()
    return (flat > 0).view(len(chosen), *blocks.shape[1:])


def worst_subset(faithfulness: _Faithfulness, blocks: Tensor, drawn: Tensor, step: float) -> tuple[Tensor, float, int]:
    """(the subset of lowest faithfulness that was found, bool [W, R]; its faithfulness; how many were tried).

    The search begins with the subset of lowest faithfulness among those drawn, bool [C, K], and all blocks together.
    Each round adds or removes every block alone, then makes all changes that lowered the faithfulness together, and
    keeps the lower of this and the best single change. The search ends when no change lowers the faithfulness, or after
    ``ROUNDS``. Rounding can change a faithfulness by ``step``: of those within a step of the lowest the first is taken,
    and what lowers it by no more changes nothing.
    """

    def tried(chosen: Tensor) -> np.ndarray:
        return faithfulness(subset_of(blocks, chosen))

    def lowest(values: np.ndarray) -> int:
        return int(np.flatnonzero(values <= values.min() + step)[0])

    starts = torch.cat([torch.ones(1, len(blocks), dtype=torch.bool), drawn])
    values = tried(starts)
    evaluated, best = len(starts), lowest(values)
    current, value = starts[best], float(values[best])
    for _ in range(ROUNDS):
        flipped = current ^ torch.eye(len(blocks), dtype=torch.bool)
        values = tried(flipped)
        helping = torch.from_numpy(values < value - step)
        evaluated += len(flipped)
        if not helping.any():
            break
        together = current ^ helping
        of_together = float(tried(together[None])[0])
        evaluated += 1
        best = lowest(values)
        current, value = flipped[best], float(values[best])
        if of_together < value - step:
            current, value = together, of_together
    return subset_of(blocks, current[None])[0], value, evaluated


class _Scale:
    """The faithfulness of a circuit on some prompts, and of what is left when parts of its complement are cut.

    It is ``measure_circuits``'s: the same masks, the same reference point, and undefined where that is.
    """

    def __init__(
        self,
        model: Transformer,
        data: Data,
        circuit: Circuit,
        ablation: Ablation,
        objective: Objective,
        *,
        seed: int,
        batch_size: int | None,
    ) -> None:
        self.graph, self.cut, self.objective = model.graph, Cut(ablation), objective
        self.own = measure_circuits(model, data, [circuit], self.cut, objective, seed=seed, batch_size=batch_size)
        self.evaluator = evaluator_of(model, data, self.cut, objective, seed=seed, batch_size=batch_size)
        self.undefined = self.own.undefined("cut-graph")

    def measured(self, cut: Tensor) -> CircuitValues:
        """The circuits that are left when the edges bool [C, W, R] are cut of the whole graph."""
        values = []
        for part in cut.split(_AT_ONCE):
            masks = self.cut.masks([Circuit(self.graph, self.graph.exists & ~edges) for edges in part])
            values.append(self.objective.value(self.evaluator.per_example(masks)))
        return replace(self.own, circuits=torch.cat(values))

    def faithfulness(self, cut: Tensor) -> np.ndarray:
        """The faithfulness of the circuits that are left when ``cut``, bool [C, W, R], is cut: float64 [C]."""
        return self.measured(cut).faithfulness().numpy()

    @property
    def step(self) -> float:
        """How far faithfulness can differ by rounding: ``CircuitValues.rounding`` of the size of the values, as a share
        of the distance between the full model's and the reference's."""
        full, empty = self.own.full, self.own.reference("cut-graph")
        size = float((full.abs() + empty.abs()).mean()) / 2
        return self.own.rounding * size / abs(float((full - empty).mean()))


def interval_over_prompts(parts: Sequence[tuple[Tensor, Tensor, Tensor]], seed: int = 0) -> tuple[float, float]:
    """The 95 % bootstrap interval over prompts of a faithfulness, or of the difference of two in the same resamples.

    Args:
        parts: one or two of (the circuit's values, those with everything cut, the full model's), each [N].
    """
    n = len(parts[0][0])
    counts = torch.from_numpy(resample_counts(n, None, _RESAMPLES, np.random.default_rng(seed))).double()
    draws = [(counts @ (values - empty)) / (counts @ (full - empty)) for values, empty, full in parts]
    drawn = (draws[0] if len(draws) == 1 else draws[0] - draws[1]).numpy()
    drawn = drawn[np.isfinite(drawn)]
    if not drawn.size:
        return float("nan"), float("nan")
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)
