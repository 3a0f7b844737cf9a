"""DiscoGP, circuits of weights and edges: Yu, Niu, Zhu, Chen and Penn 2024, arXiv:2407.03779."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from ..ablation import Ablation
from ..circuit import Circuit, Discovery, EdgeScores, NativeCircuit
from ..data import Data
from ..errors import SpecError
from ..evaluator import Evaluator, Prepared
from ..model.passes import spend
from ..model.transformer import Transformer
from ..objective import OBJECTIVES, Objective
from ._masks import Prompts, check_moved, circuit_of, gumbel_sigmoid, starting_at, to_matrix, train, uniform
from .registry import method

LABELS = ("prediction", "distribution")
# Ours, for compiled models. The paper's pressure is a mean over a language model's weights and edges; over these few it
# is thousands of times stronger on each, and closes everything. Gates start nearly open, because all matter together.
COMPILED = {
    "weight_epochs": 200,
    "weight_sparsity": 0.02,
    "weight_schedule": (10.0, 10.0, 150, 10),
    "weight_temperature": 1.0,
    "edge_epochs": 150,
    "edge_sparsity": 0.02,
    "edge_schedule": (10.0, 1.0, 100, 10),
    "initial": 5.0,
    "weight_completeness": 0.1,
    "edge_completeness": 0.1,
    "batch_size": 256,
}


@method(
    "discogp",
    paper="Yu et al. 2024, arXiv:2407.03779",
    needs={"gradients", "distribution"},
    objectives="divergence",
    presets={
        "reference-code": {"keep_weight_masks": False},
        "compiled": COMPILED,
        "quick": COMPILED | {"weight_epochs": 40, "edge_epochs": 30, "rate": 0.2},
    },
    cost="epochs x prompts x (2 forward, 2 backward), in each of two stages",
    stochastic=True,
)
def discover(
    model: Transformer,
    data: Data,
    *,
    ablation: Ablation,
    objective: Objective,
    seed: int,
    weight_epochs: int = 500,
    weight_sparsity: float = 1.0,
    weight_schedule: tuple[float, ...] = (1000.0, 1.0, 500, 1),
    weight_completeness: float = 1.0,
    weight_temperature: float = 0.01,
    edge_epochs: int = 100,
    edge_sparsity: float = 1.0,
    edge_schedule: tuple[float, ...] = (100.0, 0.01, 20, 20),
    edge_completeness: float = 1.0,
    edge_temperature: float = 1.0,
    rate: float = 0.1,
    weight_decay: float = 0.01,
    initial: float = 1.0,
    labels: str = "prediction",
    keep_weight_masks: bool = True,
    batch_size: int = 64,
) -> Discovery:
    """Straight-through gates on every weight, then on every edge of the masked model.

    loss = faithfulness + lambda mean sigmoid(logit) + completeness, where the complement, everything that the gates
    close, is to answer uniformly. An edge's score is sigmoid(logit); the circuit has the edges whose logit is positive.
    The report of the diagnostics compares with the whole model: ``accuracy``, how often the prediction is its own;
    ``kl``; ``complement_accuracy``, the complement's, averaged over the whole model's predictions so that a constant
    answer scores ``chance`` and no more.

    Embeddings and norms are not masked. A masked weight is zero whatever the ablation; a cut edge carries the
    ablation's activations (the paper's: zero).

    Args:
        weight_epochs, edge_epochs: epochs of each stage; no weight epochs is edges alone.
        weight_sparsity, edge_sparsity: lambda at the start.
        weight_schedule, edge_schedule: (most, least, warm-up, cool-down): lambda rises to ``most`` times its start over
            the epochs of warm-up, and falls to ``least`` times over those of cool-down.
        weight_completeness, edge_completeness: the complement's share of the loss; 0 does not run it.
        weight_temperature, edge_temperature: of the gates' gradients. At the paper's for weights, a gate within 0.05 of
            its threshold has one and few others do, which takes thousands of steps.
        rate, weight_decay: of AdamW.
        initial: logits at the start, plus noise of deviation 0.01.
        labels: under ``kl``, what faithfulness is: cross-entropy to the whole model's ``prediction``, as in the paper,
            or the divergence from its ``distribution``. Under ``l2`` it is the squared error.
        keep_weight_masks: whether the second stage trains edges on the masked model. The released code loses the masks
            after its first evaluation, and flips edges with weights where it measures a complement
            (``reference-code``).
        batch_size: prompts a step.

    Raises:
        SpecError: unknown ``labels``, or schedules that are not four numbers.
        MethodError: a mask that training has not moved.
    """
    if labels not in LABELS or len(weight_schedule) != 4 or len(edge_schedule) != 4:
        raise SpecError(f"discogp: labels={labels!r}; it is {' or '.join(LABELS)}, and a schedule is four numbers.")
    generator = torch.Generator().manual_seed(seed)
    settings = {"seed": seed, "batch_size": batch_size}
    common = {"rate": rate, "weight_decay": weight_decay, "initial": initial, "labels": labels}
    prompts = Prompts(model, data, ablation, objective, **settings)
    weights = Stage(weight_epochs, weight_sparsity, weight_schedule, weight_completeness, weight_temperature, **common)
    kept_weights, weight_curve = train_weights(weights, prompts, generator)
    masked = with_weights(model, kept_weights)

    edges = Stage(edge_epochs, edge_sparsity, edge_schedule, edge_completeness, edge_temperature, **common)
    on_masked = Prompts(masked, data, ablation, objective, whole=model, **settings)
    # The released code forgets the masks when it evaluates, which it does after each epoch.
    likely, edge_curve = train_edges(edges, on_masked, on_masked if keep_weight_masks else prompts, generator)

    circuit = circuit_of(model.graph, likely > 0.5)
    judge = Judge(model, data, ablation, **settings)
    return Discovery(
        EdgeScores(model.graph, to_matrix(model.graph, likely)),
        (NativeCircuit({"threshold": 0.5}, circuit),),
        {
            "report": report(judge, model, kept_weights, circuit, flip_both=not keep_weight_masks),
            "edges_without_dead_ends": circuit.pruned().n_edges,
            "weight_curve": weight_curve,
            "edge_curve": edge_curve,
        },
    )


@dataclass(frozen=True)
class Stage:
    """The parameters of ``discover`` that belong to one of the two stages."""

    epochs: int
    sparsity: float
    schedule: tuple[float, ...]
    completeness: float
    temperature: float
    rate: float
    weight_decay: float
    initial: float
    labels: str

    def strength(self, epoch: int) -> float:
        """lambda at an epoch: up to ``most`` times its start while it warms up, down to ``least`` times after."""
        most, least, warmup, cooldown = self.schedule
        if epoch < warmup:
            return self.sparsity * (1 + (most - 1) * epoch / warmup)
        return self.sparsity * (most + (least - most) * min(1.0, (epoch - warmup) / max(cooldown, 1)))

    def faithfulness(self, outputs: Tensor, ready: Prepared, objective: Objective) -> Tensor:
        """Loss [..., B] of outputs [..., n_read, d_out]."""
        if objective.name != "kl" or self.labels == "distribution":
            return objective.loss(outputs, ready.targets)
        chosen = ready.targets.clean.argmax(-1, keepdim=True).expand(*outputs.shape[:-1], 1)
        return ready.targets.a_example(-F.log_softmax(outputs, -1).gather(-1, chosen).squeeze(-1))

    def incompleteness(self, outputs: Tensor, ready: Prepared) -> Tensor:
        """Cross-entropy [..., B] of a complement's outputs to the uniform answer, times its share of the loss."""
        return self.completeness * ready.targets.a_example(-F.log_softmax(outputs, -1).mean(-1))


