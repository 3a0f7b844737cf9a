"""Subnetwork Probing: Cao, Sanh and Rush 2021, arXiv:2104.03514; for circuits, Conmy et al. 2023, arXiv:2304.14997."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from ..circuit import Discovery, EdgeScores, NativeCircuit
from ..data import Data
from ..errors import SpecError, Undefined
from ..intervention.ablation import Ablation
from ..intervention.objective import Objective
from ..intervention.prepared_batch import PreparedBatch
from ..model.block import Block
from ..model.device import send
from ..model.graph import Graph
from ..model.passes import spend
from ..model.transformer import Projections, Transformer
from ._attribution import check_choices
from ._masks import (
    GAMMA,
    ZETA,
    Loss,
    TrainingBatches,
    avoiding,
    check_moved,
    circuit_of,
    hard_concrete,
    probability_open,
    to_matrix,
    train,
)
from ._seeds import Seeds
from .cost import trained_masks
from .registry import method

_LEVELS = ("edge", "node")
GATES_AT = ("inputs", "projections")
_SIZES = ("gates", "modules")
READ_OUTS = ("likely", "sampled")
NOISE = 1e-4  # the least distance of uniform numbers from 0 and 1, as in the released code
# 10^linspace(-3, 0, 11): the strengths of Conmy et al. for compiled models (launch_grid_fill.py).
_COMPILED = tuple(float(f"{10**power:.4g}") for power in torch.linspace(-3, 0, 11).tolist())


@method(
    "subnetwork-probing",
    paper="Cao et al. 2021, arXiv:2104.03514; Conmy et al. 2023, arXiv:2304.14997",
    needs={"gradients"},
    presets={
        "reference-code": {
            "level": "node",
            "gates_at": "projections",
            "size": "modules",
            "read_out": "sampled",
            "steps": 3000,
            "rate": 1e-3,
            "batch_size": 1000,
        },
        "quick": {"steps": 150, "regularisations": (0.01, 0.1)},
    },
    cost="steps x batch prompts x regularisations (1 forward, 1 backward)",
    stochastic=True,
    passes=lambda graph, n, given: trained_masks(n, len(given["regularisations"]), given["steps"], given["batch_size"]),
)
def discover(
    model: Transformer,
    data: Data,
    *,
    ablation: Ablation,
    objective: Objective,
    seeds: Sequence[int],
    level: str = "edge",
    gates_at: str = "inputs",
    size: str = "gates",
    read_out: str = "likely",
    regularisations: tuple[float, ...] = _COMPILED,
    steps: int = 500,
    rate: float = 0.1,
    initial: float = 0.9,
    avoid: tuple[str, ...] = (),
    avoid_weight: float = 1.04,
    batch_size: int = 32,
) -> list[Discovery]:
    """Hard-concrete gates on edges or nodes, trained to keep the loss low with few open gates.

    loss = objective + regularisation x mean P(gate > 0). An edge's score is sigmoid(log alpha), averaged over the
    regularisations, so that an edge that stays under stronger ones ranks higher. Each regularisation gives a circuit:
    the gates that are more likely open than not.

    As in Conmy et al., any objective can be used. One without a minimum at the whole model (a logit difference) leads
    to the circuit for which it is largest, and not to the one most like the whole model.

    Args:
        level: ``edge``, a gate on each edge; or ``node``, a gate on each head's q, k and v and on each MLP's output.
            With ``node`` an edge is kept when both of its ends are; a head is kept when one of its three gates is.
        gates_at: where the gates of q, k and v stand. At ``inputs``, a closed gate cuts all edges into its reader. At
            ``projections``, behind norm and weights, a closed gate carries zero under ``zero`` ablation, and under
            others what a reader with all edges cut would project. For ``level=node`` alone.
        size: the mean of P(gate > 0) over all ``gates``; or the mean of the means over ``modules``, which are a layer's
            queries, its keys, its values and its MLP, so that an MLP weighs as much as all queries of a layer. Each
            layer counts as four modules, with or without an MLP. For ``level=node`` alone.
        read_out: the gates of a circuit: those that are ``likely`` open; or those whose value is a half or more in one
            more draw (``sampled``), which differs from seed to seed.
        regularisations: strengths. Each has one mask, and all masks are trained in one run.
        steps, rate: steps and learning rate of Adam, by default those of auto-circuit for compiled models. The preset
            ``reference-code`` is Conmy et al.'s ``train.py`` but for the strengths, of which each of its runs has one;
            their sweeps took 10,000 steps.
        initial: the value of the gates at the start, without noise.
        avoid, avoid_weight: names of the edges of a circuit with which the one found is to share little, and the weight
            of that penalty (see ``_masks.avoiding``).
        batch_size: prompts per step.

    Raises:
        DataError: the graph does not have an edge of ``avoid``.
        SpecError: there is no regularisation, or a choice is unknown.
        Undefined: ``gates_at`` is ``projections``, and the nodes of the model are features.
        MethodError: training has not moved a mask.
    """
    _check_request(model, regularisations, level, gates_at, size, read_out)
    graph, chance = model.graph, Seeds(seeds, model, masks=len(regularisations))
    n = graph.n_edges if level == "edge" else len(node_gates(graph))
    prompts = TrainingBatches(model, data, ablation, objective, seeds=seeds, batch_size=batch_size)
    share = (initial - GAMMA) / (ZETA - GAMMA)
    strengths = chance.every(regularisations)
    start = torch.full((len(strengths), n), math.log(share / (1 - share)), device=model.device, dtype=model.dtype)
    gates = start.clone().requires_grad_()

    def sample() -> Tensor:
        return hard_concrete(gates, chance.uniform(n).clamp(NOISE, 1 - NOISE))

    under = partial(loss_under, prompts, level=level, gates_at=gates_at, to_zero=ablation.value == "zero")
    weights = send(module_weights(graph), model.device).to(model.dtype) if size == "modules" else None
    loss = penalised_loss(prompts, gates, sample, under, strengths, weights)
    loss = avoiding(loss, graph, avoid, avoid_weight, lambda: edges_open_by_level(graph, gates, level))
    curve = train([{"params": [gates], "lr": rate}], loss, steps=steps)
    check_moved(start, gates.detach())

    likely = gates.detach().sigmoid().cpu().double()
    opened = (sample().detach().cpu() >= 0.5).double() if read_out == "sampled" else likely
    if level == "node":
        likely, opened = node_edges(graph, likely), node_edges(graph, opened)
    found = zip(chance.split(likely), chance.split(opened), chance.curves(curve), strict=True)
    return [as_discovery(graph, regularisations, *own) for own in found]


def _check_request(
    model: Transformer, regularisations: Sequence[float], level: str, gates_at: str, size: str, read_out: str
) -> None:
    """Raises the errors of ``discover`` that need no run."""
    check_choices(
        "subnetwork-probing",
        level=(level, _LEVELS),
        gates_at=(gates_at, GATES_AT),
        size=(size, _SIZES),
        read_out=(read_out, READ_OUTS),
    )
    if not regularisations:
        raise SpecError("subnetwork-probing: regularisations is empty; give strengths.")
    if level == "edge" and (gates_at, size) != ("inputs", "gates"):
        raise SpecError(f"subnetwork-probing: gates_at={gates_at}, size={size} are for level=node.")
    if gates_at == "projections" and model.reads_apart:
        raise Undefined("gates at projections have no meaning where features stand in the place of components.")


def penalised_loss(
    prompts: TrainingBatches,
    gates: Tensor,
    sample: Callable[[], Tensor],
    under: Callable[[PreparedBatch, Tensor], Tensor],
    strengths: Tensor,
    weights: Tensor | None,
) -> Loss:
    """The loss of a step: the objective under sampled gates + strength x mean P(gate > 0).

    Args:
        gates: log alphas [M, N], of N edges or nodes.
        sample: draws gates [M, N].
        under: the objective of a batch under sampled gates: [M].
        strengths: one for each mask [M].
        weights: of the gates in the mean [N]; all count alike when None.
    """

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        found = under(prompts.draw(), sample())
        likely = probability_open(gates)
        open_share = likely.mean(1) if weights is None else likely @ weights
        return found + strengths * open_share, {"objective": found, "open": open_share}

    return loss


def edges_open_by_level(graph: Graph, gates: Tensor, level: str) -> Tensor:
    """The probability of each edge [M, E], from log alphas [M, N] of gates on edges or nodes (see ``node_edges``)."""
    likely = probability_open(gates)
    return likely if level == "edge" else node_edges(graph, likely)


def loss_under(
    prompts: TrainingBatches, ready: PreparedBatch, kept: Tensor, *, level: str, gates_at: str, to_zero: bool
) -> Tensor:
    """The objective of a batch under gates [M, N] on edges or nodes: [M].

    Args:
        level, gates_at: as of ``discover``.
        to_zero: as of ``run_gated``.
    """
    if gates_at == "projections":
        outputs = run_gated(prompts.model, kept, ready, to_zero=to_zero)
        return prompts.weigh(ready, prompts.objective.loss(outputs, ready.targets))
    as_masks = to_matrix if level == "edge" else node_masks
    return prompts.loss(ready, as_masks(prompts.model.graph, kept))


def as_discovery(
    graph: Graph, regularisations: Sequence[float], likely: Tensor, opened: Tensor, curve: dict[str, list]
) -> Discovery:
    """Scores from the probabilities of edges [M, E], and for each strength the circuit of edges with ``opened`` >
    1/2."""
    circuits = tuple(
        NativeCircuit({"regularisation": strength}, circuit_of(graph, values > 0.5))
        for strength, values in zip(regularisations, opened, strict=True)
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
    """The readers that have a gate at node level: all but the logits. An MLP's gate is on its output."""
    return [reader for reader in graph.readers if reader != "logits"]


