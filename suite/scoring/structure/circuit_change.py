"""What one kind of change does to the circuits of a method: the numbers of cards and stores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ...circuit import EdgeScores, Reference
from ...model.graph import Graph
from ..recovery import recovery
from .stability import Stability, drawn_units, prompt_counts, resampled, stability
from .stability_card import AtSize, CircuitChange

_ALWAYS, NEVER = 0.95, 0.05
"""An edge is always in when at least this share of circuits has it, and never when at most the other share has it."""

_CURVES = ("jaccard", "low", "high", "lowest", "chance", "with_whole", "rank", "rank_low", "rank_high")


def over_resamples(
    by_prompt: np.ndarray,
    templates: np.ndarray | None,
    sizes: Sequence[int],
    *,
    over: str = "prompts",
    resamples: int,
    seed: int = 0,
) -> tuple[Stability, np.ndarray]:
    """How alike the circuits of resamples are, and how often each holds each unit that was drawn, int [B, U].

    Args:
        by_prompt: float [N, E], the scores of each prompt.
        templates: long [N], or None.
        sizes: of the circuits, edges.
        over: what is drawn, ``prompts`` or ``templates``: the units.

    Raises:
        Undefined: there is only one prompt, or one template, to draw from.
    """
    counts = prompt_counts(len(by_prompt), templates, resamples, over=over, seed=seed)
    units = drawn_units(counts, templates, over=over)
    return stability(resampled(by_prompt, counts), by_prompt.mean(0), sizes, units), units


def circuit_change(found: Stability, graph: Graph, main: int, truth: Reference | None) -> CircuitChange:
    """The numbers by size, how often each edge is in the circuit of the size ``main``, and how well that recovers."""
    names = graph.named(graph.exists)
    points = []
    for i, size in enumerate(found.sizes.tolist()):
        inclusion = found.inclusion[i]
        point = AtSize(
            size=size,
            **{name: float(getattr(found, name)[i]) for name in _CURVES},
            always=int((inclusion >= _ALWAYS).sum()),
            sometimes=int(((inclusion > NEVER) & (inclusion < _ALWAYS)).sum()),
        )
        points.append(point)
    at = found.inclusion[found.sizes.tolist().index(main)]
    order = np.argsort(-at, kind="stable")
    return CircuitChange(
        points=tuple(points),
        inclusion={names[e]: float(at[e]) for e in order if at[e] > 0},
        auroc_of_inclusion=None if truth is None else area_of(graph, at, truth),
        precision_of_always=None if truth is None else precision_of(at >= _ALWAYS, truth),
    )


def area_of(graph: Graph, values: np.ndarray, truth: Reference) -> float:
    """The area under the ROC curve of edge scores [E] against the certified circuit."""
    return recovery(scores_from_flat(graph, values), truth)["auroc"]


def precision_of(chosen: np.ndarray, truth: Reference) -> float:
    """The share of true edges among the chosen edges, bool [E], that are not optional; NaN when there are none."""
    exists = truth.graph.exists
    counted = chosen & ~truth.optional[exists].numpy()
    return float(truth.core[exists].numpy()[counted].mean()) if counted.any() else float("nan")


def scores_from_flat(graph: Graph, values: np.ndarray) -> EdgeScores:
    """Edge scores from float [E], in the order of ``graph.edges``."""
    scores = torch.zeros(graph.exists.shape, dtype=torch.float64)
    scores[graph.exists] = torch.from_numpy(np.asarray(values, dtype=np.float64))
    return EdgeScores(graph, scores)
