"""EAP with integrated gradients: Hanna, Pezzelle and Belinkov 2024, arXiv:2403.17806."""

from __future__ import annotations

from ..ablation import Ablation
from ..circuit import EdgeScores
from ..data import Data
from ..errors import SpecError
from ..model.transformer import Transformer
from ..objective import Objective
from ._attribution import mean_edge_products
from .registry import method

# Where in its interval, counted from the alternative (0) to the clean inputs (1), each of the steps looks.
ENDPOINTS = {"left": 0.0, "midpoint": 0.5, "right": 1.0}


@method(
    "eap-ig",
    paper="Hanna et al. 2024, arXiv:2403.17806",
    needs={"gradients"},
    presets={"reference-code": {"endpoint": "left"}, "quick": {"steps": 5, "endpoint": "midpoint"}},
    cost="2 forward, steps x (1 forward, 1 backward)",
)
def discover(
    model: Transformer,
    data: Data,
    *,
    ablation: Ablation,
    objective: Objective,
    seed: int,
    steps: int = 5,
    endpoint: str = "right",
    batch_size: int = 0,
) -> EdgeScores:
    """EAP with the gradient averaged along the straight path of the input nodes from the alternative to the clean run.

    score(w, r) = mean over examples and k of <alternative_w - clean_w, d loss / d input_r at inputs z(a_k)>,
    z(a) = alternative + a (clean - alternative)

    Args:
        steps: m, the number of points.
        endpoint: a_k for k = 0 .. m-1: ``right`` (k+1)/m, the paper's equation; ``left`` k/m, the released code;
            ``midpoint`` (k+1/2)/m, whose error falls with 1/m^2.
        batch_size: prompts at a time; 0 chooses it. Scores do not depend on it.

    Raises:
        SpecError: no steps, or an unknown endpoint.
    """
    if steps < 1 or endpoint not in ENDPOINTS:
        raise SpecError(
            f"eap-ig: steps={steps}, endpoint={endpoint!r}; give steps of 1 or more and one of {[*ENDPOINTS]}."
        )
    shares = [(k + ENDPOINTS[endpoint]) / steps for k in range(steps)]
    return mean_edge_products(
        model,
        data,
        ablation,
        objective,
        seed=seed,
        batch_size=batch_size,
        points=lambda clean, cut: ((cut.inputs + a * (clean - cut.inputs), 1 / steps) for a in shares),
    )
