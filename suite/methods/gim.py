"""Gradient interaction modifications: Edin et al. 2025, arXiv:2505.17630."""

from __future__ import annotations

from typing import Any

from ..circuit import EdgeScores
from ..data import Data
from ..intervention.ablation import Ablation
from ..intervention.objective import Objective
from ..model.rules import Rules
from ..model.transformer import Transformer
from ._attribution import mean_scores
from .cost import Cost
from .registry import BY_GRADIENTS, method


@method(
    "gim",
    paper="Edin et al. 2025, arXiv:2505.17630",
    needs={"gradients"},
    objectives="differentiable at clean",
    presets={"quick": {}},
    cost="2 forward, 1 backward",
    cost_only={"batch_size"},
    exact_for=BY_GRADIENTS - {"q/k norm", "joint q/k norm"},  # whose scale it would hold, too
    passes=lambda graph, n, given: Cost(forward=n, gradient=n),
    per_prompt=True,
)
def discover(
    model: Transformer,
    data: Data,
    *,
    ablation: Ablation,
    objective: Objective,
    seed: int,
    temperature: float = 2.0,
    divide: bool = True,
    freeze_norm: bool = True,
    batch_size: int = 0,
) -> EdgeScores:
    """EAP with a backward pass in which components that interact do not hide the effects of one another.

    Args:
        temperature: T in the derivative of the softmax, p (g - <p, g>), where p is the softmax of the attention scores
            divided by T. As in the authors' code there is no further factor 1/T.
        divide: whether gradients are divided by the number of factors that share the effect of a product: by 4 at
            queries and keys, by 2 at values and at the product of a gated MLP.
        freeze_norm: whether the scale of every norm is held constant.
        batch_size: prompts at a time; 0 chooses it. Scores do not depend on it.
    """
    shares: dict[str, Any] = (
        {"query_share": 0.25, "key_share": 0.25, "value_share": 0.5, "gate_share": 0.5} if divide else {}
    )
    rules = Rules(freeze_norm=freeze_norm, softmax_temperature=temperature, **shares)
    return mean_scores(
        model,
        data,
        ablation,
        objective,
        seed=seed,
        batch_size=batch_size,
        of_batch=lambda prompts: prompts.products_at_clean(rules=rules),
    )
