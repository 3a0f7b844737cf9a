"""Relevance patching: Rezaei Jafari, Eberle, Khakzar and Nanda 2025, arXiv:2508.21258."""

from __future__ import annotations

from ..circuit import EdgeScores
from ..data import Data
from ..intervention.ablation import Ablation
from ..intervention.objective import Objective
from ..model.rules import Rules
from ..model.transformer import Transformer
from ._attribution import check_choices, mean_scores
from ._paths import STARTS
from .cost import Cost
from .registry import BY_GRADIENTS, method


@method(
    "relp",
    paper="Rezaei Jafari et al. 2025, arXiv:2508.21258",
    needs={"gradients"},
    objectives="differentiable at clean",
    presets={
        "reference-code": {"at": "alternative", "identity_rule": False},
        "demo": {"at": "alternative"},
        "attention": {"attention_rule": True},
        "quick": {},
    },
    cost="2 forward, 1 backward",
    cost_only={"batch_size"},
    exact_for=BY_GRADIENTS,
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
    at: str = "clean",
    norm_rule: bool = True,
    identity_rule: bool = True,
    half_rule: bool = True,
    attention_rule: bool = False,
    batch_size: int = 0,
) -> EdgeScores:
    """EAP with the coefficients of layer-wise relevance propagation in place of derivatives.

    The paper scores nodes; its coefficients at each reader's input give edges.

    Args:
        at: the run in which coefficients are taken: ``clean``, as in EAP; or ``alternative``, the run from the
            ablation's inputs, as in the authors' demonstration (preset ``demo``).
        norm_rule: whether the scale of every norm is held constant (LN-rule).
        identity_rule: whether the slope of an activation is act(x) / x. In the released code, the switch that its
            README documents takes effect too late and leaves derivatives exact (preset ``reference-code``). Set before
            the model is made, the switch also adds 1e-6 to each denominator, which is not done here.
        half_rule: whether the product in a gated MLP gives half of its relevance to each factor.
        attention_rule: whether attention patterns are held constant, so that queries and keys get no relevance
            (AH-rule, optional).
        batch_size: prompts at a time; 0 chooses it. Scores do not depend on it.

    Raises:
        SpecError: ``at`` is unknown.
    """
    check_choices("relp", at=(at, STARTS))
    rules = Rules(
        freeze_norm=norm_rule,
        activation_ratio=identity_rule,
        freeze_attention=attention_rule,
        gate_share=0.5 if half_rule else 1.0,
    )
    return mean_scores(
        model,
        data,
        ablation,
        objective,
        seed=seed,
        batch_size=batch_size,
        of_batch=lambda p: (
            p.products_at_clean(rules=rules) if at == "clean" else p.products(p.alternative_inputs, rules=rules)
        ),
    )
