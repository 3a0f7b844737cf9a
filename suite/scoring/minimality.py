"""Whether a circuit is no larger than it must be: the search for the largest set of its edges that can be removed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from ..circuit import Circuit
from ..data import Data
from ..errors import Undefined
from ..intervention.faithfulness import evaluator_of
from ..intervention.objective import Objective
from ..intervention.setting import Cut
from ..model.transformer import Transformer

_AT_ONCE = 256
"""Most circuits evaluated in one call; it does not change the result."""

ALL_SETS = 10
"""Circuits of so many edges are small enough to try all their subsets."""

LOSS_ROUNDING = 1e-6
"""A change of this share of the scale, or a scale of this share of the scores, is rounding: kernels round otherwise for
one circuit than for many at once, and otherwise on another processor."""

_Change = Callable[[Tensor], Tensor]
"""Takes circuits, bool [C, W, R], and returns how far each is from the given one, float [C]."""


@dataclass(frozen=True, eq=False)
class Minimality:
    """The edges of a circuit that can be removed without changing what it does.

    Args:
        removed: names of the edges, in index order.
        share: the share of the circuit's edges that are removed.
        circuit: the circuit without the removed edges. Cutting any one more edge changes too much.
        change: the change from cutting all of ``removed``, in the unit of the tolerance of ``minimality``.
        largest: whether all sets were tried, so that no larger set can be removed.
        evaluated: how many circuits were evaluated.
    """

    removed: tuple[str, ...]
    share: float
    circuit: Circuit
    change: float
    largest: bool
    evaluated: int


def minimality(
    model: Transformer,
    data: Data,
    circuit: Circuit,
    cut: Cut,
    objective: Objective,
    *,
    tolerance: float = 0.02,
    seed: int = 0,
    batch_size: int | None = None,
) -> Minimality:
    """Searches for the largest set of a circuit's edges that can be removed without changing what the circuit does.

    Args:
        cut: how circuits are run; its component must be ``edge``.
        tolerance: the largest change that counts as no change, beside rounding. A change is the mean over prompts of
            the score's absolute change, divided by that between the full model and the graph in which everything is
            cut.
        batch_size: prompts at a time; chosen from the model's size when omitted. It changes the result where a mean is
            over the batch.

    Raises:
        Undefined: another component, a cut that has no meaning on this data, or one that changes no score.
    """
    if cut.component != "edge":
        raise Undefined(f"edges are not cut one by one when the component is {cut.component}; use component edge.")
    evaluator = evaluator_of(model, data, cut, objective, seed=seed, batch_size=batch_size)
    whole, nothing = (Circuit(circuit.graph, edges) for edges in (circuit.graph.exists, circuit.graph.exists & False))
    full, empty, own = evaluator.per_example(cut.masks([whole, nothing, circuit]))
    scale = (full - empty).abs().mean()
    if scale <= LOSS_ROUNDING * full.abs().mean():
        raise Undefined(f"cutting every edge changes no {objective.name}, so no change can be called small.")

    def change(circuits: Tensor) -> Tensor:
        masks = cut.masks([Circuit(circuit.graph, edges) for edges in circuits])
        return (evaluator.per_example(masks) - own).abs().mean(1) / scale

    return (all_sets if circuit.n_edges <= ALL_SETS else greedily)(circuit, change, tolerance)


def all_sets(circuit: Circuit, change: _Change, tolerance: float) -> Minimality:
    """Tries every subset of the edges, smallest first, until one stays within the tolerance.

    Of the subsets of that size, the one that changes least is kept.
    """
    where, evaluated = circuit.edges.nonzero(), 0
    for size in range(len(where) + 1):
        chosen = torch.tensor(list(combinations(range(len(where)), size)), dtype=torch.long)
        circuits = torch.zeros(len(chosen), *circuit.edges.shape, dtype=torch.bool)
        for column in chosen.T:
            circuits[torch.arange(len(chosen)), where[column, 0], where[column, 1]] = True
        changes = torch.cat([change(part) for part in circuits.split(_AT_ONCE)])
        evaluated += len(chosen)
        if changes.min() <= tolerance + LOSS_ROUNDING or size == len(where):
            break
    return _left(circuit, circuits[changes.argmin()], change, True, evaluated)


def greedily(circuit: Circuit, change: _Change, tolerance: float) -> Minimality:
    """Removes one edge after the other, as long as the change from all removed edges stays within the tolerance.

    The edges whose removal alone changes least come first. The rounds are repeated until no single edge can be removed.
    The search can miss a larger set when edges stand in for each other or cancel.
    """
    kept, edges = circuit.edges.clone(), circuit.edges.nonzero()
    alone = [change(_without(kept, part)) for part in edges.split(_AT_ONCE)] if len(edges) else [torch.zeros(0)]
    order = [tuple(edge) for edge in edges[torch.cat(alone).argsort(stable=True)].tolist()]
    evaluated, went = len(edges), True
    while went:
        waiting, order, went, speculate = order, [], False, 1
        while waiting:
            # The next cuts are evaluated in one call, as if all of them were accepted. Those after the first that is
            # not are evaluated again. The decisions are the same as with one cut at a time.
            tried = waiting[:speculate]
            together = kept.repeat(len(tried), 1, 1)
            for i, (writer, reader) in enumerate(tried):
                together[i:, writer, reader] = False
            fits = (change(together) <= tolerance + LOSS_ROUNDING).tolist()
            evaluated += len(tried)
            accepted = fits.index(False) if False in fits else len(tried)
            if accepted:
                kept, went = together[accepted - 1], True
            order += tried[accepted : accepted + 1]  # a cut that was not accepted is tried again in the next round
            waiting = waiting[accepted + (accepted < len(tried)) :]
            speculate = max(1, speculate // 2) if accepted < len(tried) else min(2 * speculate, _AT_ONCE)
    return _left(circuit, kept, change, False, evaluated)


def _left(circuit: Circuit, kept: Tensor, change: _Change, largest: bool, evaluated: int) -> Minimality:
    removed = circuit.graph.named(circuit.edges & ~kept)
    share = len(removed) / circuit.n_edges if circuit.n_edges else 0.0
    changed = float(change(kept[None])[0])
    return Minimality(tuple(removed), share, Circuit(circuit.graph, kept), changed, largest, evaluated + 1)


def _without(edges: Tensor, where: Tensor) -> Tensor:
    """For each of the edges [n, 2] the circuit without it: bool [n, W, R]."""
    circuits = edges.repeat(len(where), 1, 1)
    circuits[torch.arange(len(where)), where[:, 0], where[:, 1]] = False
    return circuits
