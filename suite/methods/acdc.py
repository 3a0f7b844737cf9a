"""Automatic circuit discovery: Conmy, Mavor-Parker, Lynch, Heimersheim and Garriga-Alonso 2023, arXiv:2304.14997."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from hashlib import blake2b
from random import Random

import torch
from torch import Tensor

from ..circuit import Circuit, Discovery, EdgeScores, NativeCircuit
from ..data import Data
from ..errors import SpecError
from ..intervention.ablation import Ablation
from ..intervention.evaluator import Evaluator
from ..intervention.objective import Objective
from ..model.graph import Graph
from ..model.transformer import Transformer
from .cost import Cost, edge_passes
from .registry import method

# The paper's grids (experiments/launch_spreadsheet.py): 10^linspace(low, high, count).
GRIDS = {"l2": (-5, -1, 21), "kl": (-6, 0, 31)}
OTHER_GRID = (-4, 0, 21)
ORDERS = ("reverse", "forward", "random", "released")
_Masks = list[Tensor]
# What is cut at once: an edge (writer, reader), or all edges into a reader (a slice of writers, reader).
_Cut = tuple[int | slice, int]


@method(
    "acdc",
    paper="Conmy et al. 2023, arXiv:2304.14997",
    presets={"reference-code": {"order": "released", "direct": True}, "quick": {}},
    cost="at most 1 forward an edge and threshold, from the edge's layer on; shared by all thresholds",
    cost_only={"masks_at_once", "batch_size"},
    passes=lambda graph, n, given: Cost(
        forward=2 * n, cut=n * edge_passes(graph, given["masks_at_once"]) * (len(given["thresholds"]) or OTHER_GRID[-1])
    ),
)
def discover(
    model: Transformer,
    data: Data,
    *,
    ablation: Ablation,
    objective: Objective,
    seed: int,
    thresholds: tuple[float, ...] = (),
    order: str = "reverse",
    direct: bool = False,
    absolute: bool = False,
    masks_at_once: int = 256,
    batch_size: int = 0,
) -> Discovery:
    """From the logits back, cuts each edge in turn for good when that raises the loss by less than the threshold.

    An edge's score is the largest threshold at which it survives, and zero when it never does; the circuits of all
    thresholds are returned as well.

    Args:
        thresholds: the sweep; the paper's grid for the objective when empty.
        order: of heads within a layer, and of the writers tried for each reader. ``reverse``: both from the last to the
            first, as the released command line has it (``indices-mode normal``). ``forward``: both from the first.
            ``random``: by the seed. ``released``: the default of the released class (``indices_mode="reverse"``), whose
            readers go from the last to the first, and whose writers go layer by layer from the last, but from the
            first head to the last within one. The result depends on it.
        direct: before the edges into a layer's heads, tries to cut each head's v, k and q whole: the released code's
            edges of direct computation, which are no edges of this graph.
        absolute: compares the size of the change, whatever its sign.
        masks_at_once: how many candidate cuts are evaluated in one call, at most. It does not change the result.
        batch_size: prompts at a time; 0 chooses it.

    Raises:
        SpecError: an unknown order.
    """
    if order not in ORDERS:
        raise SpecError(f"acdc: order={order!r}; it is one of {', '.join(ORDERS)}.")
    low, high, count = GRIDS.get(objective.name, OTHER_GRID)
    sweep = sorted(thresholds) or (10 ** torch.linspace(low, high, count, dtype=torch.float64)).tolist()
    evaluator = Evaluator(model, data, ablation, objective, seed=seed, batch_size=batch_size or None)
    groups = visiting_order(model.graph, order, seed, direct)
    kept, evaluations = sweep_thresholds(evaluator, groups, sweep, masks_at_once, absolute=absolute)

    values = torch.zeros(model.graph.exists.shape, dtype=torch.float64)
    for tau in sweep:
        values[kept[tau]] = tau
    circuits = tuple(NativeCircuit({"threshold": tau}, Circuit(model.graph, kept[tau])) for tau in sweep)
    return Discovery(EdgeScores(model.graph, values), circuits, {"circuits_evaluated": evaluations})


def visiting_order(graph: Graph, order: str, seed: int, direct: bool = False) -> list[list[_Cut]]:
    """Cuts in the order in which they are tried, in groups: logits, then per layer MLP, then v, k, q.

    Whether the readers of a group are still needed depends on earlier groups only.
    """
    shuffle = Random(seed).shuffle

    def ordered(items: range, ascending: bool) -> list[int]:
        found = list(items) if ascending else list(reversed(items))
        if order == "random":
            shuffle(found)
        return found

    def writers(seen: slice) -> list[int]:
        if order != "released":
            return ordered(range(seen.start, seen.stop), ascending=order == "forward")
        blocks = [range(node.writers.start, node.writers.stop) for node in reversed(graph.groups)]
        return [w for block in blocks for w in block if seen.start <= w < seen.stop]

    found: list[list[_Cut]] = []
    for group in reversed(graph.groups):
        readers = [
            r
            for part in reversed(group.parts)
            for r in ordered(range(group.part(part).start, group.part(part).stop), ascending=order == "forward")
        ]
        if direct and len(group.parts) > 1:
            found.append([(group.sees, r) for r in readers])
        found.append([(w, r) for r in readers for w in writers(group.sees)])
    return [cuts for cuts in found if cuts]


def _sweep(
    graph: Graph, groups: list[list[_Cut]], tau: float, plain: float, absolute: bool, width: int
) -> Generator[_Masks, list[float], Tensor]:
    """One threshold's sweep: yields masks whose losses it wants, is sent them, returns the kept edges [W, R].

    Decisions depend on the baseline, which moves with every cut. It asks for the losses after 1, 2, 3, ... further
    cuts at once, as if all were accepted, and throws away what lies behind the first that is not: the same decisions
    as one at a time.
    """
    kept, current = graph.exists.clone(), plain
    for group in groups:
        dead = {r for r in {r for _, r in group} if graph.owners[r] >= 0 and not kept[graph.owners[r]].any()}
        for r in dead:
            kept[:, r] = False
        waiting = [(w, r) for w, r in group if r not in dead and kept[w, r].any()]
        speculate = 1
        while waiting:
            tried, masks, mask = waiting[:speculate], [], kept
            for w, r in tried:
                mask = mask.clone()
                mask[w, r] = False
                masks.append(mask)
            losses = yield masks
            accepted = 0
            for loss in losses:
                change = loss - current
                if (abs(change) if absolute else change) >= tau:
                    break
                current, accepted = loss, accepted + 1
            if accepted:
                kept = masks[accepted - 1]
            refused = accepted < len(tried)
            waiting = waiting[accepted + refused :]
            speculate = max(1, speculate // 2) if refused else min(2 * speculate, width)
    return kept


def sweep_thresholds(
    evaluator: Evaluator,
    groups: list[list[_Cut]],
    thresholds: Sequence[float],
    masks_at_once: int,
    *,
    absolute: bool = False,
) -> tuple[dict[float, Tensor], int]:
    """The edges [W, R] that each threshold keeps, and how many circuits were evaluated, the whole model not counted.

    All thresholds' sweeps run in step; a circuit that several of them ask for in one round is evaluated once. Known
    losses are held by a digest of the circuit and dropped after the round: whole masks of all rounds would fill tens of
    GB on GPT-2 small. The masks of a round are sorted by the first layer they cut, because those of one pass start
    together, at the lowest.

    Args:
        groups: what is tried, in order (see ``visiting_order``).
        masks_at_once, absolute: as in ``discover``.
    """
    graph = evaluator.model.graph
    plain, width = float(evaluator.loss(graph.exists[None])[0]), max(1, masks_at_once // len(thresholds))
    sweeps = {tau: _sweep(graph, groups, tau, plain, absolute, width) for tau in thresholds}
    kept: dict[float, Tensor] = {}
    asked = {tau: next(sweep) for tau, sweep in sweeps.items()}
    evaluated = 0
    while asked:
        keys = {tau: [_digest(mask) for mask in masks] for tau, masks in asked.items()}
        new = {key: mask for tau in asked for key, mask in zip(keys[tau], asked[tau], strict=True)}
        first = {key: evaluator.model.first_cut_layer(mask[None], graph.exists) for key, mask in new.items()}
        order = sorted(new, key=first.__getitem__)
        losses = evaluator.loss(torch.stack([new[key] for key in order])).tolist()
        known = dict(zip(order, losses, strict=True))
        evaluated += len(known)
        following = {}
        for tau in asked:
            try:
                following[tau] = sweeps[tau].send([known[key] for key in keys[tau]])
            except StopIteration as end:
                kept[tau] = end.value
        asked = following
    return kept, evaluated


def _digest(mask: Tensor) -> bytes:
    """16 bytes that stand for a mask."""
    return blake2b(mask.numpy().data, digest_size=16).digest()
