"""EAP along a gradient path (EAP-GP): Zhang et al. 2025, arXiv:2502.06852."""

from __future__ import annotations

from torch import Tensor

from ..circuit import EdgeScores
from ..data import Data
from ..errors import SpecError
from ..intervention.ablation import Ablation
from ..intervention.objective import Objective
from ..model.transformer import Transformer
from ._attribution import Prompts, check_choices, mean_scores
from ._paths import DIRECTIONS, NORMALISATIONS, POSITIONS, STARTS, gradient_path
from .cost import Cost
from .registry import BY_GRADIENTS, method


@method(
    "eap-gp",
    paper="Zhang et al. 2025, arXiv:2502.06852",
    needs={"gradients"},
    presets={
        "from-alternative": {"start": "alternative", "direction": "gradient-difference"},
        "batch-normalised": {"normalise": "batch"},
        "quick": {},
    },
    cost="3 forward, steps x (2 forward, 2 backward)",
    exact_for=BY_GRADIENTS,
    passes=lambda graph, n, given: Cost(forward=3 * n, gradient=2 * given["steps"] * n),
    per_prompt=True,
)
def discover(
    model: Transformer,
    data: Data,
    *,
    ablation: Ablation,
    objective: Objective,
    seed: int,
    steps: int = 5,
    start: str = "clean",
    direction: str = "squared-distance",
    normalise: str = "example",
    positions: str = "all",
    batch_size: int = 0,
) -> EdgeScores:
    """EAP with the gradient averaged over the points of a path that follows the model's own gradients.

    score(w, r) = mean over examples and j of <alternative_w - clean_w, d loss / d input_r at inputs z_j>,
    z_j = z_{j-1} - g_j / |g_j|,  g_j = d |logits(z) - logits(alternative inputs)|^2 / dz at z_{j-1},  j = 1 .. k

    The paper states the name, k = 5, steps of length 1, that gradients are averaged over the points and not weighted by
    steps (so that scores do not add up to the difference of the losses; ``eap-path`` has the path integral), and that
    the start is left out. No code was released. Every other parameter here, and that the path moves the input nodes
    and not the output of each writer in turn, was inferred from two independent implementations and the abstract.
    Under an ablation without a counterfactual run, the other end is the run from the ablation's inputs.

    Args:
        steps: k.
        start: the end at which the path begins: ``clean``, or ``alternative``. The other end is the goal.
        direction: ``squared-distance``, as above; or ``gradient-difference``: g is d loss / dz at z_{j-1} minus
            d loss / dz at the goal, as the abstract says.
        normalise: what has steps of length 1: each ``example``; or the whole ``batch``, as in one of the
            implementations, where scores depend on the batches.
        positions: the positions whose logits the squared distance compares: ``all``, ``last`` or ``read``.
        batch_size: prompts at a time; 0 chooses it. Scores depend on it with ``normalise="batch"`` alone.

    Raises:
        SpecError: no steps, or an unknown choice.
    """
    check_choices(
        "eap-gp",
        start=(start, STARTS),
        direction=(direction, DIRECTIONS),
        normalise=(normalise, NORMALISATIONS),
        positions=(positions, POSITIONS),
    )
    if steps < 1:
        raise SpecError(f"eap-gp: steps={steps}; give 1 or more.")

    def of_batch(prompts: Prompts) -> Tensor:
        path = gradient_path(prompts, steps, start=start, direction=direction, normalise=normalise, positions=positions)
        return sum(prompts.products(point) for point in path) / steps

    return mean_scores(model, data, ablation, objective, seed=seed, batch_size=batch_size, of_batch=of_batch)
