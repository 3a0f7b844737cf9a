"""What the methods that train masks share: gates, shuffled prompts, the loop, and how a circuit is read out.

Many masks are trained in one run along the mask axis of the cut pass: for each seed, one mask per target or
regularisation strength. They share the prompts, and those of one seed also share its random numbers, but nothing else.
So each mask comes out as if it were trained alone. The letters: M masks (those of the first seed, then those of the
second), S samples of each, E edges of the graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..circuit import Circuit
from ..data import Data
from ..errors import MethodError, NotFinite
from ..intervention.ablation import Ablation
from ..intervention.evaluator import Evaluator
from ..intervention.objective import Objective
from ..intervention.prepared_batch import PreparedBatch
from ..model.device import send
from ..model.graph import Graph
from ..model.passes import spend
from ..model.transformer import Transformer

# Louizos, Welling and Kingma 2018, arXiv:1712.01312: temperature, and the interval to which a gate is stretched.
BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
_RECORDED = 40  # intervals between the points of a loss curve
_ORDER = 0  # the seed from which the prompts are shuffled

# ---- gates -----------------------------------------------------------------------------------------------------------


def hard_concrete(log_alpha: Tensor, u: Tensor) -> Tensor:
    """A gate in [0, 1], often exactly 0 or 1: a concrete variable of the uniform ``u``, stretched and clipped."""
    concrete = ((u.log() - (-u).log1p() + log_alpha) / BETA).sigmoid()
    return (concrete * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def probability_open(log_alpha: Tensor) -> Tensor:
    """P(gate > 0) of a hard concrete gate. The sum over a mask is the expected number of its open gates."""
    return (log_alpha - BETA * math.log(-GAMMA / ZETA)).sigmoid()


def soft_gate(log_alpha: Tensor) -> Tensor:
    """The gate without noise, as in Edge Pruning: sigmoid(0.8 log_alpha / beta)."""
    return (0.8 * log_alpha / BETA).sigmoid()


def relaxed_gate(logits: Tensor, u: Tensor, temperature: float) -> Tensor:
    """A gate in (0, 1), above one half with probability sigmoid(logits) at any temperature."""
    return ((logits + u.log() - (-u).log1p()) / temperature).sigmoid()


def gumbel_sigmoid(logits: Tensor, u: Tensor, temperature: float) -> Tensor:
    """``relaxed_gate`` rounded to 1 or 0, with the gradient of the relaxed gate (straight through)."""
    relaxed = relaxed_gate(logits, u, temperature)
    return (relaxed > 0.5).to(relaxed.dtype) + relaxed - relaxed.detach()


def uniform_gate(logits: Tensor, u: Tensor) -> Tensor:
    """1 - clamp((u - theta) / w + 1/2), theta = sigmoid(logits), w = theta (1 - theta) constant; the mean is theta."""
    theta = logits.sigmoid()
    width = (theta * (1 - theta)).detach()
    return 1 - ((u - theta) / width + 0.5).clamp(0, 1)


# ---- masks over the edges that exist ---------------------------------------------------------------------------------


def to_matrix(graph: Graph, values: Tensor) -> Tensor:
    """Values of edges [..., E], in the order of ``graph.edges``, as [..., W, R]; zero where no edge exists."""
    where = send(graph.exists.flatten().nonzero().flatten(), values.device)
    empty = values.new_zeros(*values.shape[:-1], graph.exists.numel())
    return empty.index_copy(-1, where, values).unflatten(-1, graph.exists.shape)


def circuit_of(graph: Graph, kept: Tensor) -> Circuit:
    """The circuit of the edges for which ``kept``, bool [E], is true."""
    return Circuit(graph, to_matrix(graph, kept.cpu().double()) > 0.5)


def bisect_threshold(values: Tensor, sparsity: float) -> float:
    """The threshold (to 1e-5) above which 1 - ``sparsity`` of ``values`` [n] lie, as in the code of Edge Pruning."""
    low, high = 0.0, 1.0
    while high - low > 1e-5:
        middle = (low + high) / 2
        if float((values <= middle).double().mean()) < sparsity:
            low = middle
        else:
            high = middle
    return (low + high) / 2


# ---- prompts ---------------------------------------------------------------------------------------------------------


class TrainingBatches:
    """Batches of prompts, in an order that is shuffled in each epoch and is the same for every seed.

    The prompts of a batch have one length and stay together, so that each batch is prepared once. The loss of a batch
    is weighted by the size of the batch, so that every prompt counts the same in an epoch.

    Args:
        model, data, ablation, objective: what the losses are computed with.
        seeds: the first is the seed of the ablation. An ablation that draws is trained with one seed alone.
        batch_size: prompts per batch.
        whole: the model whose outputs are the targets; ``model`` when omitted.
        cut_first: whether edges are cut at the first position, too.
    """

    def __init__(
        self,
        model: Transformer,
        data: Data,
        ablation: Ablation,
        objective: Objective,
        *,
        seeds: Sequence[int],
        batch_size: int,
        whole: Transformer | None = None,
        cut_first: bool = True,
    ) -> None:
        self.model, self.objective, self.n, self._cut_first = model, objective, data.n, cut_first
        seed = seeds[0]
        evaluator = Evaluator(model, data, ablation, objective, seed=seed, batch_size=batch_size)
        targets = evaluator if whole is None else Evaluator(whole, data, ablation, objective, seed=seed)
        self._generator = torch.Generator().manual_seed(_ORDER)
        self.batches: list[PreparedBatch] = []
        for length in data.lengths.unique():
            rows = (data.lengths == length).nonzero().flatten()
            for part in rows[torch.randperm(len(rows), generator=self._generator)].split(batch_size):
                ready = evaluator.prepare(data.batch(part))
                if whole is not None:
                    ready.targets = targets.prepare(data.batch(part)).targets
                self.batches.append(ready)
        self._waiting: list[PreparedBatch] = []

    def draw(self) -> PreparedBatch:
        """The next batch."""
        if not self._waiting:
            order = torch.randperm(len(self.batches), generator=self._generator).tolist()
            self._waiting = [self.batches[i] for i in order]
        return self._waiting.pop()

    def loss(self, ready: PreparedBatch, masks: Tensor, offset: Tensor | None = None) -> Tensor:
        """Weighted mean loss of the batch under each mask [C, W, R]: [C]."""
        return self.weigh(ready, self.objective.loss(self.outputs(ready, masks, offset), ready.targets))

    def outputs(self, ready: PreparedBatch, masks: Tensor, offset: Tensor | None = None) -> Tensor:
        """Outputs of the batch under each mask: [C, n_read, d_out]. The backward pass to come is counted, too."""
        spend(backward=len(masks) * len(ready.batch.rows))
        cut_at = None
        if not self._cut_first:
            cut_at = torch.ones(ready.inputs.shape[1:3], dtype=torch.bool, device=self.model.device)
            cut_at[:, 0] = False
        return self.model.run_cut(
            masks,
            ready.alternative,
            inputs=ready.inputs,
            read=ready.runs.read,
            offset=offset,
            cut_at=cut_at,
        )

    def weigh(self, ready: PreparedBatch, losses: Tensor) -> Tensor:
        """Losses of prompts [..., B], summed and weighted [...], so that the mean over batches is that over prompts."""
        return losses.sum(-1) * len(self.batches) / self.n


# ---- the loop --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lagrangian:
    """lambda1 (s - t) + lambda2 (s - t)^2. The multipliers lambda ascend, which holds the sparsity s at the target t.

    Wang, Wohlwend and Lei 2020, arXiv:1910.04732. The target rises linearly while it warms up.

    Args:
        targets: [M], the sparsity that each mask is to reach. Targets above one keep up the pressure after the last
            edge has gone.
        warmup: how many steps the target rises.
        first: the target at the first step.
    """

    targets: Tensor
    warmup: int
    first: float = 0.0

    def multipliers(self) -> Tensor:
        """lambda1 and lambda2 at the start: zeros [2, M], to be trained with ``maximize``."""
        return torch.zeros(2, len(self.targets), device=self.targets.device, requires_grad=True)

    def __call__(self, sparsity: Tensor, multipliers: Tensor, step: int) -> Tensor:
        target = self.first + (self.targets - self.first) * min(1.0, step / max(self.warmup, 1))
        gap = sparsity - target
        return multipliers[0] * gap + multipliers[1] * gap.square()


def warm_up_and_decay(warmup: int, steps: int) -> Callable[[int], float]:
    """The factor of the learning rate at each step: it rises from 0 for ``warmup`` steps, and is 0 at ``steps``."""
    return lambda step: step / max(warmup, 1) if step < warmup else (steps - step) / max(steps - warmup, 1)


Loss = Callable[[int], tuple[Tensor, Mapping[str, Tensor]]]
"""Step -> the losses to minimise, one per mask [M], and the terms to record, each [M]."""


def avoiding(loss: Loss, graph: Graph, avoid: Sequence[str], weight: float, likely: Callable[[], Tensor]) -> Loss:
    """The loss with a penalty on what the mask shares with a circuit, so that another circuit is found if there is one.

    loss + weight x mean, over the edges of the circuit, of the probability with which the mask keeps an edge (Chen et
    al. 2026, arXiv:2605.12671, for the gates of DiscoGP). The penalty is 0 if nothing is shared, and at most
    ``weight``.

    Args:
        avoid: the names of the circuit's edges; when it is empty, the loss is returned as it is.
        weight: the weight of the penalty; a negative one attracts.
        likely: returns the probability [M, E] of each edge with the present gates, in the order of ``graph.edges``.

    Returns:
        The loss, whose terms include the mean as ``overlap``.

    Raises:
        DataError: the graph does not have an edge of ``avoid``.
    """
    if not avoid:
        return loss
    shared = graph.matrix(avoid)[graph.exists].nonzero().flatten()

    def avoided(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        total, terms = loss(step)
        kept = likely()
        overlap = kept.index_select(1, send(shared, kept.device)).mean(1)
        return total + weight * overlap, {**terms, "overlap": overlap}

    return avoided


def train(
    groups: Iterable[Mapping[str, Any]],
    loss: Loss,
    *,
    steps: int,
    rate: Callable[[int], float] = lambda step: 1.0,
) -> dict[str, list]:
    """Minimises a loss by AdamW and returns the curve of the loss.

    Args:
        groups: parameter groups of torch's optimisers: ``params``, ``lr``, and optionally ``betas``, ``weight_decay``
            and ``maximize``. A group may have ``clip``, the largest norm of the gradients of each of its ``parts``: a
            mask's parameters are a row, and a part is indices in the row.
        loss: takes a step, and returns the loss [M] and the terms of the curve.
        steps: how many steps.
        rate: takes a step, and returns the factor of all learning rates.

    Returns:
        ``step``: the steps that are recorded, 41 at most; and for each term its values at them, each a list of M
            numbers.

    Raises:
        NotFinite: a loss or a parameter has become NaN or infinite.
    """
    optimiser = torch.optim.AdamW([dict(group) for group in groups], lr=0.0, weight_decay=0.0, fused=True)
    rates = [group["lr"] for group in optimiser.param_groups]
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    clipped = [group for group in optimiser.param_groups if group.get("clip")]
    curve: dict[str, list] = {"step": []}
    recorded = {round(i * (steps - 1) / _RECORDED) for i in range(_RECORDED + 1)}
    with torch.enable_grad():
        for step in range(steps):
            for group, full in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = full * rate(step)
            optimiser.zero_grad()
            total, terms = loss(step)
            total.sum().backward()
            for group in clipped:
                _clip(group["params"], group["clip"], group["parts"])
            optimiser.step()
            if step in recorded:
                _record(curve, step, {"loss": total, **terms})
    if not all(bool(parameter.isfinite().all()) for parameter in parameters):
        raise NotFinite("a mask is NaN or infinite after training; lower the learning rate.")
    return curve


def _clip(parameters: Sequence[Tensor], largest: float, parts: Sequence[slice | Tensor]) -> None:
    for parameter in parameters:
        rows = parameter.grad.flatten(1)
        for part in parts:
            norm = rows[:, part].norm(dim=1, keepdim=True) + 1e-6  # as torch.nn.utils.clip_grad_norm_
            rows[:, part] *= (largest / norm).clamp_max(1)


def _record(curve: dict[str, list], step: int, terms: Mapping[str, Tensor]) -> None:
    curve["step"].append(step)
    for name, values in terms.items():
        if not bool(values.isfinite().all()):
            raise NotFinite(f"{name} is NaN or infinite at step {step} of training; lower the learning rate.")
        curve.setdefault(name, []).append([float(f"{value:.6g}") for value in values.detach().flatten().tolist()])


def check_moved(start: Tensor, end: Tensor) -> None:
    """Raises MethodError when training has not moved a mask [M, E] from its start."""
    still = (start == end).all(-1).nonzero().flatten().tolist()
    if still:
        raise MethodError(
            f"{len(still)} of {len(start)} masks never left their initial value; train longer, raise the learning "
            f"rate, or check that the objective depends on the edges."
        )
