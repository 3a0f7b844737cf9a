"""What a method will cost, declared before anything runs: how many passes of each kind, over one example each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ..model.graph import Graph

PASS_KINDS = ("forward", "gradient", "cut", "trained")


@dataclass(frozen=True)
class Cost:
    """Passes over one example.

    Args:
        forward: passes of the plain model.
        gradient: forward and backward passes whose gradients become edge scores.
        cut: passes with edges cut, from the lowest layer that a cut changes: one from the middle layer counts half.
        trained: cut passes with their backward pass into the mask, which the engine does not count.
        stacks: how often what all writers write for one batch is held at once.
        weights: how many copies of the model's weights are held besides the model.
        masks: how many masks a training step runs together, with their backward pass; 0 without training.
        step: prompts a training step.
        prepared: how often what all writers write is held for all prompts at once.
        streams: how often what all writers write is held for each mask and prompt of a training step.
    """

    forward: float = 0.0
    gradient: float = 0.0
    cut: float = 0.0
    trained: float = 0.0
    stacks: float = 2.0
    weights: float = 0.0
    masks: int = 0
    step: int = 0
    prepared: float = 0.0
    streams: float = 2.0

    def __add__(self, other: Cost) -> Cost:
        """One after the other: passes add up, and what is held is the larger of the two."""
        added = {kind: getattr(self, kind) + getattr(other, kind) for kind in PASS_KINDS}
        held = [each.name for each in fields(self) if each.name not in PASS_KINDS]
        return Cost(**added, **{name: max(getattr(self, name), getattr(other, name)) for name in held})

    def __mul__(self, times: float) -> Cost:
        return replace(self, **{kind: times * getattr(self, kind) for kind in PASS_KINDS})

    def with_runs(self, runs_a_prompt: float) -> Cost:
        """The same where each prompt has so many runs, because its answers have several tokens."""
        return replace(self * runs_a_prompt, step=math.ceil(self.step * runs_a_prompt))

    @property
    def passes(self) -> float:
        """Forward and backward passes in all, as the engine counts them (see passes.py)."""
        return self.forward + 2 * self.gradient + self.cut + self.trained


# (graph, prompts, the method's parameters) to what a search costs.
PassesOf = Callable[[Graph, int, Mapping[str, Any]], Cost | None]


def trained_masks(prompts: int, masks: int, steps: int, batch_size: int) -> Cost:
    """What training masks costs that all run together in every step, on prompts that are prepared beforehand."""
    step = min(prompts, batch_size)
    return Cost(trained=steps * step * masks, masks=masks, step=step, prepared=1)


def edge_passes(graph: Graph, at_once: int) -> float:
    """Cut passes that cut each edge alone, so many in a call, the last readers' first.

    Each edge's pass starts at its reader's layer, and all of a call at the lowest of them; the logits' edges cost no
    layer.
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
