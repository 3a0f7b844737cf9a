"""What a method costs, as it declares before anything runs: passes of each kind, each over one example."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ..model.graph import Graph

PASS_KINDS = ("forward", "gradient", "cut", "trained")
_ADDED = (*PASS_KINDS, "backward")


@dataclass(frozen=True)
class Cost:
    """The cost of a search: how many passes over one example, and what is held in memory.

    Args:
        forward: passes of the plain model.
        gradient: pairs of a forward and a backward pass, whose gradients become edge scores.
        cut: passes with edges cut. A pass begins at the lowest layer that is cut: one from the middle counts half.
        trained: cut passes with a backward pass into the mask.
        backward: those backward passes of ``trained`` that the engine counts besides; their time is in ``trained``.
        stacks: copies, held at once, of what all writers write for one batch.
        weights: copies of the model's weights that are held besides the model.
        masks: masks that a training step runs together; 0 without training.
        step: prompts of a training step, at most.
        steps: how many training steps there are, where each takes the next batch of prompts of one length; 0 where a
            training goes through all prompts, however they are divided.
        prepared: copies, held at once, of what all writers write for all prompts.
        streams: copies of what all writers write, held for each mask and prompt of a training step.
    """

    forward: float = 0.0
    gradient: float = 0.0
    cut: float = 0.0
    trained: float = 0.0
    backward: float = 0.0
    stacks: float = 2.0
    weights: float = 0.0
    masks: int = 0
    step: int = 0
    steps: int = 0
    prepared: float = 0.0
    streams: float = 2.0

    def __add__(self, other: Cost) -> Cost:
        """The cost of one search after the other: passes add up, and of what is held the larger counts."""
        added = {kind: getattr(self, kind) + getattr(other, kind) for kind in _ADDED}
        held = [each.name for each in fields(self) if each.name not in _ADDED]
        return Cost(**added, **{name: max(getattr(self, name), getattr(other, name)) for name in held})

    def __mul__(self, times: float) -> Cost:
        return replace(self, **{kind: times * getattr(self, kind) for kind in _ADDED})

    def with_runs(self, runs_a_prompt: float) -> Cost:
        """The cost where each prompt has so many runs, because answers have several tokens."""
        return replace(self * runs_a_prompt, step=math.ceil(self.step * runs_a_prompt))

    @property
    def passes(self) -> float:
        """All forward and backward passes, as the engine counts them (see passes.py)."""
        return self.forward + 2 * self.gradient + self.cut + self.trained + self.backward


# Takes (graph, prompts, the parameters of the method), and returns what a search costs.
PassesOf = Callable[[Graph, int, Mapping[str, Any]], Cost | None]


def trained_masks(prompts: int, masks: int, steps: int, batch_size: int) -> Cost:
    """The cost of training masks that all run together in every step, on prompts that are prepared beforehand.

    Each prompt is prepared by a clean run and one of what cut edges carry.
    """
    step = min(prompts, batch_size)
    runs = steps * step * masks
    held = {"masks": masks, "step": step, "steps": steps, "prepared": 1}
    return Cost(forward=2 * prompts, trained=runs, backward=runs, **held)


def edge_passes(graph: Graph, at_once: int) -> float:
    """Cut passes that cut each edge alone, ``at_once`` in a call, those of the last readers first.

    The passes of a call start at the lowest layer among those of its readers. Edges into the logits cost no layer.
    """
    layers = []  # of a reader, and how many edges end there: last readers first
    for group in reversed(graph.groups):
        n_readers = group.readers.stop - group.readers.start
        layers += [(group.layer, group.sees.stop - group.sees.start)] * n_readers
    total, waiting = 0.0, 0
    for i, (layer, edges) in enumerate(layers):
        waiting += edges
        last = i == len(layers) - 1
        while waiting >= at_once or (last and waiting):
            call = min(at_once, waiting)
            total += call * (graph.n_layers - layer) / graph.n_layers
            waiting -= call
    return total
