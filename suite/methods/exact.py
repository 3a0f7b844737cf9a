"""Exact edge patching: each edge is cut alone. Gradient methods approximate it (EActP in Mueller et al. 2025)."""

from __future__ import annotations

from ..circuit import EdgeScores
from ..data import Data
from ..intervention.ablation import Ablation
from ..intervention.evaluator import Evaluator
from ..intervention.objective import Objective
from ..model.transformer import Transformer
from ._single_edges import single_edge_effects
from .cost import Cost, edge_passes
from .registry import method


@method(
    "exact",
    paper="activation patching of every edge; EActP in Mueller et al. 2025, arXiv:2504.13151",
    presets={"quick": {}},
    cost="1 forward an edge, through its node and the layers above",
    cost_only={"masks_at_once", "batch_size"},
    passes=lambda graph, n, given: Cost(forward=3 * n, cut=n * edge_passes(graph, at_once=1)),
    per_prompt=True,
    by_position=True,
)
def discover(
    model: Transformer,
    data: Data,
    *,
    ablation: Ablation,
    objective: Objective,
    seed: int,
    masks_at_once: int = 0,
    batch_size: int = 0,
) -> EdgeScores:
    """score(e) = loss with edge e cut - loss of the plain model, measured by one cut pass for each edge.

    An edge that carries the same cut as kept, on every prompt, scores exactly zero.

    Args:
        masks_at_once: how many edges, into nodes of one kind and layer, are cut in one call; 0 chooses it.
        batch_size: prompts at a time; 0 chooses it. Scores depend on neither, except for rounding.
    """
    evaluator = Evaluator(model, data, ablation, objective, seed=seed, batch_size=batch_size or None)
    return EdgeScores(model.graph, single_edge_effects(evaluator, masks_at_once)[0])
