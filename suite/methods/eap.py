"""Edge attribution patching: Syed, Rager and Conmy 2023, arXiv:2310.10348."""

from __future__ import annotations

from ..circuit import EdgeScores
from ..data import Data
from ..intervention.ablation import Ablation
from ..intervention.objective import Objective
from ..model.transformer import Transformer
from ._attribution import mean_scores
from .cost import Cost
from .registry import BY_GRADIENTS, method


@method(
    "eap",
    paper="Syed et al. 2023, arXiv:2310.10348",
    needs={"gradients"},
    objectives="differentiable at clean",
    presets={"quick": {}},
    cost="2 forward, 1 backward",
    cost_only={"batch_size"},
    exact_for=BY_GRADIENTS,
    passes=lambda graph, n, given: Cost(forward=n, gradient=n),
    per_prompt=True,
)
def discover(
    model: Transformer, data: Data, *, ablation: Ablation, objective: Objective, seed: int, batch_size: int = 0
) -> EdgeScores:
    """Estimates to first order by how much cutting each edge alone changes the loss (eq. 2).

    score(w, r) = mean over examples of <alternative_w - clean_w, d loss / d input_r at the clean run>

    Args:
        batch_size: prompts at a time; 0 chooses it. Scores do not depend on it.
    """
    return mean_scores(
        model,
        data,
        ablation,
        objective,
        seed=seed,
        batch_size=batch_size,
        of_batch=lambda prompts: prompts.products_at_clean(),
    )
