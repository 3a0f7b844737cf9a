"""Uniform gradient sampling, with optimal ablation: Li and Janson 2024, arXiv:2409.09951."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..circuit import Discovery, EdgeScores, NativeCircuit
from ..data import Data
from ..errors import SpecError
from ..intervention.ablation import Ablation
from ..intervention.objective import Objective
from ..intervention.optimal_constants import means, offsets
from ..model.device import send
from ..model.graph import Graph
from ..model.transformer import Transformer
from ._masks import Loss, Seeds, TrainingBatches, check_moved, circuit_of, to_matrix, train, uniform_gate
from .cost import Cost
from .registry import method

DANGLING = ("sample", "batch")
# Learning rates by regularisation, and what they are divided by under an ablation (section D of the paper; its code).
RATES = ((1e-4, 0.15), (5e-4, 0.1), (float("inf"), 0.05))
SLOWER = {"patch": 5.0, "resample": 2.0}
CERTAINLY_CUT = 1e-3  # constants learn only where the mask is smaller; a half-open edge would bias them


@method(
    "ugs",
    paper="Li and Janson 2024, arXiv:2409.09951",
    needs={"gradients"},
    ablations={"patch", "mean", "resample", "zero", "noise", "optimal"},
    objectives="divergence",
    presets={
        "reference-code": {"dangling": "batch"},
        "quick": {"steps": 150, "regularisations": (1e-2, 1e-3), "samples": 6},
    },
    cost="steps x batch prompts x regularisations x samples (1 forward, 1 backward)",
    stochastic=True,
    passes=lambda graph, n, given: Cost(
        trained=given["steps"] * min(n, given["batch_size"]) * len(given["regularisations"]) * given["samples"]
    ),
)
def discover(
    model: Transformer,
    data: Data,
    *,
    ablation: Ablation,
    objective: Objective,
    seeds: Sequence[int],
    regularisations: tuple[float, ...] = (2e-3, 1e-3, 7e-4, 5e-4, 2e-4, 1e-4),
    steps: int = 3000,
    samples: int = 12,
    batch_size: int = 5,
    initial: float = 1.0,
    rate: float = 0.0,
    node_regularisation: float = 2e-4,
    constant_rate: float = 2e-3,
    threshold: float = 0.5,
    clip: float = 5.0,
    dangling: str = "sample",
) -> list[Discovery]:
    """Gates that are uniform in a window around their threshold, so that each sampled gradient is a partial derivative.

    loss = divergence + regularisation x sum theta + node term, theta = sigmoid(logit) the gates' mean. Edges that hang
    loose in a sample are cut in it. A gate's gradient is averaged over the samples in which it is inside its window. An
    edge's score is theta, averaged over the regularisations; each gives a circuit.

    Every prompt of a batch runs under every sampled mask (the released code draws masks for each prompt: as many
    derivatives an evaluation, fewer masks). Under the optimal ablation each mask learns constants of its own on the
    way, and its circuit's are learned anew wherever it is evaluated.

    Args:
        regularisations: strengths lambda, one mask each, all trained in one run.
        samples: masks drawn a step for each strength.
        rate: learning rate; 0 takes the paper's, by strength and ablation.
        node_regularisation: at most; half of lambda where that is less. On heads, by tanh of their gates' sum.
        constant_rate: learning rate of the optimal ablation's constants.
        threshold: on the logit, above which a circuit keeps an edge; loose ends are then cut.
        clip: largest gradient norm of one mask.
        dangling: how loose ends are found: in each ``sample``, or with the released code's error, over the ``batch``
            (``reference-code``; see ``connected``).

    Raises:
        SpecError: no regularisation, no samples, or an unknown ``dangling``.
        MethodError: a mask that training has not moved.
    """
    if not regularisations or samples < 1 or dangling not in DANGLING:
        raise SpecError(
            f"ugs: regularisations={regularisations!r}, samples={samples}, dangling={dangling!r}; give strengths, a "
            f"sample at least, and one of {', '.join(DANGLING)}."
        )
    graph = model.graph
    chance = Seeds(seeds, model, masks=len(regularisations))
    prompts = TrainingBatches(model, data, ablation, objective, seeds=seeds, batch_size=batch_size)
    strengths = chance.every(regularisations)
    start = torch.full((len(chance), graph.n_edges), initial, device=model.device, dtype=model.dtype)
    logits = [start.clone().requires_grad_() for _ in regularisations]  # apart, because their learning rates are
    rates = [rate or learning_rate(strength, ablation) for strength in regularisations]
    groups = [{"params": [each], "lr": own} for each, own in zip(logits, rates, strict=True)]
    constants = None
    if ablation.learned:
        constants = means(model, prompts.batches)[0].repeat(len(strengths), 1, 1).requires_grad_()
        groups.append({"params": [constants], "lr": constant_rate})

    def sampled(values: Tensor) -> Tensor:
        """Masks [M, S, W, R] drawn around the logits [M, E], without loose ends."""
        kept = averaged_gate(values.unsqueeze(1), chance.uniform(samples, graph.n_edges))
        masks = to_matrix(graph, kept)
        return masks * connected(graph, masks.detach() > 0, shared_mlps=dangling == "batch")

    loss = regularised_loss(prompts, logits, sampled, strengths, node_regularisation, constants)
    curve = train(groups, loss, steps=steps, betas=(0.9, 0.995), clip=clip)
    values = torch.stack(logits, 1).flatten(0, 1).detach()
    check_moved(torch.full_like(values, initial), values)
    found = zip(chance.split(values), chance.curves(curve), strict=True)
    return [read_out(graph, regularisations, own, threshold, own_curve) for own, own_curve in found]


def regularised_loss(
    prompts: TrainingBatches,
    logits: Sequence[Tensor],
    sampled: Callable[[Tensor], Tensor],
    strengths: Tensor,
    node_regularisation: float,
    constants: Tensor | None,
) -> Loss:
    """The loss of a step: divergence under sampled masks + strength x sum theta + the node term.

    Args:
        logits: of the gates, one [seeds, E] a strength.
        sampled: logits [M, E] -> masks [M, S, W, R].
        strengths: lambda of each mask [M].
        constants: what cut edges carry where that is learned [M, W, D].
    """
    model = prompts.model
    graph, exists = model.graph, model.graph.exists.to(model.device)

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        values = torch.stack(list(logits), 1).flatten(0, 1)  # [M, E]
        theta, masks = values.sigmoid(), sampled(values)
        offset = None if constants is None else learning_offsets(masks, constants, exists)
        found = prompts.loss(prompts.draw(), masks.flatten(0, 1), offset).unflatten(0, masks.shape[:2]).mean(1)
        size, nodes = theta.sum(1), node_size(graph, to_matrix(graph, theta))
        total = found + strengths * size + (strengths / 2).clamp_max(node_regularisation) * nodes
        return total, {"divergence": found, "edges": size}

    return loss


def read_out(
    graph: Graph, regularisations: Sequence[float], logits: Tensor, threshold: float, curve: dict[str, list]
) -> Discovery:
    """Scores, and a circuit for each strength without loose ends, from trained logits [M, E]."""
    circuits, found = [], []
    for strength, values in zip(regularisations, logits, strict=True):
        kept = circuit_of(graph, values > threshold)
        circuits.append(NativeCircuit({"regularisation": strength}, kept.pruned()))
        found.append(
            {
                "regularisation": strength,
                "edges": circuits[-1].circuit.n_edges,
                "edges_with_loose_ends": kept.n_edges,
            }
        )
    scores = to_matrix(graph, logits.sigmoid().mean(0))
    return Discovery(EdgeScores(graph, scores), tuple(circuits), {"masks": found, "curve": curve})


def learning_rate(regularisation: float, ablation: Ablation) -> float:
    """The paper's rate for a strength, slower under patching and resampling."""
    return next(rate for limit, rate in RATES if regularisation <= limit) / SLOWER.get(ablation.value, 1.0)


