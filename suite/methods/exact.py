"""Exact edge patching: every edge cut by itself. The oracle of the gradient methods (EActP in Mueller et al. 2025)."""

from __future__ import annotations

import torch

from ..circuit import EdgeScores
from ..data import Data
from ..intervention.ablation import Ablation
from ..intervention.evaluator import Evaluator
from ..intervention.objective import Objective
from ..model.transformer import Transformer
from .cost import Cost, edge_passes
from .registry import method


@method(
    "exact",
    paper="activation patching of every edge; EActP in Mueller et al. 2025, arXiv:2504.13151",
    presets={"quick": {}},
    cost="1 forward an edge, from the edge's layer on",
    cost_only={"masks_at_once", "batch_size"},
    passes=lambda graph, n, given: Cost(forward=2 * n, cut=n * edge_passes(graph, given["masks_at_once"])),
)
def discover(
    model: Transformer,
    data: Data,
    *,
    ablation: Ablation,
    objective: Objective,
    seed: int,
    masks_at_once: int = 512,
    batch_size: int = 0,
) -> EdgeScores:
    """score(e) = loss with edge e cut - loss of the plain model, by one cut pass an edge.

    Args:
        masks_at_once: how many edges are cut in one call. Edges of one reader stand together, so that a call starts
            at the last layer that it can.
        batch_size: prompts at a time; 0 chooses it. Scores do not depend on either.
    """
    graph = model.graph
    evaluator = Evaluator(model, data, ablation, objective, seed=seed, batch_size=batch_size or None)
    plain = evaluator.loss(graph.exists[None])[0]
    values = torch.zeros(graph.exists.shape, dtype=torch.float64)
    by_reader = graph.exists.T.nonzero().flip(0)  # the last reader first
    for part in by_reader.split(masks_at_once):
        masks = graph.exists.repeat(len(part), 1, 1)
        masks[torch.arange(len(part)), part[:, 1], part[:, 0]] = False
        values[part[:, 1], part[:, 0]] = evaluator.loss(masks) - plain
    return EdgeScores(graph, values)
