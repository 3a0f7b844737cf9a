"""Subnetwork Probing: Cao, Sanh and Rush 2021, arXiv:2104.03514; for circuits, Conmy et al. 2023, arXiv:2304.14997."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..circuit import Discovery, EdgeScores, NativeCircuit
from ..data import Data
from ..errors import SpecError
from ..intervention.ablation import Ablation
from ..intervention.objective import Objective
from ..model.graph import Graph
from ..model.transformer import Transformer
from ._masks import (
    GAMMA,
    ZETA,
    Prompts,
    Seeds,
    check_moved,
    circuit_of,
    hard_concrete,
    probability_open,
    to_matrix,
    train,
)
from .cost import Cost
from .registry import method

LEVELS = ("edge", "node")
# 10^linspace(-3, 0, 11): the sweep over compiled models of Conmy et al. (launch_grid_fill.py).
COMPILED = tuple(float(f"{10**power:.4g}") for power in torch.linspace(-3, 0, 11).tolist())


@method(
    "subnetwork-probing",
    paper="Cao et al. 2021, arXiv:2104.03514; Conmy et al. 2023, arXiv:2304.14997",
    needs={"gradients"},
    presets={
        "acdc-nodes": {"level": "node", "steps": 3000, "rate": 1e-3},
        "quick": {"steps": 150, "regularisations": (0.01, 0.1)},
    },
    cost="steps x batch prompts x regularisations (1 forward, 1 backward)",
    stochastic=True,
    passes=lambda graph, n, given: Cost(
        trained=given["steps"] * min(n, given["batch_size"]) * len(given["regularisations"])
    ),
)
def discover(
    model: Transformer,
    data: Data,
    *,
    ablation: Ablation,
    objective: Objective,
    seeds: Sequence[int],
    level: str = "edge",
    regularisations: tuple[float, ...] = COMPILED,
    steps: int = 500,
    rate: float = 0.1,
    initial: float = 0.9,
    batch_size: int = 32,
) -> list[Discovery]:
    """Hard-concrete gates on edges or nodes, trained to keep the loss low and few gates open.

    loss = objective + regularisation x mean P(gate > 0). An edge's score is sigmoid(log alpha), averaged over the
    regularisations: an edge that survives a stronger one ranks higher. A circuit for each has the gates more likely
    open than not.

    Any objective will do, as in Conmy et al.: one without a floor (a logit difference) asks for the circuit on which it
    is largest, not for the one most like the whole model.

    Args:
        level: ``edge``; or ``node``: a gate on each head's q, k and v and on each MLP's output, an edge being kept when
            both its ends are (a head is, when one of its three gates is).
        regularisations: strengths, one mask each, all trained in one run.
        steps, rate: of Adam, by default those of auto-circuit for compiled models; ``acdc-nodes`` has Conmy et al.'s.
        initial: the gates' value without noise at the start.
        batch_size: prompts a step.

    Raises:
        SpecError: no regularisation, or an unknown level.
        MethodError: a mask that training has not moved.
    """
    if not regularisations or level not in LEVELS:
        raise SpecError(
            f"subnetwork-probing: regularisations={regularisations!r}, level={level!r}; give strengths, and one of "
            f"{', '.join(LEVELS)}."
        )
    graph, chance = model.graph, Seeds(seeds, model, masks=len(regularisations))
    n = graph.n_edges if level == "edge" else len(node_gates(graph))
    as_masks = to_matrix if level == "edge" else node_masks
    prompts = Prompts(model, data, ablation, objective, seeds=seeds, batch_size=batch_size)
    share = (initial - GAMMA) / (ZETA - GAMMA)
    strengths = chance.every(regularisations)
    start = torch.full((len(strengths), n), math.log(share / (1 - share)), device=model.device, dtype=model.dtype)
    gates = start.clone().requires_grad_()

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        kept = hard_concrete(gates, chance.uniform(n))
        found = prompts.loss(prompts.draw(), as_masks(graph, kept))
        size = probability_open(gates).mean(1)
        return found + strengths * size, {"objective": found, "open": size}

    curve = train([{"params": [gates], "lr": rate}], loss, steps=steps)
    check_moved(start, gates.detach())

    likely = gates.detach().sigmoid().cpu().double()
    if level == "node":
        likely = node_edges(graph, likely)
    found = zip(chance.split(likely), chance.curves(curve), strict=True)
    return [read_out(graph, regularisations, own, own_curve) for own, own_curve in found]


def read_out(graph: Graph, regularisations: Sequence[float], likely: Tensor, curve: dict[str, list]) -> Discovery:
    """Scores, and a circuit for each strength, from how likely each edge's gate is open [M, E]."""
    circuits = tuple(
        NativeCircuit({"regularisation": strength}, circuit_of(graph, values > 0.5))
        for strength, values in zip(regularisations, likely, strict=True)
    )
    found = [
        {
            "regularisation": native.label["regularisation"],
            "edges": native.circuit.n_edges,
            "edges_without_dead_ends": native.circuit.pruned().n_edges,
        }
        for native in circuits
    ]
    return Discovery(EdgeScores(graph, to_matrix(graph, likely.mean(0))), circuits, {"masks": found, "curve": curve})


def node_gates(graph: Graph) -> list[str]:
    """What has a gate at node level: every reader but the logits; an MLP's stands for its output."""
    return [reader for reader in graph.readers if reader != "logits"]


def node_masks(graph: Graph, gates: Tensor) -> Tensor:
    """Node gates [M, N] as masks [M, W, R]: q, k and v gates on what is read there, others on what is written."""
    ones = gates.new_ones(len(gates), 1)
    readers, writers = [ones] * len(graph.readers), [ones] * len(graph.writers)
    for node in (node for node in graph.nodes if node.kind != "logits"):
        for reader in node.readers:
            gate = gates[:, reader : reader + 1]
            if len(node.readers) == 1:
                writers[node.writers.start] = gate
            else:
                readers[reader] = gate
    return torch.cat(writers, 1).unsqueeze(2) * torch.cat(readers, 1).unsqueeze(1)


def node_edges(graph: Graph, likely: Tensor) -> Tensor:
    """Edge values [M, E]: the lesser of what the two ends have; input nodes and the logits are always kept."""
    names = node_gates(graph)
    of_reader = {name: likely[:, i] for i, name in enumerate(names)} | {"logits": torch.ones_like(likely[:, 0])}
    always = torch.ones_like(likely[:, 0])
    of_writer = {
        node.name: torch.stack([of_reader[graph.readers[r]] for r in node.readers]).amax(0) if node.readers else always
        for node in graph.nodes
    }
    return torch.stack([torch.minimum(of_writer[e.writer], of_reader[e.reader]) for e in graph.edges], 1)