def node_masks(graph: Graph, gates: Tensor) -> Tensor:
    """Node gates [M, N] as masks [M, W, R]. Gates of q, k and v act on what is read, others on what is written."""
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
    """Values of edges [M, E]: the smaller value of the two ends; input nodes and the logits have 1."""
    names = node_gates(graph)
    of_reader = {name: likely[:, i] for i, name in enumerate(names)} | {"logits": torch.ones_like(likely[:, 0])}
    always = torch.ones_like(likely[:, 0])
    of_writer = {
        node.name: torch.stack([of_reader[graph.readers[r]] for r in node.readers]).amax(0) if node.readers else always
        for node in graph.nodes
    }
    return torch.stack([torch.minimum(of_writer[e.writer], of_reader[e.reader]) for e in graph.edges], 1)


def module_weights(graph: Graph) -> Tensor:
    """The weight of each node gate [N] in the mean over modules of the means over their gates."""
    weights = torch.zeros(len(node_gates(graph)), dtype=torch.float64)
    for group in graph.groups:
        if group.kind in ("head", "mlp"):
            weights[group.readers] = 1 / (4 * graph.n_layers * len(group.nodes))
    return weights


def run_gated(model: Transformer, gates: Tensor, ready: PreparedBatch, *, to_zero: bool) -> Tensor:
    """Outputs [M, n_read, d_out] with node gates [M, N] on what heads project and on what MLPs write.

    Args:
        to_zero: whether closed gates of q, k and v carry zero, and not what they project from the ablation's residual
            stream.
    """
    graph, alternative, (m, examples) = model.graph, ready.alternative, (len(gates), ready.inputs.shape[1])
    of_group = {group.key: group for group in graph.groups}

    def mixed(value: Tensor, other: Tensor, gate: Tensor) -> Tensor:  # [M * B, ...], [B or 1, ...], [M, 1, ...]
        return (other + gate * (value.unflatten(0, (m, -1)) - other)).flatten(0, 1)

    def projected(layer: int, qkv: Projections) -> Projections:
        group, others = of_group["head", layer], qkv
        if not to_zero:
            with torch.no_grad():
                others = model.blocks[layer](_project, alternative.before[group.key])
        parts = zip("qkv", qkv, others, strict=True)
        q, k, v = (
            mixed(own, other.new_zeros(()) if to_zero else other, gates[:, group.part(name), None, None].unsqueeze(1))
            for name, own, other in parts
        )
        return q, k, v

    def written(kind: str, layer: int, value: Tensor) -> Tensor:
        if kind != "mlp":
            return value
        group = of_group["mlp", layer]
        return mixed(value[0], alternative.activations[group.key][0], gates[:, group.readers, None, None])[None]

    spend(backward=m * examples)
    outputs, _ = model.run(
        ready.inputs.repeat(1, m, 1, 1), read=ready.runs.read.repeat(m, 1), written=written, projected=projected
    )
    return outputs.unflatten(0, (m, -1))


def _project(block: Block, residual: Tensor) -> Projections:
    return block.qkv(block.norm_attention(residual))