def averaged_gate(logits: Tensor, u: Tensor) -> Tensor:
    """``uniform_gate`` [M, S, E] whose gradient in theta is the average over the samples inside the window.

    The gate's own is 1 / width in a share ``width`` of the samples: its mean over all samples is this average times the
    share found over the share expected. That ratio is taken out.
    """
    gate = uniform_gate(logits.detach(), u)
    inside = ((gate > 0) & (gate < 1)).to(gate.dtype)
    share = inside.sum(1, keepdim=True).clamp_min(1) / gate.shape[1]
    theta = logits.sigmoid()
    return gate + inside / share * (theta - theta.detach())


def connected(graph: Graph, kept: Tensor, shared_mlps: bool = False) -> Tensor:
    """Of bool [..., W, R], the edges on a path of kept edges from an input node to the logits, each mask by itself.

    Args:
        shared_mlps: the released code's error: an MLP counts as fed when it is in any of the masks. Under patching it
            changes nothing: an MLP that reads nothing writes what a cut edge carries.
    """
    kept = kept & send(graph.exists, kept.device)
    reaches = torch.zeros_like(kept[..., :, 0])  # [..., W]: a path to the logits
    for reader in reversed(range(len(graph.readers))):
        node = graph.owners[reader]
        if node >= 0:
            kept = _with_column(kept, reader, kept[..., reader] & reaches[..., node, None])
        reaches = reaches | kept[..., reader]
    fed, mlps = torch.zeros_like(reaches), {r for node in graph.nodes if node.kind == "mlp" for r in node.readers}
    fed[..., graph.group["input", 0].writers] = True
    for reader in range(len(graph.readers)):
        column = kept[..., reader] & fed
        kept = _with_column(kept, reader, column)
        node = graph.owners[reader]
        if node >= 0:
            has_input = column.any(-1)
            if shared_mlps and reader in mlps:
                has_input = has_input.any().expand_as(has_input)
            fed = fed.clone()
            fed[..., node] |= has_input
    return kept


def _with_column(kept: Tensor, reader: int, column: Tensor) -> Tensor:
    kept = kept.clone()
    kept[..., reader] = column
    return kept


def node_size(graph: Graph, theta: Tensor) -> Tensor:
    """(heads / 2) tanh(2 x gates into and out of a head / heads), summed over heads: [...] of [..., W, R]."""
    degrees = []
    for group in graph.groups:
        if group.kind == "head":
            into = group.by_node(theta[..., group.readers].sum(-2)).sum(-2)
            degrees.append(into + theta[..., group.writers, :].sum(-1))
    every = torch.cat(degrees, -1)
    heads = every.shape[-1]
    return (2 * every / heads).tanh().sum(-1) * heads / 2


def learning_offsets(masks: Tensor, constants: Tensor, exists: Tensor) -> Tensor:
    """Constants [M, W, D] on the cut part of sampled masks [M, S, W, R]: [M * S, R, D].

    They learn from edges that are certainly cut only.
    """
    samples = masks.shape[1]
    certain = (masks.detach() < CERTAINLY_CUT).to(masks.dtype)
    each = constants.repeat_interleave(samples, 0)
    masks, certain = masks.flatten(0, 1), certain.flatten(0, 1)
    learning = ((1 - masks) * certain * exists).transpose(1, 2) @ each
    return learning + offsets(masks, each.detach(), exists * (1 - certain))
