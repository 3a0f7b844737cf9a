"""Uniform gradient sampling, with optimal ablation: Li and Janson 2024, arXiv:2409.09951."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..circuit import Discovery, EdgeScores, NativeCircuit
from ..data import Data
from ..errors import SpecError
from ..intervention.ablation import Ablation
from ..intervention.objective import Objective
from ..intervention.optimal_constants import means, offsets
from ..intervention.prepared_batch import PreparedBatch
from ..model.block import Block
from ..model.device import send
from ..model.graph import Graph
from ..model.transformer import Transformer
from ._attribution import check_choices
from ._masks import Loss, TrainingBatches, avoiding, check_moved, circuit_of, to_matrix, train, uniform_gate
from ._seeds import Seeds
from .cost import trained_masks
from .registry import method

CHOICES = {
    "masks": ("batch", "prompt"),
    "dangling": ("sample", "batch"),
    "first_position": ("cut", "whole"),
    "constants": ("outputs", "values"),
    "gradients": ("mask", "kind"),
}
# Learning rates by strength, and their divisors under some ablations (section D of the paper, and the released code).
RATES = ((1e-4, 0.15), (5e-4, 0.1), (float("inf"), 0.05))
SLOWER = {"patch": 5.0, "resample": 2.0}
CERTAINLY_CUT = 1e-3  # constants learn only where the mask is smaller, because a half-open edge would bias them
# From the released code (maxtli/optimalablation, ac02e85): a gate so near an end of its window does not count as
# inside, and the means at which constants start begin at this position.
_MARGIN, MEANS_FROM = 1e-3, 9


@method(
    "ugs",
    paper="Li and Janson 2024, arXiv:2409.09951",
    needs={"gradients"},
    ablations={"patch", "mean", "resample", "zero", "noise", "optimal"},
    objectives="divergence",
    presets={
        "reference-code": {name: released for name, (_, released) in CHOICES.items()},
        "quick": {"steps": 150, "regularisations": (1e-2, 1e-3), "samples": 6},
    },
    cost="steps x batch prompts x regularisations x samples (1 forward, 1 backward)",
    stochastic=True,
    passes=lambda graph, n, given: trained_masks(
        n, len(given["regularisations"]) * given["samples"], given["steps"], given["batch_size"]
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
    avoid: tuple[str, ...] = (),
    avoid_weight: float = 1.04,
    masks: str = "batch",
    dangling: str = "sample",
    first_position: str = "cut",
    constants: str = "outputs",
    gradients: str = "mask",
) -> list[Discovery]:
    """Gates that are uniform in a window around their threshold, so that each sampled gradient is a partial derivative.

    loss = divergence + regularisation x sum theta + node term, with theta = sigmoid(logit) the mean of a gate. In each
    sample, edges on no path from an input to the logits (loose ends) are cut. A gate's gradient is averaged over the
    samples in which the gate is inside its window. An edge's score is theta, averaged over the regularisations; each
    regularisation gives a circuit.

    Under the optimal ablation each mask learns constants of its own during training; when its circuit is evaluated,
    constants are learned anew. The released code differs in what the last five arguments choose (the preset
    ``reference-code`` takes the released choice of each), trains for 6000 steps under the optimal ablation, and has
    ``threshold`` 0 under other ablations.

    Args:
        regularisations: strengths lambda. Each has one mask, and all masks are trained in one run.
        steps: training steps.
        samples: how many masks a step draws for each strength; with ``masks=prompt``, for each prompt as well.
        batch_size: prompts per step.
        initial: the logits at the start.
        rate: learning rate; 0 takes the paper's, which depends on strength and ablation.
        node_regularisation: largest strength of the node term, which is half of lambda where that is less. The term
            presses on heads, by tanh of the sum of their gates.
        constant_rate: learning rate of the optimal ablation's constants.
        threshold: a circuit keeps edges whose logit is larger; its loose ends are then cut.
        clip: largest gradient norm (see ``gradients``) of gates. Gradients of constants are not clipped.
        avoid, avoid_weight: names of the edges of a circuit with which the one found is to share little, and the weight
            of that penalty (see ``_masks.avoiding``).
        masks: whether a ``batch`` shares the sampled masks, or each ``prompt`` has masks of its own. With ``prompt`` an
            evaluation gives as many derivatives, and batches are drawn anew in each epoch, across lengths.
        dangling: how loose ends are found: in each ``sample``, or over the ``batch``, which is an error of the released
            code (see ``connected``).
        first_position: ``cut`` like the others, or left ``whole``, as the released code leaves its
            beginning-of-sequence token. Under patching it makes no difference where counterfactuals begin alike.
        constants: a head's constants: any vector in place of its ``outputs``, or a vector in place of its ``values``,
            which its output matrix then projects. With ``values`` they start at means from the tenth position on, if
            any prompt is that long.
        gradients: with ``mask``, they are clipped in each mask, and averaged over the samples inside the window; with
            ``kind``, they are clipped in each kind of edges (from heads or not, to heads or not), and samples within
            0.001 of the window's ends add to the sum but not to the count.

    Raises:
        DataError: the graph does not have an edge of ``avoid``.
        SpecError: there is no regularisation or no sample, or a choice is unknown.
        MethodError: training has not moved a mask.
    """
    if not regularisations or samples < 1:
        raise SpecError(
            f"ugs: regularisations={regularisations!r}, samples={samples}; give at least one strength and one sample."
        )
    check_choices(
        "ugs",
        masks=(masks, CHOICES["masks"]),
        dangling=(dangling, CHOICES["dangling"]),
        first_position=(first_position, CHOICES["first_position"]),
        constants=(constants, CHOICES["constants"]),
        gradients=(gradients, CHOICES["gradients"]),
    )
    graph, chance, by_kind = model.graph, Seeds(seeds, model, masks=len(regularisations)), gradients == "kind"
    # When each prompt has masks of its own, a step takes several batches of one prompt each.
    drawn, size = (min(batch_size, data.n), 1) if masks == "prompt" else (1, batch_size)
    cut_first = first_position == "cut"
    prompts = TrainingBatches(model, data, ablation, objective, seeds=seeds, batch_size=size, cut_first=cut_first)
    strengths = chance.every(regularisations)
    start = torch.full((len(chance), graph.n_edges), initial, device=model.device, dtype=model.dtype)
    logits = [start.clone().requires_grad_() for _ in regularisations]  # apart, because each has its own learning rate
    rates = [rate or learning_rate(strength, ablation) for strength in regularisations]
    groups = gate_groups(logits, rates, clip, kinds(graph, model.device) if by_kind else [slice(None)])
    learned = None
    if ablation.learned:
        learned = Constants(model, prompts.batches, len(strengths), of_values=constants == "values")
        groups.append({"params": learned.parameters, "lr": constant_rate})
    sampler = Sampler(graph, chance, samples * drawn, _MARGIN if by_kind else 0.0, dangling == "batch")
    loss = regularised_loss(prompts, drawn, logits, sampler, strengths, node_regularisation, learned)
    loss = avoiding(loss, graph, avoid, avoid_weight, lambda: torch.stack(logits, 1).flatten(0, 1).sigmoid())
    curve = train(groups, loss, steps=steps)
    values = torch.stack(logits, 1).flatten(0, 1).detach()
    check_moved(torch.full_like(values, initial), values)
    found = zip(chance.split(values), chance.curves(curve), strict=True)
    return [read_out(graph, regularisations, own, threshold, own_curve) for own, own_curve in found]


def gate_groups(
    logits: Sequence[Tensor], rates: Sequence[float], clip: float, parts: Sequence[Tensor | slice]
) -> list[dict[str, Any]]:
    """The gates as parameter groups of ``train``, one for each strength.

    Args:
        logits, rates: of each strength, the logits of its gates [seeds, E] and their learning rate.
        clip: the largest gradient norm of each of the ``parts`` (indices) of the edges.
    """
    return [
        {"params": [own], "lr": rate, "betas": (0.9, 0.995), "clip": clip, "parts": parts}
        for own, rate in zip(logits, rates, strict=True)
    ]


@dataclass(frozen=True)
class Sampler:
    """Draws masks without loose ends around logits.

    Args:
        graph: whose edges have gates.
        chance: the seeds' random numbers.
        samples: how many masks are drawn for each row of logits.
        margin: as in ``averaged_gate``.
        shared_mlps: as in ``connected``.
    """

    graph: Graph
    chance: Seeds
    samples: int
    margin: float
    shared_mlps: bool

    def __call__(self, logits: Tensor) -> Tensor:
        """Masks [M, S, W, R] of logits [M, E]."""
        noise = self.chance.uniform(self.samples, self.graph.n_edges)
        drawn = to_matrix(self.graph, averaged_gate(logits.unsqueeze(1), noise, self.margin))
        return drawn * connected(self.graph, drawn.detach() > 0, shared_mlps=self.shared_mlps)


def regularised_loss(
    prompts: TrainingBatches,
    drawn: int,
    logits: Sequence[Tensor],
    sampled: Callable[[Tensor], Tensor],
    strengths: Tensor,
    node_regularisation: float,
    constants: Constants | None,
) -> Loss:
    """The loss of a step: divergence under sampled masks + strength x sum theta + the node term.

    Args:
        drawn: batches per step; every ``drawn``-th sample is a mask of the same batch.
        logits: those of the gates, one tensor [seeds, E] for each strength.
        sampled: takes logits [M, E], and returns masks [M, S, W, R].
        strengths: lambda of each mask [M].
        constants: what cut edges carry, under the optimal ablation.
    """
    model = prompts.model
    graph, exists = model.graph, send(model.graph.exists, model.device)

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        values = torch.stack(list(logits), 1).flatten(0, 1)  # [M, E]
        theta, masks = values.sigmoid(), sampled(values)
        found = torch.zeros_like(strengths)
        for i in range(drawn):
            own = masks[:, i::drawn]
            offset = None if constants is None else learning_offsets(own, constants(), exists)
            found = found + prompts.loss(prompts.draw(), own.flatten(0, 1), offset).unflatten(0, own.shape[:2]).mean(1)
        found = found / drawn
        size, nodes = theta.sum(1), node_size(graph, to_matrix(graph, theta))
        total = found + strengths * size + (strengths / 2).clamp_max(node_regularisation) * nodes
        return total, {"divergence": found, "edges": size}

    return loss


def read_out(
    graph: Graph, regularisations: Sequence[float], logits: Tensor, threshold: float, curve: dict[str, list]
) -> Discovery:
    """Scores, and for each strength a circuit without loose ends, from trained logits [M, E]."""
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
    """The paper's learning rate for a strength, which is lower under patching and resampling."""
    return next(rate for limit, rate in RATES if regularisation <= limit) / SLOWER.get(ablation.value, 1.0)