def train_weights(
    stage: Stage, prompts: Prompts, generator: torch.Generator
) -> tuple[dict[str, Tensor], dict[str, list]]:
    """The first stage: which weights are kept (ones and zeros, by name), and the loss curve.

    Faithfulness and sparsity take one step of the optimiser, the complement of the same prompts the next.
    """
    model, objective = prompts.model, prompts.objective
    gates = {
        name: starting_at(stage.initial, weight.shape, generator, model).requires_grad_()
        for name, weight in model.named_parameters()
        if is_masked(name)
    }
    n_weights, turns = sum(gate.numel() for gate in gates.values()), 2 if stage.completeness else 1
    drawn: list[Prepared] = []

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        turn = step % turns
        if turn == 0:
            drawn[:] = [prompts.draw()]
        sampled = {
            name: gumbel_sigmoid(gate, uniform(gate.shape, generator, gate), stage.temperature)
            for name, gate in gates.items()
        }
        size = sum(gate.sigmoid().sum() for gate in gates.values()) / n_weights
        if turn == 1:
            outputs = run_masked(model, {name: 1 - gate for name, gate in sampled.items()}, drawn[0])
            return prompts.weigh(drawn[0], stage.incompleteness(outputs, drawn[0]))[None], {"size": size[None]}
        found = stage.faithfulness(run_masked(model, sampled, drawn[0]), drawn[0], objective)
        press = stage.strength(step // (turns * len(prompts.batches))) * size
        return (prompts.weigh(drawn[0], found) + press)[None], {"size": size[None]}

    def flat() -> Tensor:
        return torch.cat([gate.detach().flatten() for gate in gates.values()])[None]

    start = flat()
    group = {"params": list(gates.values()), "lr": stage.rate, "weight_decay": stage.weight_decay}
    curve = train([group], loss, steps=stage.epochs * len(prompts.batches) * turns)
    if stage.epochs:
        check_moved(start, flat())
    return {name: (gate.detach() > 0).to(model.dtype) for name, gate in gates.items()}, curve


def train_edges(
    stage: Stage, first: Prompts, later: Prompts, generator: torch.Generator
) -> tuple[Tensor, dict[str, list]]:
    """The second stage: how likely each edge is kept [E], and the loss curve.

    Args:
        first, later: the prompts, with the model that edges are cut in, of the first epoch and of all others.
    """
    graph = first.model.graph
    start = starting_at(stage.initial, (1, graph.n_edges), generator, first.model)
    edges = start.clone().requires_grad_()

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        epoch = step // len(first.batches)
        prompts = later if epoch else first
        ready = prompts.draw()
        sampled = gumbel_sigmoid(edges, uniform((2, graph.n_edges), generator, edges), stage.temperature)
        masks = to_matrix(graph, torch.stack([sampled[0], 1 - sampled[1]]))
        outputs = prompts.outputs(ready, masks if stage.completeness else masks[:1])
        size = edges.sigmoid().mean(1)
        found = prompts.weigh(ready, stage.faithfulness(outputs[0], ready, prompts.objective))
        total = found + stage.strength(epoch) * size
        if stage.completeness:
            total = total + prompts.weigh(ready, stage.incompleteness(outputs[1], ready))
        return total, {"faithfulness": found[None], "size": size}

    group = {"params": [edges], "lr": stage.rate, "weight_decay": stage.weight_decay}
    curve = train([group], loss, steps=stage.epochs * len(first.batches))
    check_moved(start, edges.detach())
    return edges.detach().sigmoid()[0].cpu().double(), curve


def report(
    judge: Judge, model: Transformer, kept_weights: Mapping[str, Tensor], circuit: Circuit, flip_both: bool
) -> dict[str, dict[str, float]]:
    """Density, faithfulness and completeness of the weights found, the edges found, and both.

    The complement of weights is all other weights; of edges, and of both, all other edges.

    Args:
        flip_both: as the released code does it: no edge beside all other weights; other weights beside other edges.
    """
    every, kept, closed = model.graph.exists, circuit.edges, model.graph.exists & ~circuit.edges
    masked = with_weights(model, kept_weights)
    others = with_weights(model, {name: 1 - gate for name, gate in kept_weights.items()})
    own = {"weights": (masked, every), "edges": (model, kept), "both": (masked, kept)}
    complement = {"weights": (others, every), "edges": (model, closed), "both": (masked, closed)}
    if flip_both:
        complement |= {"weights": (others, every & ~every), "both": (others, closed)}
    n_weights = sum(gate.numel() for gate in kept_weights.values())
    weight_density = float(sum(gate.sum() for gate in kept_weights.values())) / n_weights
    return {
        name: {
            "weight_density": 1.0 if name == "edges" else weight_density,
            "edge_density": 1.0 if name == "weights" else circuit.n_edges / model.graph.n_edges,
        }
        | judge.faithful(*own[name])
        | judge.complete(*complement[name])
        for name in own
    }


def is_masked(name: str) -> bool:
    """Whether a parameter has gates: weights and biases of attention and MLPs; not embeddings, not norms."""
    return name.startswith("blocks.") and ".norm_" not in name


def run_masked(model: Transformer, gates: Mapping[str, Tensor], ready: Prepared) -> Tensor:
    """Outputs [n_read, d_out] with weights multiplied by gates; differentiable in the gates."""
    weights = {name: gate * model.get_parameter(name) for name, gate in gates.items()}
    spend(backward=len(ready.batch.rows))
    tokens = ready.batch.clean.to(model.device)
    return functional_call(model, weights, (tokens,), {"read": ready.runs.read})


def with_weights(model: Transformer, gates: Mapping[str, Tensor]) -> Transformer:
    """A copy of the model with its weights multiplied by gates."""
    masked = copy.deepcopy(model)
    with torch.no_grad():
        for name, gate in gates.items():
            masked.get_parameter(name).mul_(gate)
    return masked


class Judge:
    """Compares masked models with the whole one.

    Args: as of ``Evaluator``; outputs of all prompts are taken in the same order.
    """

    def __init__(self, model: Transformer, data: Data, ablation: Ablation, *, seed: int, batch_size: int) -> None:
        self._outputs: Callable[[Transformer, Tensor], Tensor] = lambda other, edges: Evaluator(
            other, data, ablation, OBJECTIVES.get("kl"), seed=seed, batch_size=batch_size
        ).outputs(edges[None])[0]
        self.whole = self._outputs(model, model.graph.exists)  # [n_read, d_out]
        self.prediction = self.whole.argmax(-1)

    def faithful(self, model: Transformer, edges: Tensor) -> dict[str, float]:
        """How near a model with only ``edges`` [W, R] kept is to the whole one."""
        outputs = self._outputs(model, edges)
        log_whole, log_found = (F.log_softmax(each.double(), -1) for each in (self.whole, outputs))
        return {
            "accuracy": float((outputs.argmax(-1) == self.prediction).double().mean()),
            "kl": float((log_whole.exp() * (log_whole - log_found)).sum(-1).mean()),
        }

    def complete(self, model: Transformer, edges: Tensor) -> dict[str, float]:
        """How much a complement still knows, each prediction of the whole model counting the same."""
        right = (self._outputs(model, edges).argmax(-1) == self.prediction).double()
        classes, which = self.prediction.unique(return_inverse=True)
        by_class = torch.zeros(len(classes), dtype=torch.float64, device=right.device).index_add(0, which, right)
        accuracy = float((by_class / which.bincount().double()).mean())
        return {"complement_accuracy": accuracy, "chance": 1 / len(classes)}
