"""Does a circuit stand when parts of the rest are cut? Cutting all of it is one choice; effects may cancel in it.

The worst subset is looked for by a search that is stated here, on the prompts of the search, and judged on others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ...circuit import Circuit
from ...data import Data
from ...intervention.ablation import Ablation
from ...intervention.evaluator import Evaluator
from ...intervention.objective import Objective
from ...model.transformer import Transformer
from ..bootstrap_prompts import resample_counts
from .controls_found import ComplementFound

BLOCKS = 512
"""Up to so many edges of the complement each is a block of its own; of more, all that leave one node are one."""

ROUNDS = 10
_RESAMPLES = 1000
_AT_ONCE = 256

_Faithfulness = Callable[[Tensor], np.ndarray]
"""Of subsets that are cut, bool [C, W, R]: the circuit's faithfulness, float64 [C]."""


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
) -> ComplementFound:
    """The faithfulness of a circuit with the whole complement cut, with random halves of it, and with the worst subset.

    Faithfulness is (mean value with the subset cut - everything cut) / (whole model - everything cut): 1 where cutting
    the subset changes nothing.

    Args:
        data: the prompts of the search.
        held_out: the prompts on which the worst subset is judged.
        subsets: random halves; the search begins with the worst of them and with the whole complement.
        seed: of the halves, of what the ablation draws, and of the bootstrap over prompts.
    """
    rest = model.graph.exists & ~circuit.edges
    blocks = blocks_of(rest)
    if not len(blocks):
        return ComplementFound(undefined="the circuit is the whole graph; it has no complement")
    searched = _Scale(model, data, ablation, objective, seed)
    if searched.undefined:
        return ComplementFound(undefined=searched.undefined)
    drawn = torch.rand(subsets, len(blocks), generator=torch.Generator().manual_seed(seed)) < 0.5
    chosen, worst, evaluated = worst_subset(searched.faithfulness, blocks, drawn)
    halves = searched.faithfulness(subset_of(blocks, drawn)) if subsets else np.array([np.nan])
    judged = _Scale(model, held_out, ablation, objective, seed)
    if judged.undefined:
        return ComplementFound(undefined=judged.undefined)
    whole, found = (judged.by_prompt(edges[None])[0] for edges in (rest, chosen))
    low, high = judged.interval(found, seed)
    return ComplementFound(
        whole=float(judged.ratio(whole)),
        random=float(halves.mean()),
        random_low=float(np.quantile(halves, 0.025)),
        random_high=float(np.quantile(halves, 0.975)),
        worst=float(judged.ratio(found)),
        low=low,
        high=high,
        searched=worst,
        edges=int(chosen.sum()),
        of=int(rest.sum()),
        evaluated=evaluated,
    )


def blocks_of(rest: Tensor) -> Tensor:
    """What the search puts in or takes out as one, of the complement bool [W, R]: bool [K, W, R]."""
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


def worst_subset(faithfulness: _Faithfulness, blocks: Tensor, drawn: Tensor) -> tuple[Tensor, float, int]:
    """(the subset of lowest faithfulness that was found, bool [W, R]; its faithfulness; how many were tried).

    It begins with the lowest of the subsets drawn, bool [C, K], and of all blocks together. Each round tries every
    block alone, in or out; then all changes that lower it together, and takes that or the best change alone, whichever
    is lower. It ends when none is, or after ``ROUNDS``.
    """
    starts = torch.cat([torch.ones(1, len(blocks), dtype=torch.bool), drawn])
    values = faithfulness(subset_of(blocks, starts))
    evaluated, best = len(starts), int(np.argmin(values))
    current, lowest = starts[best], float(values[best])
    for _ in range(ROUNDS):
        flipped = current ^ torch.eye(len(blocks), dtype=torch.bool)
        values = faithfulness(subset_of(blocks, flipped))
        helping = torch.from_numpy(values < lowest - 1e-9)
        evaluated += len(flipped)
        if not helping.any():
            break
        together = current ^ helping
        of_together = float(faithfulness(subset_of(blocks, together[None]))[0])
        evaluated += 1
        best = int(np.argmin(values))
        alone = float(values[best])
        current, lowest = (together, of_together) if of_together < alone else (flipped[best], alone)
    return subset_of(blocks, current[None])[0], lowest, evaluated


class _Scale:
    """The faithfulness of cuts on some prompts: values of the whole model, and with everything cut, taken once."""

    def __init__(self, model: Transformer, data: Data, ablation: Ablation, objective: Objective, seed: int) -> None:
        self.evaluator, self.objective, self.exists = (
            Evaluator(model, data, ablation, objective, seed=seed),
            objective,
            model.graph.exists,
        )
        self.full, self.empty = self.by_prompt(torch.stack([self.exists & False, self.exists]))
        whole = float((self.full - self.empty).mean())
        size = float((self.full.abs() + self.empty.abs()).mean()) / 2
        self.undefined = (
            "the objective of the full model is that of the wholly cut graph up to rounding"
            if abs(whole) <= 1e-5 * size
            else None
        )

    def by_prompt(self, cut: Tensor) -> Tensor:
        """The objective's value on each prompt with the edges cut, bool [C, W, R]: float64 [C, N]."""
        parts = [self.evaluator.per_example(self.exists & ~part) for part in cut.split(_AT_ONCE)]
        return self.objective.value(torch.cat(parts))

    def ratio(self, values: Tensor) -> np.ndarray:
        """Faithfulness of values [..., N]: float64 [...]."""
        return ((values - self.empty).mean(-1) / (self.full - self.empty).mean(-1)).numpy()

    def faithfulness(self, cut: Tensor) -> np.ndarray:
        """Of the circuit that is left when the edges bool [C, W, R] are cut."""
        return self.ratio(self.by_prompt(cut))

    def interval(self, values: Tensor, seed: int) -> tuple[float, float]:
        """The 95 % bootstrap interval over prompts of the faithfulness of values [N]."""
        return interval_over_prompts([(values, self.empty, self.full)], seed)


def interval_over_prompts(parts: Sequence[tuple[Tensor, Tensor, Tensor]], seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of a faithfulness, or of the first less the second, over the same prompts drawn.

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