def averaged_gate(logits: Tensor, u: Tensor, margin: float = 0.0) -> Tensor:
    """``uniform_gate`` [M, S, E] whose gradient in theta is the average over the samples inside the window.

    The gate's own gradient is 1 / width in an expected share ``width`` of the samples, and zero in the others. Its mean
    over all samples is the average wanted times (share found / share expected); this ratio is divided out.

    Args:
        margin: gates so near zero or one are not counted, though their gradients are added. Where no gate is counted,
            there is no gradient (as in the released code).
    """
    gate = uniform_gate(logits.detach(), u)
    inside = ((gate > 0) & (gate < 1)).to(gate.dtype)
    counted = ((gate > margin) & (gate < 1 - margin)).to(gate.dtype).sum(1, keepdim=True)
    weight = torch.where(counted > 0, gate.shape[1] / counted.clamp_min(1), 0)
    theta = logits.sigmoid()
    return gate + inside * weight * (theta - theta.detach())


def connected(graph: Graph, kept: Tensor, shared_mlps: bool = False) -> Tensor:
    """The edges of each mask, bool [..., W, R], that are on a path of kept edges from an input node to the logits.

    Args:
        shared_mlps: whether to repeat an error of the released code: an MLP counts as having an input when it has one
            in any mask along the last of the leading axes, the samples of one step. Under patching it makes no
            difference, because an MLP that reads nothing writes what a cut edge carries.
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
                has_input = has_input.any(-1, keepdim=True).expand_as(has_input)
            fed = fed.clone()
            fed[..., node] |= has_input
    return kept


def _with_column(kept: Tensor, reader: int, column: Tensor) -> Tensor:
    kept = kept.clone()
    kept[..., reader] = column
    return kept


def node_size(graph: Graph, theta: Tensor) -> Tensor:
    """Sum over heads of (heads / 2) tanh(2 x sum of gates into and out of the head / heads): [...] of [..., W, R].

    Zero where no node is a head, as where features stand for all of them."""
    degrees = [theta.new_zeros(*theta.shape[:-2], 0)]
    for group in graph.groups:
        if group.kind == "head":
            into = group.by_node(theta[..., group.readers].sum(-2)).sum(-2)
            degrees.append(into + theta[..., group.writers, :].sum(-1))
    every = torch.cat(degrees, -1)
    heads = every.shape[-1]
    return (2 * every / max(heads, 1)).tanh().sum(-1) * heads / 2


def kinds(graph: Graph, device: torch.device) -> list[Tensor]:
    """The indices [n] of the edges of each kind: from heads or from other writers, into heads or into other readers."""
    from_heads, to_heads = (
        torch.zeros(len(graph.writers), dtype=torch.bool),
        torch.zeros(len(graph.readers), dtype=torch.bool),
    )
    for group in graph.groups:
        if group.kind == "head":
            from_heads[group.writers], to_heads[group.readers] = True, True
    writers, readers = graph.exists.nonzero().T
    kind = 2 * from_heads[writers] + to_heads[readers]
    return [send((kind == each).nonzero().flatten(), device) for each in kind.unique()]


class Constants:
    """The constants that cut edges carry under the optimal ablation, learned for each mask.

    Args:
        model, batches: the constants start at the means of what writers write on these.
        n: how many masks have constants.
        of_values: whether the constants of heads stand before the output matrix, [H, E], as in the released code, and
            not behind it. Means are then taken from the position ``MEANS_FROM`` on, if any prompt reaches it.
    """

    def __init__(self, model: Transformer, batches: Sequence[PreparedBatch], n: int, *, of_values: bool) -> None:
        self._model, self._of_values = model, of_values
        self._heads = [group for group in model.graph.groups if group.kind == "head"] if of_values else []
        first = MEANS_FROM if of_values else 0
        if all(int(ready.batch.lengths.max()) <= first for ready in batches):
            first = 0
        self.parameters = [means(model, batches, first)[0]]
        for group in self._heads:
            each = [  # [H, n, E] of the n positions that are not padding
                ready.runs.clean[1][group.key][:, :, first:][:, send(ready.batch.valid[:, first:], model.device)]
                for ready in batches
            ]
            self.parameters.append(torch.cat(each, 1).mean(1))
        self.parameters = [start.repeat(n, 1, 1).requires_grad_() for start in self.parameters]

    def __call__(self) -> Tensor:
        """The constants as writers write them, [n, W, D]."""
        outputs, *values = self.parameters
        for group, value in zip(self._heads, values, strict=True):
            written = self._model.blocks[group.layer](Block.write_apart, value.transpose(0, 1)).transpose(0, 1)
            before, after = outputs[:, : group.writers.start], outputs[:, group.writers.stop :]
            outputs = torch.cat([before, written, after], 1)
        return outputs


def learning_offsets(masks: Tensor, constants: Tensor, exists: Tensor) -> Tensor:
    """What cut edges carry to the readers [M * S, R, D], from constants [M, W, D] and sampled masks [M, S, W, R].

    The constants get gradients from edges that are certainly cut alone.
    """
    samples = masks.shape[1]
    certain = (masks.detach() < CERTAINLY_CUT).to(masks.dtype)
    each = constants.repeat_interleave(samples, 0)
    masks, certain = masks.flatten(0, 1), certain.flatten(0, 1)
    learning = ((1 - masks) * certain * exists).transpose(1, 2) @ each
    return learning + offsets(masks, each.detach(), exists * (1 - certain))
