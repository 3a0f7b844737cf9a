"""DiscoGP, circuits of weights and edges: Yu, Niu, Zhu, Chen and Penn 2024, arXiv:2407.03779."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ..circuit import Discovery, EdgeScores, NativeCircuit
from ..data import Data
from ..errors import SpecError
from ..intervention.ablation import Ablation
from ..intervention.objective import Objective
from ..intervention.prepared_batch import PreparedBatch
from ..model.graph import Graph
from ..model.transformer import Transformer
from ._answers import check_answers, mean_where_finite, over_answers
from ._attribution import check_choices
from ._discogp_report import Judge, report
from ._masks import (
    TrainingBatches,
    avoiding,
    check_moved,
    circuit_of,
    gumbel_sigmoid,
    relaxed_gate,
    to_matrix,
    train,
)
from ._seeds import Seeds
from ._weights import ModelsTogether, is_masked, run_masked, ungrouped, with_weights
from .cost import Cost
from .registry import method

LABELS = ("prediction", "distribution", "answers")
OUTPUT_BIAS = ("constant", "heads")
GROUPED = ("shared", "copies")
GATE_KINDS = {"hard": gumbel_sigmoid, "relaxed": relaxed_gate}
# Ours, for compiled models. The paper's sparsity term is a mean over a language model's weights and edges. Compiled
# models have so few that it is thousands of times stronger on each of them, and closes everything. Gates start nearly
# open, because all matter together, and are relaxed, because hard ones have no gradient through saturated attention.
# There are no steps for the complement: Adam makes them as long as all others, whatever their weight, so that they
# close weights that are needed. Chosen while looking at the truths of hist and reverse@fixed, and at how faithful the
# weights of majority_a are.
_COMPILED = {
    "weight_epochs": 300,
    "weight_sparsity": 0.02,
    "weight_schedule": (1.0, 1.0, 1, 1),
    "weight_temperature": 0.3,
    "weight_completeness": 0.0,
    "edge_epochs": 300,
    "edge_sparsity": 0.2,
    "edge_schedule": (1.0, 1.0, 1, 1),
    "edge_completeness": 0.0,
    "rate": 0.05,
    "initial": 5.0,
    "gates": "relaxed",
    "batch_size": 256,
}
# Ours, for the small language models of this project: a minute or two of one core.
MINI = {
    "weight_epochs": 80,
    "weight_sparsity": 3.0,
    "weight_schedule": (10.0, 10.0, 60, 1),
    "weight_temperature": 1.0,
    "edge_epochs": 60,
    "edge_schedule": (1.0, 1.0, 20, 20),
    "edge_completeness": 1.0,
    "initial": 2.0,
}


_WEIGHTS = 8  # copies of the weights in the first stage: gates, their gradients and moments, samples, saved values


def _cost(graph: Graph, prompts: int, weight_epochs: int, edge_epochs: int, batch_size: int, **_: object) -> Cost:
    # Circuit and complement, forward and backward; a pass with masked weights costs more than one with masked edges.
    # Prompts are prepared for the model and for the masked one. The stream of a pass over several models is copied at
    # every write (see ConcatenatedStream): twice a layer, half of the writers on average.
    return Cost(
        trained=6 * prompts * (weight_epochs + edge_epochs),
        weights=_WEIGHTS if weight_epochs else 2,
        masks=2,
        step=min(prompts, batch_size),
        prepared=2,
        streams=graph.n_layers * (1 + graph.mlps) / 2,
    )


@method(
    "discogp",
    paper="Yu et al. 2024, arXiv:2407.03779",
    needs={"gradients", "distribution"},
    objectives="divergence",
    presets={
        "reference-code": {"keep_weight_masks": False, "output_bias": "heads", "grouped": "copies"},
        "compiled": _COMPILED,
        "mini": MINI,
        "quick": _COMPILED | {"weight_epochs": 80, "edge_epochs": 100, "rate": 0.15},
    },
    cost="epochs x prompts x (2 forward, 2 backward), in each of two stages",
    stochastic=True,
    may_be_zero={"weight_epochs"},
    passes=lambda graph, n, given: _cost(graph, n, **given),
)
def discover(
    model: Transformer,
    data: Data,
    *,
    ablation: Ablation,
    objective: Objective,
    seeds: Sequence[int],
    weight_epochs: int = 500,
    weight_sparsity: float = 1.0,
    weight_schedule: tuple[float, ...] = (1000.0, 1.0, 500, 1),
    weight_completeness: float = 1.0,
    weight_temperature: float = 0.01,
    edge_epochs: int = 100,
    edge_sparsity: float = 1.0,
    edge_schedule: tuple[float, ...] = (100.0, 0.01, 20, 20),
    edge_completeness: float = 0.0,
    edge_temperature: float = 1.0,
    rate: float = 0.1,
    weight_decay: float = 0.01,
    initial: float = 1.0,
    labels: str = "prediction",
    gates: str = "hard",
    output_bias: str = "constant",
    grouped: str = "shared",
    keep_weight_masks: bool = True,
    avoid: tuple[str, ...] = (),
    avoid_weight: float = 1.04,
    batch_size: int = 64,
) -> list[Discovery]:
    """Trains gates on every weight, then on every edge of the model whose weights are masked.

    The defaults are those of the released ``run.py`` (2025).

    loss = faithfulness + lambda mean sigmoid(logit) + completeness. The last term is small when the complement, which
    is everything that the gates close, answers uniformly. An edge's score is sigmoid(logit), and the circuit has the
    edges whose logit is positive. The report in the diagnostics compares the circuit with the whole model:
    ``accuracy``, how often both predict the same; ``kl``, the divergence; ``complement_accuracy``, the accuracy of the
    complement, averaged over the whole model's predictions so that a constant answer scores no more than ``chance``.

    Embeddings and norms are not masked. A masked weight is zero under every ablation; a cut edge carries the
    ablation's activations, which are zero in the paper.

    Args:
        weight_epochs, edge_epochs: the epochs of each stage. With 0 weight epochs only edges are trained.
        weight_sparsity, edge_sparsity: lambda at the start.
        weight_schedule, edge_schedule: (most, least, warm-up, cool-down): lambda rises to ``most`` times its start over
            the epochs of warm-up, and falls to ``least`` times over those of cool-down.
        weight_completeness, edge_completeness: the weight of completeness in the loss; with 0 the complement is not
            run.
        weight_temperature, edge_temperature: the temperature of the gates' gradients. At the paper's temperature for
            weights, hardly any gates but those within 0.05 of the threshold have a gradient, so that training takes
            thousands of steps.
        rate, weight_decay: the learning rate and weight decay of AdamW.
        initial: the logits at the start, to which noise of standard deviation 0.01 is added.
        labels: the measure of faithfulness under ``kl``. ``prediction`` is the cross-entropy to the whole model's
            prediction, as in the paper; ``distribution`` is the divergence from its distribution; ``answers`` is the
            cross-entropy among the prompt's right and wrong answers alone, as in the released code, and restricts
            completeness and the report in the same way. Under ``l2`` faithfulness is the squared error.
        gates: ``hard`` gates are zero or one and have the gradient of the relaxed gate, as in the paper; ``relaxed``
            gates are between zero and one while training. A hard gate's gradient is taken where its edge is wholly
            kept or wholly cut. If attention is saturated at both ends, as in compiled models, this gradient is zero
            however much the edge matters.
        output_bias: the edges that carry the output bias of attention. With ``constant`` no edge does, as everywhere in
            this project. With ``heads`` the edges out of the layer's heads carry equal shares, so that an edge cut to
            zero loses its share, as in the released code; under other ablations this makes no difference.
        grouped: the gates on weights of keys and values in models with grouped queries. With ``shared`` each weight of
            the model has one gate, which the heads of a group share. With ``copies`` each head has a copy of the
            weights with gates of its own, as in the released code: a weight may then be kept by one head and not by
            another, and the copies count in the density. Without groups both are the same.
        keep_weight_masks: whether the second stage trains edges on the masked model. The released code loses the masks
            after its first evaluation and, to measure a complement, flips the edges together with the weights
            (``reference-code``).
        avoid, avoid_weight: the names of the edges of a circuit from which the new one is to differ, and the weight of
            the overlap in the second stage's loss (see ``_masks.avoiding``).
        batch_size: prompts in a step.

    Raises:
        DataError: an edge to avoid is not in the graph.
        SpecError: a choice is unknown, or a schedule is not four numbers.
        Undefined: ``labels`` is ``answers``, and a prompt has fewer than two.
        MethodError: training has not moved a mask.
    """
    model = model_with_gates(model, data, labels=labels, output_bias=output_bias, grouped=grouped)
    stage = partial(Stage, rate=rate, weight_decay=weight_decay, initial=initial, labels=labels, gates=gates)
    weights = stage(weight_epochs, weight_sparsity, weight_schedule, weight_completeness, weight_temperature)
    edges = stage(edge_epochs, edge_sparsity, edge_schedule, edge_completeness, edge_temperature)
    bias_on_heads = output_bias == "heads" and ablation.value == "zero"
    chance = Seeds(seeds, model)
    judge = Judge(model, data, ablation, labels == "answers", bias_on_heads, seed=seeds[0], batch_size=batch_size)
    on = partial(TrainingBatches, data=data, ablation=ablation, objective=objective, seeds=seeds, batch_size=batch_size)
    whole = on(model)
    kept_weights, weight_curve = train_weights(weights, whole, chance)
    masked = [on(with_weights(model, each), whole=model) for each in kept_weights]
    first, later = models_to_cut(masked, whole, bias_on_heads, keep_weight_masks)
    likely, edge_curve = train_edges(edges, first, later, chance, avoid, avoid_weight)
    found = zip(kept_weights, likely, chance.curves(weight_curve), chance.curves(edge_curve), strict=True)
    return [read_out(judge, *each, flip_both=not keep_weight_masks) for each in found]


def model_with_gates(model: Transformer, data: Data, *, labels: str, output_bias: str, grouped: str) -> Transformer:
    """The model whose weights have gates: ``model``, or its copy without groups when ``grouped`` is ``copies``.

    Raises:
        SpecError: an unknown choice.
        Undefined: ``labels`` is ``answers``, and a prompt has fewer than two.
    """
    check_choices("discogp", output_bias=(output_bias, OUTPUT_BIAS), grouped=(grouped, GROUPED))
    if labels == "answers":
        check_answers("discogp", data)
    return ungrouped(model) if grouped == "copies" else model


@dataclass(frozen=True)
class Stage:
    """The parameters of ``discover`` that belong to one of the two stages.

    Raises:
        SpecError: unknown ``labels`` or ``gates``, or a schedule that is not four numbers.
    """

    epochs: int
    sparsity: float
    schedule: tuple[float, ...]
    completeness: float
    temperature: float
    rate: float
    weight_decay: float
    initial: float
    labels: str
    gates: str

    def __post_init__(self) -> None:
        if self.labels not in LABELS or self.gates not in GATE_KINDS or len(self.schedule) != 4:
            raise SpecError(
                f"discogp: labels={self.labels!r}, gates={self.gates!r}, schedule={self.schedule!r}; labels are "
                f"{' or '.join(LABELS)}, gates {' or '.join(GATE_KINDS)}, and a schedule is four numbers."
            )

    def strength(self, epoch: int) -> float:
        """lambda at an epoch: it rises to ``most`` times the start in the warm-up, then falls to ``least`` times."""
        most, least, warmup, cooldown = self.schedule
        if epoch < warmup:
            return self.sparsity * (1 + (most - 1) * epoch / warmup)
        return self.sparsity * (most + (least - most) * min(1.0, (epoch - warmup) / max(cooldown, 1)))

    def sample(self, logits: Tensor, u: Tensor) -> Tensor:
        """Samples gates from the uniform numbers ``u``."""
        return GATE_KINDS[self.gates](logits, u, self.temperature)

    def faithfulness(self, outputs: Tensor, ready: PreparedBatch, objective: Objective) -> Tensor:
        """Loss [..., B] of outputs [..., n_read, d_out]."""
        if objective.name != "kl" or self.labels == "distribution":
            return objective.loss(outputs, ready.targets)
        clean = ready.targets.clean
        if self.labels == "answers":
            clean, outputs = over_answers(clean, ready.batch), over_answers(outputs, ready.batch)
        chosen = clean.argmax(-1, keepdim=True).expand(*outputs.shape[:-1], 1)
        return ready.targets.a_example(-F.log_softmax(outputs, -1).gather(-1, chosen).squeeze(-1))

    def incompleteness(self, outputs: Tensor, ready: PreparedBatch) -> Tensor:
        """Cross-entropy [..., B] between a complement's outputs and the uniform distribution, times its weight in the
        loss."""
        if self.labels == "answers":
            outputs = over_answers(outputs, ready.batch)
        return self.completeness * ready.targets.a_example(-mean_where_finite(F.log_softmax(outputs, -1)))


def train_weights(
    stage: Stage, prompts: TrainingBatches, chance: Seeds
) -> tuple[list[dict[str, Tensor]], dict[str, list]]:
    """The first stage. Returns for each seed the weights that are kept (ones and zeros, by name), and the loss curve.

    Faithfulness and sparsity take one step of the optimiser, the complement of the same prompts the next.
    """
    model, objective = prompts.model, prompts.objective
    start = {
        name: chance.starting_at(stage.initial, *weight.shape)
        for name, weight in model.named_parameters()
        if is_masked(name)
    }
    gates = {name: each.clone().requires_grad_() for name, each in start.items()}
    sizes = [gate[0].numel() for gate in gates.values()]
    turns = 2 if stage.completeness else 1
    drawn: list[PreparedBatch] = []

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        turn = step % turns
        if turn == 0:
            drawn[:] = [prompts.draw()]
        noise = chance.uniform(sum(sizes)).split(sizes, 1)  # one draw: each has a fixed cost
        sampled = {
            name: stage.sample(gate, own.unflatten(1, gate.shape[1:]))
            for (name, gate), own in zip(gates.items(), noise, strict=True)
        }
        size = torch.cat([gate.sigmoid().flatten(1) for gate in gates.values()], 1).mean(1)
        if turn == 1:
            outputs = run_masked(model, {name: 1 - gate for name, gate in sampled.items()}, drawn[0])
            return prompts.weigh(drawn[0], stage.incompleteness(outputs, drawn[0])), {"size": size}
        found = stage.faithfulness(run_masked(model, sampled, drawn[0]), drawn[0], objective)
        press = stage.strength(step // (turns * len(prompts.batches))) * size
        return prompts.weigh(drawn[0], found) + press, {"size": size}

    group = {"params": list(gates.values()), "lr": stage.rate, "weight_decay": stage.weight_decay}
    curve = train([group], loss, steps=stage.epochs * len(prompts.batches) * turns)
    if stage.epochs:
        check_moved(*(torch.cat([each.detach().flatten(1) for each in part.values()], 1) for part in (start, gates)))
    kept = {name: (gate.detach() > 0).to(model.dtype) for name, gate in gates.items()}
    return [{name: gate[i] for name, gate in kept.items()} for i in range(len(chance))], curve


def models_to_cut(
    masked: Sequence[TrainingBatches], whole: TrainingBatches, bias_on_heads: bool, keep_weight_masks: bool
) -> tuple[ModelsTogether, ModelsTogether]:
    """The models whose edges the second stage cuts in its first epoch, and those of all later epochs.

    They are the masked models, one for each seed. Without ``keep_weight_masks`` the later ones are the whole model: the
    released code restores all weights when it evaluates, which it does after each epoch.
    """
    later = masked if keep_weight_masks else [whole] * len(masked)
    return ModelsTogether(masked, bias_on_heads), ModelsTogether(later, bias_on_heads)


def train_edges(
    stage: Stage,
    first: ModelsTogether,
    later: ModelsTogether,
    chance: Seeds,
    avoid: Sequence[str] = (),
    avoid_weight: float = 0.0,
) -> tuple[Tensor, dict[str, list]]:
    """The second stage. Returns the probability that each seed keeps each edge [M, E], and the loss curve.

    Args:
        first, later: the models whose edges are cut in the first epoch, and in all later ones (``models_to_cut``).
        avoid, avoid_weight: as in ``discover``.
    """
    graph, n_batches = first.graph, len(first.batches)
    start = chance.starting_at(stage.initial, graph.n_edges)
    edges = start.clone().requires_grad_()

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        epoch = step // n_batches
        prompts = later if epoch else first
        batch, ready = prompts.draw()
        sampled = stage.sample(edges.unsqueeze(1), chance.uniform(2, graph.n_edges))
        kept = torch.stack([sampled[:, 0], 1 - sampled[:, 1]], 1)
        outputs = prompts.outputs(batch, to_matrix(graph, kept if stage.completeness else kept[:, :1]))
        size = edges.sigmoid().mean(1)
        found = prompts.weigh(ready, stage.faithfulness(outputs[:, 0], ready, prompts.objective))
        total = found + stage.strength(epoch) * size
        if stage.completeness:
            total = total + prompts.weigh(ready, stage.incompleteness(outputs[:, 1], ready))
        return total, {"faithfulness": found, "size": size}

    group = {"params": [edges], "lr": stage.rate, "weight_decay": stage.weight_decay}
    penalised = avoiding(loss, graph, avoid, avoid_weight, edges.sigmoid)
    curve = train([group], penalised, steps=stage.epochs * n_batches)
    check_moved(start, edges.detach())
    return edges.detach().sigmoid().cpu().double(), curve


def read_out(
    judge: Judge,
    kept_weights: Mapping[str, Tensor],
    likely: Tensor,
    weight_curve: dict[str, list],
    edge_curve: dict[str, list],
    *,
    flip_both: bool,
) -> Discovery:
    """The scores, the circuit and the report of one seed.

    Args:
        judge: compares masked models with the whole one.
        kept_weights: ones and zeros, by the weight's name.
        likely: float [E], the probability of each edge.
        weight_curve, edge_curve: the losses of the two stages.
        flip_both: as of ``report``.
    """
    graph = judge.model.graph
    circuit = circuit_of(graph, likely > 0.5)
    return Discovery(
        EdgeScores(graph, to_matrix(graph, likely)),
        (NativeCircuit({"threshold": 0.5}, circuit),),
        {
            "report": report(judge, kept_weights, circuit, flip_both=flip_both),
            "edges_without_dead_ends": circuit.pruned().n_edges,
            "weight_curve": weight_curve,
            "edge_curve": edge_curve,
        },
    )
