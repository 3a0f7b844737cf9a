"""Paths from the clean inputs to those of the ablation, along which gradients are taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..model.capture import input_gradient
from ._attribution import Prompts

STARTS = ("clean", "alternative")
DIRECTIONS = ("squared-distance", "gradient-difference")
NORMALISATIONS = ("example", "batch")
POSITIONS = ("all", "last", "read")


def gradient_path(
    prompts: Prompts,
    steps: int,
    *,
    start: str = "clean",
    direction: str = "squared-distance",
    normalise: str = "example",
    positions: str = "all",
) -> Iterator[Tensor]:
    """The path of EAP-GP (GradPath): the points [n_inputs, B, P, D] after 1 .. ``steps`` steps of length 1.

    An input node that the ablation does not change (the position embedding under patch) does not move, and neither does
    an example whose two ends are equal. Each step costs a forward and a backward pass.

    Args:
        steps: how many points.
        start: the end at which the path begins, ``clean`` or ``alternative``. It leads to the other end.
        direction: with ``squared-distance``, each step descends the squared distance between the logits and those of
            the other end; with ``gradient-difference``, a step goes against the gradient of the loss at the present
            point minus that at the other end.
        normalise: what has steps of length 1: each ``example``, over nodes, positions and dimensions; or the ``batch``.
        positions: the positions whose logits the squared distance compares: ``all``, ``last``, or those ``read``.
    """
    clean, far = prompts.clean.inputs, prompts.alternative_inputs
    here, there = (clean, far) if start == "clean" else (far, clean)
    moves = (clean != far).any(-1, keepdim=True).any(-2, keepdim=True)  # [n_inputs, B, 1, 1]
    descend = _squared_distance if direction == "squared-distance" else _gradient_difference
    slope = descend(prompts, there, positions)
    for _ in range(steps):
        step = slope(here) * moves
        length = torch.linalg.vector_norm(step, dim=None if normalise == "batch" else (0, 2, 3), keepdim=True)
        here = here - step / length.clamp_min(1e-12)
        yield here


def _squared_distance(prompts: Prompts, there: Tensor, positions: str) -> Callable[[Tensor], Tensor]:
    batch = prompts.runs.batch
    compared = batch.valid
    if positions == "last":
        compared = torch.arange(compared.shape[1]) == batch.lengths[:, None] - 1
    compared = prompts.runs.read if positions == "read" else compared
    with torch.no_grad():
        target = prompts.model.run(there, read=compared)[0]
    return lambda here: input_gradient(prompts.model, here, lambda logits: (logits - target).square().sum(), compared)


def _gradient_difference(prompts: Prompts, there: Tensor, positions: str) -> Callable[[Tensor], Tensor]:
    model, read = prompts.model, prompts.runs.read
    at_the_end = input_gradient(model, there, prompts.loss, read)
    return lambda here: input_gradient(model, here, prompts.loss, read) - at_the_end
