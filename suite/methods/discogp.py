"""DiscoGP, circuits of weights and edges: Yu, Niu, Zhu, Chen and Penn 2024, arXiv:2407.03779."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from ..ablation import Ablation
from ..circuit import Discovery, EdgeScores, NativeCircuit
from ..data import Data
from ..errors import SpecError
from ..evaluator import Evaluator, Prepared
from ..model.passes import spend
from ..model.transformer import Transformer
from ..objective import OBJECTIVES, Objective
from ._masks import Prompts, check_moved, circuit_of, gumbel_sigmoid, to_matrix, train, uniform
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

    def faithfulness(outputs: Tensor, ready: Prepared) -> Tensor:
        """[..., B] of outputs [..., n_read, d_out]."""
        if objective.name == "kl" and labels == "prediction":
            chosen = ready.targets.clean.argmax(-1, keepdim=True).expand(*outputs.shape[:-1], 1)
            return ready.targets.a_example(-F.log_softmax(outputs, -1).gather(-1, chosen).squeeze(-1))
        return objective.loss(outputs, ready.targets)

    def completeness(outputs: Tensor, ready: Prepared) -> Tensor:
        return ready.targets.a_example(-F.log_softmax(outputs, -1).mean(-1))

    def initially(shape) -> Tensor:
        noise = 0.01 * torch.randn(*shape, generator=generator, dtype=torch.float64)
        return (initial + noise).to(device=model.device, dtype=model.dtype).requires_grad_()

    # ---- weights -----------------------------------------------------------------------------------------------------

    prompts = Prompts(model, data, ablation, objective, **settings)
    weights = {name: weight for name, weight in model.named_parameters() if is_masked(name)}
    gates = {name: initially(weight.shape) for name, weight in weights.items()}
    n_weights = sum(weight.numel() for weight in weights.values())
    drawn: list[Prepared] = []

    def weight_loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Faithfulness and sparsity at one step, the complement of the same prompts at the next."""
        epoch, turn = step // (turns * len(prompts.batches)), step % turns
        if turn == 0:
            drawn[:] = [prompts.draw()]
        sampled = {
            name: gumbel_sigmoid(gate, uniform(gate.shape, generator, gate), weight_temperature)
            for name, gate in gates.items()
        }
        size = sum(gate.sigmoid().sum() for gate in gates.values()) / n_weights
        if turn == 1:
            outputs = run_masked(model, {name: 1 - gate for name, gate in sampled.items()}, drawn[0])
            found = weight_completeness * prompts.weigh(drawn[0], completeness(outputs, drawn[0]))
            return found[None], {"size": size[None]}
        found = prompts.weigh(drawn[0], faithfulness(run_masked(model, sampled, drawn[0]), drawn[0]))
        strength = weight_sparsity * scheduled(epoch, *weight_schedule)
        return (found + strength * size)[None], {"size": size[None]}

    turns = 2 if weight_completeness else 1
    start = torch.cat([gate.detach().flatten() for gate in gates.values()])
    group = {"params": list(gates.values()), "lr": rate, "weight_decay": weight_decay}
    weight_curve = train([group], weight_loss, steps=weight_epochs * len(prompts.batches) * turns)
    if weight_epochs:
        check_moved(start[None], torch.cat([gate.detach().flatten() for gate in gates.values()])[None])
    kept_weights = {name: (gate > 0).to(model.dtype) for name, gate in gates.items()}
    masked = with_weights(model, kept_weights)

    # ---- edges, on the masked model ----------------------------------------------------------------------------------

    graph = model.graph
    on_masked = Prompts(masked, data, ablation, objective, whole=model, **settings)
    edges = initially((1, graph.n_edges))
    edge_start = edges.detach().clone()

    def edge_loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        epoch = step // len(on_masked.batches)
        training = on_masked if keep_weight_masks or epoch == 0 else prompts
        ready = training.draw()
        sampled = gumbel_sigmoid(edges, uniform((2, graph.n_edges), generator, edges), edge_temperature)
        masks = to_matrix(graph, torch.stack([sampled[0], 1 - sampled[1]]))
        outputs = training.outputs(ready, masks if edge_completeness else masks[:1])
        size = edges.sigmoid().mean(1)
        found = training.weigh(ready, faithfulness(outputs[0], ready))
        total = found + edge_sparsity * scheduled(epoch, *edge_schedule) * size
        if edge_completeness:
            total = total + edge_completeness * training.weigh(ready, completeness(outputs[1], ready))
        return total, {"faithfulness": found[None], "size": size}

    group = {"params": [edges], "lr": rate, "weight_decay": weight_decay}
    edge_curve = train([group], edge_loss, steps=edge_epochs * len(on_masked.batches))
    check_moved(edge_start, edges.detach())

    likely = edges.detach().sigmoid()[0].cpu().double()
    circuit = circuit_of(graph, likely > 0.5)
    every, kept, closed = graph.exists, circuit.edges, graph.exists & ~circuit.edges
    flipped = with_weights(model, {name: 1 - gate for name, gate in kept_weights.items()})
    judge = Judge(model, data, ablation, **settings)
    complements = {"weights": (flipped, every), "edges": (model, closed), "both": (masked, closed)}
    if not keep_weight_masks:
        complements |= {"weights": (flipped, every & False), "both": (flipped, closed)}
    density = float(sum(gate.sum() for gate in kept_weights.values())) / n_weights
    densities = {"weights": (density, 1.0), "edges": (1.0, circuit.n_edges / graph.n_edges)}
    densities["both"] = (density, densities["edges"][1])
    report = {
        name: {"weight_density": densities[name][0], "edge_density": densities[name][1]}
        | judge.faithful(*own)
        | judge.complete(*complements[name])
        for name, own in {"weights": (masked, every), "edges": (model, kept), "both": (masked, kept)}.items()
    }
    return Discovery(
        EdgeScores(graph, to_matrix(graph, likely)),
        (NativeCircuit({"threshold": 0.5}, circuit),),
        {
            "report": report,
            "edges_without_dead_ends": circuit.pruned().n_edges,
            "weight_curve": weight_curve,
            "edge_curve": edge_curve,
        },
    )


def is_masked(name: str) -> bool:
    """Whether a parameter has gates: weights and biases of attention and MLPs; not embeddings, not norms."""
    return name.startswith("blocks.") and ".norm_" not in name


def scheduled(epoch: int, most: float, least: float, warmup: float, cooldown: float) -> float:
    """The factor of lambda at an epoch: from 1 up to ``most``, then down to ``least``, linearly."""
    if epoch < warmup:
        return 1 + (most - 1) * epoch / warmup
    return most + (least - most) * min(1.0, (epoch - warmup) / max(cooldown, 1))


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
