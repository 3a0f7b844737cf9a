"""Automatic circuit discovery: Conmy, Mavor-Parker, Lynch, Heimersheim and Garriga-Alonso 2023, arXiv:2304.14997."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import torch

from ..circuit import Circuit, Discovery, EdgeScores, NativeCircuit
from ..data import Data
from ..errors import SpecError
from ..intervention.ablation import Ablation
from ..intervention.evaluator import Evaluator
from ..intervention.objective import Objective
from ..model.graph import Graph
from ..model.transformer import Transformer
from ._attribution import Prompts
from ._sweeps import TriedCut, at_most, sweep_thresholds
from .cost import Cost, edge_passes
from .registry import method

# The paper's grids (experiments/launch_spreadsheet.py): 10^linspace(low, high, count).
GRIDS = {"l2": (-5, -1, 21), "kl": (-6, 0, 31)}
OTHER_GRID = (-4, 0, 21)
# On graphs of at least this many edges, gradients at this many points cost less than the wrong guesses they save.
_GRADIENTS_PAY, _STEPS = 100, 3
_ORDERS = ("reverse", "forward", "random", "released")


def _cost(graph: Graph, prompts: int, given: Mapping[str, Any]) -> Cost:
    layers = edge_passes(graph, at_once=1)
    if given["direct"]:
        parted = (group for group in graph.groups if len(group.parts) > 1)
        layers += sum(
            (group.readers.stop - group.readers.start) * (1 - group.layer / graph.n_layers) for group in parted
        )
    return Cost(
        forward=2 * prompts,
        gradient=prompts * _STEPS * (graph.n_edges >= _GRADIENTS_PAY),
        cut=at_most(prompts, len(given["thresholds"]) or OTHER_GRID[-1], layers),
    )


@method(
    "acdc",
    paper="Conmy et al. 2023, arXiv:2304.14997",
    presets={"reference-code": {"order": "released", "direct": True}, "quick": {}},
    cost="at most 2 forward an edge and threshold, one of them for a wrong guess, through the layers above "
    "it; shared by thresholds that decide alike; 3 forward, 3 backward for guesses on 100 edges or more",
    cost_only={"masks_at_once", "batch_size"},
    passes=_cost,
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
        thresholds: in units of the loss; when empty, the grid that the paper has for the objective.
        order: the order of the heads of a layer, and of the writers that are tried for a reader. The result depends on
            it. ``reverse``: both from the last to the first, as the released command line has it (``indices-mode
            normal``). ``forward``: both from the first to the last. ``random``: by the seed. ``released``: the default
            of the released class (``indices_mode="reverse"``): readers from the last to the first; writers layer by
            layer from the last, and within a layer from the first head to the last.
        direct: whether all edges into each head's v, k and q are tried together, before the edges into the heads of the
            layer one by one. The released code has edges of direct computation for this; this graph has not.
        absolute: whether the size of the change is compared with the threshold, whatever the sign.
        masks_at_once: the most cuts that are tried in one call. The result does not depend on it.
        batch_size: prompts at a time; 0 chooses it.

    Raises:
        SpecError: an unknown order.
    """
    if order not in _ORDERS:
        raise SpecError(f"acdc: order={order!r}; it is one of {', '.join(_ORDERS)}.")
    low, high, count = GRIDS.get(objective.name, OTHER_GRID)
    sweep = sorted(thresholds) or (10 ** torch.linspace(low, high, count, dtype=torch.float64)).tolist()
    evaluator = Evaluator(model, data, ablation, objective, seed=seed, batch_size=batch_size or None)
    groups = visiting_order(model.graph, order, seed, direct)
    expected = _expected(evaluator) if model.graph.n_edges >= _GRADIENTS_PAY and objective.differentiable else None
    kept, evaluations = sweep_thresholds(evaluator, groups, sweep, masks_at_once, absolute=absolute, expected=expected)

    values = torch.zeros(model.graph.exists.shape, dtype=torch.float64)
    for tau in sweep:
        values[kept[tau]] = tau
    circuits = tuple(NativeCircuit({"threshold": tau}, Circuit(model.graph, kept[tau])) for tau in sweep)
    return Discovery(EdgeScores(model.graph, values), circuits, {"circuits_evaluated": evaluations})


def _expected(evaluator: Evaluator) -> dict[TriedCut, float]:
    """By how much each cut is expected to change the loss: the scores of EAP-IG, with gradients at midpoints.

    Guesses are made from them (see _sweeps.py); no decision depends on them.
    """
    graph, total = evaluator.model.graph, torch.zeros(evaluator.model.graph.exists.shape, dtype=torch.float64)
    for ready in evaluator.prepared():
        prompts = Prompts(ready.runs, evaluator.alternatives, evaluator.objective)
        clean, far = prompts.clean.inputs, prompts.alternative_inputs
        for step in range(_STEPS):
            total += prompts.products(far + (step + 0.5) / _STEPS * (clean - far)).double().cpu()
    values = (total / (_STEPS * evaluator.data.n)).tolist()
    return {(w, r): values[w][r] for w, r in graph.exists.nonzero().tolist()}


def visiting_order(graph: Graph, order: str, seed: int, direct: bool = False) -> list[list[TriedCut]]:
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

    found: list[list[TriedCut]] = []
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
