"""Optimal ablation: the constants on cut edges that hurt a circuit least. Li and Janson 2024, arXiv:2409.09951.

Every writer has one constant, at all positions of all prompts, and a cut edge carries its writer's. What the constants
are depends on what is cut: each circuit has its own, found by gradient descent on its distance from the whole model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..model.device import send
from ..model.passes import spend
from ..model.transformer import Transformer
from .objective import OBJECTIVES, Objective
from .prepared_batch import PreparedBatch

STEPS = 200
RATE = 0.1  # of Adam at the start, in standard deviations of a writer's output; falls to zero along a cosine


def distance(objective: Objective, model: Transformer) -> Objective:
    """What constants are trained on: the objective if it is a distance from the whole model, else one that is.

    A logit difference has no floor: constants that raise it without end are not the least harmful.
    """
    if objective.divergence:
        return objective
    return OBJECTIVES.get("l2" if model.config.d_out < 2 else "kl")


def offsets(masks: Tensor, constants: Tensor, exists: Tensor) -> Tensor:
    """What the cut part of every edge carries, summed for each reader: [C, R, D].

    Args:
        masks: [C, W, R]. constants: [C, W, D], or [1, W, D] for all. exists: bool [W, R].
    """
    cut = (1 - masks) * exists
    return cut.transpose(1, 2) @ constants


def means(model: Transformer, prepared: Sequence[PreparedBatch], first: int = 0) -> tuple[Tensor, Tensor]:
    """Mean output of each writer [W, D] over prompts and positions; its spread [W], root mean square by dimension.

    It is over all runs of prompts that have several, as under the ablation ``mean``; padding does not count, and
    positions before ``first`` are left out.
    """
    total = square = torch.zeros(())
    count = 0
    for ready in prepared:
        counted = ready.batch.valid[:, first:]
        out = model.outputs(ready.runs.clean[1]).double()[:, :, first:]  # [W, S, P, D]
        out = out * send(counted.to(out.dtype), out.device)[..., None]
        total, square = total + out.sum((1, 2)), square + out.square().sum((1, 2))
        count += int(counted.sum())
    mean = total / count
    spread = (square / count - mean.square()).clamp_min(0).mean(-1).sqrt()
    return mean.to(model.dtype), spread.to(model.dtype)


def optimal_constants(
    model: Transformer, prepared: Sequence[PreparedBatch], objective: Objective, masks: Tensor, steps: int = STEPS
) -> Tensor:
    """Constants [C, W, D] that bring each of the masks [C, W, R] nearest to the whole model, on all of ``prepared``.

    Adam from the means, with full gradients; each mask is a problem of its own. Zeros and the means are candidates too,
    so that an optimal ablation never does worse than either.

    Args:
        prepared: batches under the zero ablation, whose alternatives the constants are added to.
        objective: a distance (see ``distance``).
    """
    exists = send(model.graph.exists, model.device)
    masks = send(masks.to(model.dtype), model.device)
    targets = [objective.targets(ready.runs) for ready in prepared]
    n = sum(len(ready.batch.rows) for ready in prepared)

    def loss(constants: Tensor, backward: bool = False) -> Tensor:
        total = torch.zeros(len(masks), dtype=torch.float64, device=model.device)
        for ready, target in zip(prepared, targets, strict=True):
            found = model.run_cut(
                masks,
                ready.alternative,
                inputs=ready.inputs,
                prefix=ready.prefix,
                read=ready.runs.read,
                offset=offsets(masks, constants, exists),
            )
            part = objective.loss(found, target).sum(1) / n
            if backward:
                part.sum().backward()
                spend(backward=len(masks) * len(ready.batch.rows))
            total = total + part.detach()
        return total

    mean, spread = means(model, prepared)
    best = mean.repeat(len(masks), 1, 1)
    if bool(((masks == 1) | ~exists).all()):
        return best  # nothing is cut: no edge carries them
    lowest = loss(best)
    moved = torch.zeros_like(best, requires_grad=True)
    optimiser = torch.optim.Adam([moved], lr=RATE)
    with torch.enable_grad():
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
            optimiser.zero_grad()
            loss(mean + spread[:, None] * moved, backward=True)
            optimiser.step()
    for candidate in (torch.zeros_like(best), mean + spread[:, None] * moved.detach()):
        found = loss(candidate)
        better = found < lowest
        best = torch.where(better[:, None, None], candidate, best)
        lowest = torch.where(better, found, lowest)
    return best
