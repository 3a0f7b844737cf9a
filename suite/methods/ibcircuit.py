"""IBCircuit: Bian et al. 2025, arXiv:2602.22581."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..circuit import Circuit, Discovery, NativeCircuit, NodeScores
from ..data import Data
from ..errors import SpecError, Undefined
from ..intervention.ablation import Ablation
from ..intervention.objective import Objective
from ..intervention.prepared_batch import PreparedBatch
from ..model.device import send
from ..model.graph import Graph, Key, NodeGroup
from ..model.passes import spend
from ..model.transformer import Transformer
from ._attribution import check_choices
from ._masks import Loss, TrainingBatches, avoiding, check_moved, train
from ._seeds import Seeds
from .cost import trained_masks
from .registry import NODE_KINDS, method

GATED = {"heads": ("head",), "heads-mlps": ("head", "mlp")}
_GATES = ("prompt", "shared")
MOMENTS = ("ablation", "run")
# Machine epsilons by which equal activations of two runs may differ. In 12 layers of GPT-2's width, batches of other
# shapes differ by 21 in float32. Numbers of 16 bits have so few digits that 100 epsilons would leave hardly any.
_ROUNDING, _ROUNDING_IN_16_BITS = 100, 10


@method(
    "ibcircuit",
    paper="Bian et al. 2025, arXiv:2602.22581",
    needs={"gradients"},
    objectives="divergence",
    nodes=NODE_KINDS,
    presets={
        "reference-code": {"moments": "run"},
        "quick": {
            "gated": "heads-mlps",
            "gates": "shared",
            "strengths": (0.003, 0.03),
            "steps": 200,
            "initial": 2.0,
            "batch_size": 32,
        },
    },
    cost="steps x batch prompts x strengths (1 forward, 1 backward)",
    stochastic=True,
    passes=lambda graph, n, given: trained_masks(n, len(given["strengths"]), given["steps"], given["batch_size"]),
)
def discover(
    model: Transformer,
    data: Data,
    *,
    ablation: Ablation,
    objective: Objective,
    seeds: Sequence[int],
    gated: str = "heads",
    gates: str = "prompt",
    moments: str = "ablation",
    strengths: tuple[float, ...] = (1.0,),
    thresholds: tuple[float, ...] = (0.8, 0.6, 0.4, 0.2),
    steps: int = 1300,
    rate: float = 0.05,
    initial: float = 5.0,
    avoid: tuple[str, ...] = (),
    avoid_weight: float = 1.04,
    batch_size: int = 100,
) -> list[Discovery]:
    """Trains how much noise each node bears without changing the outputs of the model: an information bottleneck.

    z' = l z + (1 - l) m + (1 - l) s e, with z what a node writes, e standard normal, l = sigmoid(w) its gate;
    loss = divergence from the whole model + strength x mean of KL(N(l z + (1 - l) m, ((1 - l) s)^2) || N(m, s^2))

    m is what cut edges carry under the ablation, and s^2 is the sum of (z - m)^2 over the prompts of the batch, divided
    by their number less one. A gate thus passes what tells z from m. Under a mean over the prompts, m and s are the
    mean and the standard deviation of the paper, which has no other ablation. The information is computed from z of the
    clean run, because z behind noisy nodes may differ from m by any number of deviations s.

    The score of a node is its gate, averaged over prompts and strengths. An edge has the smaller score of its two ends;
    nodes without a gate count as 1, and so does an edge between two of them, such as one from the input to the logits.
    With ``moments=ablation`` a node that writes m on every prompt, except for rounding, has nothing to pass and scores
    0; with ``moments=run`` it has the gate with which it was trained.

    Args:
        gated: the nodes with gates: ``heads``, as in the paper; or ``heads-mlps``. The noise of heads is added before
            the output projection.
        gates: whether each ``prompt`` has gates of its own, as in the paper; or all prompts share one for each node
            (``shared``).
        moments: ``ablation``: m and s are as above. ``run``: m and s are the mean and the standard deviation, over the
            batch, of the run in which the noise is added, as in the released code; lower nodes of that run are noisy.
            For ablations to a mean, or to a mean with noise.
        strengths: weights of the information. Each has gates of its own, and all are trained in one run.
        thresholds: for each there is a circuit, of the edges between nodes whose gates are above it.
        steps, rate: steps and learning rate of Adam.
        initial: w at the start, to which noise of standard deviation 0.01 is added.
        avoid, avoid_weight: names of the edges of a circuit with which the one found is to share little, and the weight
            of that penalty (see ``_masks.avoiding``). An edge is as likely as the less open one of its two ends.
        batch_size: prompts per step; they share the noise.

    Raises:
        DataError: the graph does not have an edge of ``avoid``.
        SpecError: there are no strengths, or a choice is unknown.
        Undefined: ``moments`` is ``run``, and the ablation is not a mean.
        MethodError: training has not moved the gates.
    """
    check_choices("ibcircuit", gated=(gated, tuple(GATED)), gates=(gates, _GATES), moments=(moments, MOMENTS))
    if not strengths:
        raise SpecError("ibcircuit: strengths is empty; give weights of the information term.")
    if moments == "run" and ablation.value not in ("mean", "noise"):
        raise Undefined(
            f"ibcircuit: moments=run are a batch's mean and deviation, and {ablation} carries another value."
        )
    graph, chance = model.graph, Seeds(seeds, model, masks=len(strengths))
    prompts = TrainingBatches(model, data, ablation, objective, seeds=seeds, batch_size=batch_size)
    on_nodes = NodeGates(graph, GATED[gated], chance, initial, data.n if gates == "prompt" else None)
    first = on_nodes.logits.detach().clone()
    loss = bottleneck_loss(prompts, on_nodes, chance, chance.every(strengths), from_run=moments == "run")
    loss = avoiding(loss, graph, avoid, avoid_weight, lambda: edges_of_nodes(graph, on_nodes.opened()))
    curve = train([{"params": [on_nodes.logits], "lr": rate}], loss, steps=steps)
    check_moved(first, on_nodes.logits.detach())
    nodes = on_nodes.opened().detach().cpu().double()
    if moments == "ablation":
        nodes = nodes * _moved(prompts.batches, graph)
    found = zip(chance.split(nodes), chance.curves(curve), strict=True)
    return [read_out(graph, strengths, thresholds, *own) for own in found]


class NodeGates:
    """Trained gates on what nodes write, for M masks.

    Args:
        graph: whose nodes have gates.
        kinds: of the nodes with gates.
        chance: draws the noise of the start.
        initial: the logit of a gate at the start.
        prompts: how many prompts have gates of their own; None: all share one gate for each node.

    Attributes:
        groups: the nodes with gates, N in all.
        logits: what is trained, [M, prompts x N] or [M, N].
    """

    def __init__(
        self, graph: Graph, kinds: Sequence[str], chance: Seeds, initial: float, prompts: int | None = None
    ) -> None:
        self.groups = [group for group in graph.groups if group.kind in kinds]
        self._writers = [w for group in self.groups for w in range(group.writers.start, group.writers.stop)]
        self._n_writers, self._prompts = len(graph.writers), prompts
        self.logits = chance.starting_at(initial, (prompts or 1) * len(self._writers)).requires_grad_()

    def of_runs(self, ready: PreparedBatch) -> Tensor:
        """Logits for a batch: [M, runs of the batch, N], or [M, 1, N] when all prompts share their gates."""
        if self._prompts is None:
            return self._by_prompt(self.logits)
        rows = ready.batch.rows[ready.batch.example]
        return self._by_prompt(self.logits).index_select(1, send(rows, self.logits.device))

    def opened(self) -> Tensor:
        """How open every writer is [M, W], averaged over prompts; 1 for a writer without a gate."""
        opened = self._by_prompt(self.logits.sigmoid()).mean(1)
        every = opened.new_ones(len(opened), self._n_writers)
        return every.index_copy(1, send(torch.tensor(self._writers), opened.device), opened)

    def _by_prompt(self, values: Tensor) -> Tensor:
        return values.unflatten(1, (self._prompts or 1, len(self._writers)))


def bottleneck_loss(
    prompts: TrainingBatches, gates: NodeGates, chance: Seeds, strengths: Tensor, *, from_run: bool
) -> Loss:
    """The loss of a step: divergence under noise + strength x the information that passes, in nats.

    Args:
        prompts: the batches, with the divergence that is their objective.
        chance, from_run: as of ``bottleneck``.
        strengths: one for each mask [M].
    """

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        ready = prompts.draw()
        logits = gates.of_runs(ready)
        outputs, information = bottleneck(prompts.model, ready, gates.groups, logits, chance, from_run=from_run)
        divergence = prompts.weigh(ready, prompts.objective.loss(outputs, ready.targets))
        information = prompts.weigh(ready, information[:, None].expand(-1, len(ready.batch.rows)))
        return divergence + strengths * information, {"divergence": divergence, "information": information}

    return loss


def edges_of_nodes(graph: Graph, nodes: Tensor) -> Tensor:
    """The smaller value of the two ends of each edge [M, E], from values of all writers [M, W]; the logits have 1."""
    writers, readers = (send(each, nodes.device) for each in graph.exists.nonzero().T)
    owners = send(torch.tensor(graph.owners), nodes.device)[readers]
    ends = torch.cat([nodes, nodes.new_ones(len(nodes), 1)], 1)  # -1: the logits
    return torch.minimum(nodes[:, writers], ends[:, owners])


def bottleneck(
    model: Transformer,
    ready: PreparedBatch,
    groups: Sequence[NodeGroup],
    logits: Tensor,
    chance: Seeds,
    *,
    from_run: bool,
) -> tuple[Tensor, Tensor]:
    """Outputs [M, n_read, d_out] of a run with noise in what nodes write, and the information that passes [M], in nats.

    Args:
        groups: the nodes with gates, N in all.
        logits: those of the gates, [M, runs of the batch, N], or [M, 1, N] if all runs share them.
        chance: draws the noise, which the prompts of a batch share.
        from_run: whether mean and deviation are those of this run.

    The information is the mean, over nodes, runs, positions and dimensions, of the divergence from noise alone. It is
    that of what the nodes write in clean runs or, with ``from_run``, in this run. Where a node writes what the ablation
    carries on every prompt (with ``from_run``: the same on every prompt) the deviation is zero or rounding, and no
    information is counted.
    """
    m, runs = len(logits), ready.inputs.shape[1]
    gated: dict[Key, tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]] = {}
    start = 0
    for group in groups:
        of_group = logits[:, :, start : start + len(group.nodes)].permute(2, 0, 1)[..., None, None]  # [r, M, S, 1, 1]
        start += len(group.nodes)
        wrote = ready.runs.clean[1][group.key]
        noise = chance.normal(len(group.nodes), *wrote.shape[2:]).transpose(0, 1).unsqueeze(2)  # [r, M, 1, P, d]
        centre = spread = told_apart = None
        if not from_run:
            carried = ready.alternative.activations[group.key]
            square = (wrote - carried).square().sum(1, keepdim=True) / max(runs - 1, 1)
            spread = _without_rounding(square.sqrt(), torch.maximum(wrote.abs(), carried.abs())).unsqueeze(1)
            centre, told_apart = carried.unsqueeze(1), (wrote - carried).unsqueeze(1)
        gated[group.key] = of_group, noise, centre, spread, told_apart
    passed: list[Tensor] = []

    def written(kind: str, layer: int, value: Tensor) -> Tensor:
        if (kind, layer) not in gated:
            return value
        of_group, noise, centre, spread, told_apart = gated[kind, layer]
        apart = value.unflatten(1, (m, -1))  # [r, M, S, P, d]
        if told_apart is None or centre is None or spread is None:
            centre = apart.mean(2, keepdim=True)
            # One run alone has no deviation, and nothing to be told from.
            spread = apart.std(2, keepdim=True) if apart.shape[2] > 1 else torch.zeros_like(centre)
            spread = _without_rounding(spread, apart.detach().abs())
            told_apart = apart - centre
        passed.append(_information(of_group, told_apart, spread).mean((2, 3, 4)).sum(0))
        gate = of_group.sigmoid()
        return (centre + gate * (apart - centre) + (1 - gate) * spread * noise).flatten(1, 2)

    spend(backward=m * runs)
    outputs, _ = model.run(ready.inputs.repeat(1, m, 1, 1), read=ready.runs.read.repeat(m, 1), written=written)
    return outputs.unflatten(0, (m, -1)), torch.stack(passed).sum(0) / start


def _information(logits: Tensor, deviation: Tensor, spread: Tensor) -> Tensor:
    """KL(N(l x, ((1 - l) s)^2) || N(0, s^2)) in nats, l = sigmoid(logits), of deviations x and a spread s."""
    gate = logits.sigmoid()
    silent = spread == 0
    ratio = deviation / spread.masked_fill(silent, 1.0)
    found = 0.5 * ((1 - gate).square() + (gate * ratio).square() - 1) - F.logsigmoid(-logits)
    return found.masked_fill(silent, 0.0)


def _without_rounding(spread: Tensor, sizes: Tensor) -> Tensor:
    """A spread over runs [r, ..., 1, P, d] with zeros where rounding alone may have made it (see ``_rounding``)."""
    return spread.masked_fill(spread <= _rounding(sizes), 0.0)


def _rounding(sizes: Tensor) -> Tensor:
    """How much numbers of these absolute values [r, ..., S, P, d] may differ between runs by rounding: [r, ..., 1, P,
    d].

    An entry has the rounding of its own size, and that of the terms of which it is the sum, whose size is taken to be
    that of what its group of nodes writes at the position. So it is ``_ROUNDING`` epsilons of the larger of two: the
    entry's largest value in any run, and the root mean square of all r S d values at the position.
    """
    over = (0, -3, -1)
    count = math.prod(sizes.shape[each] for each in over)
    typical = torch.linalg.vector_norm(sizes, dim=over, keepdim=True) / math.sqrt(count)
    epsilons = _ROUNDING_IN_16_BITS if sizes.dtype.itemsize == 2 else _ROUNDING
    return epsilons * torch.finfo(sizes.dtype).eps * torch.maximum(sizes.amax(-3, keepdim=True), typical)


def _moved(batches: Sequence[PreparedBatch], graph: Graph) -> Tensor:
    """Whether a writer writes, on any prompt, what differs from the ablation beyond rounding: bool [W], on the CPU."""
    moved = torch.zeros(len(graph.writers), dtype=torch.bool)
    for ready in batches:
        for group in graph.groups:
            if group.writes:
                wrote, carried = ready.runs.clean[1][group.key], ready.alternative.activations[group.key]
                differs = (wrote - carried).abs() > _rounding(torch.maximum(wrote.abs(), carried.abs()))
                moved[group.writers] |= differs.flatten(1).any(1).cpu()
    return moved


def read_out(
    graph: Graph,
    strengths: Sequence[float],
    thresholds: Sequence[float],
    nodes: Tensor,
    curve: Mapping[str, list],
) -> Discovery:
    """Scores, and a circuit for each strength and threshold, from values of the writers [M, W]: a gate, 1 or 0 each."""
    circuits, gates = [], []
    for strength, values in zip(strengths, nodes, strict=True):
        edges = NodeScores(graph, values).edges().values
        for threshold in thresholds:
            label = {"strength": strength, "threshold": threshold}
            circuits.append(NativeCircuit(label, Circuit(graph, edges > threshold)))
        gates.append({"strength": strength, "gates": dict(zip(graph.writers, values.tolist(), strict=True))})
    scores = NodeScores(graph, nodes.mean(0)).edges()
    return Discovery(scores, tuple(circuits), {"masks": gates, "curve": curve})
