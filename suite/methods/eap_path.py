"""EAP with path increments: the difference that each step of a path makes, times the gradient at its middle.

This is the conductance of every edge (Dhamdhere, Sundararajan and Yan 2018, arXiv:1805.12233), the integral of
d loss / d y dy along a path of the inputs (Sundararajan, Taly and Yan 2017, arXiv:1703.01365). CEAP (2026,
arXiv:2606.16920) proposes it for circuits; of that paper the abstract was read.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from ..circuit import EdgeScores
from ..data import Data
from ..errors import SpecError
from ..intervention.ablation import Ablation
from ..intervention.objective import Objective
from ..model.transformer import Activations, Transformer
from ._attribution import Prompts, check_choices, mean_scores
from ._paths import gradient_path
from .cost import Cost
from .registry import BY_GRADIENTS, method

_PATHS = ("straight", "gradient")


def _cost(prompts: int, path: str, steps: int, **_: object) -> Cost:
    passes = Cost(forward=(2 + steps) * prompts, gradient=steps * prompts)
    return passes * 6 + Cost(forward=5 * prompts) if path == "gradient" else passes


@method(
    "eap-path",
    paper="conductance: Dhamdhere et al. 2018, arXiv:1805.12233; CEAP 2026, arXiv:2606.16920",
    needs={"gradients"},
    presets={"gradient-path": {"path": "gradient"}, "quick": {}},
    cost="2 forward, steps x (2 forward, 1 backward); with path gradient 6 times that and 5 more",
    cost_only={"batch_size"},
    exact_for=BY_GRADIENTS,
    passes=lambda graph, n, given: _cost(n, **given),
    per_prompt=True,
)
def discover(
    model: Transformer,
    data: Data,
    *,
    ablation: Ablation,
    objective: Objective,
    seed: int,
    path: str = "straight",
    steps: int = 5,
    batch_size: int = 0,
) -> EdgeScores:
    """Integrates the gradient over what each edge carries, along a path from the clean run to the ablation's inputs.

    score(w, r) = mean over examples of sum over k of <out_w(z_{k+1}) - out_w(z_k), d loss / d input_r at the middle>,
    z_0 = clean inputs, ..., z_m = the ablation's inputs, out_w(z) what w writes in the run from z.

    The scores of the edges across any layer boundary sum to loss(run from the ablation's inputs) - loss(clean run),
    with an error that falls with 1/m^2; those of EAP-IG do so for the edges out of the input nodes alone. Under
    ``patch`` and ``resample`` a cut edge carries what its writer writes at the end of the path. Under zero and means it
    does not: the rest, alternative_w - out_w(z_m), is divided equally among the steps, so that linear models are exact.

    Args:
        path: ``straight``; or ``gradient``: the five steps of ``eap-gp``, and a straight line from their end.
        steps: m, the number of steps in each segment of the path.
        batch_size: prompts at a time; 0 chooses it. Scores do not depend on it.

    Raises:
        SpecError: no steps, or an unknown path.
    """
    check_choices("eap-path", path=(path, _PATHS))
    if steps < 1:
        raise SpecError(f"eap-path: steps={steps}; give 1 or more.")

    def of_batch(prompts: Prompts) -> Tensor:
        corners = [
            prompts.clean.inputs,
            *(gradient_path(prompts, 5) if path == "gradient" else ()),
            prompts.alternative_inputs,
        ]
        points = [a + (b - a) * (k / steps) for a, b in pairwise(corners) for k in range(steps)] + [
            prompts.alternative_inputs
        ]
        return _along(prompts, points)

    return mean_scores(model, data, ablation, objective, seed=seed, batch_size=batch_size, of_batch=of_batch)


def _along(prompts: Prompts, points: list[Tensor]) -> Tensor:
    """Scores [W, R] along the points, of which the first is the clean run's and the last the ablation's inputs."""
    model, n_steps = prompts.model, len(points) - 1

    @torch.no_grad()
    def run(inputs: Tensor) -> Activations:
        return model.run(inputs)[1]

    end = run(points[-1])
    left = model.difference(prompts.cut, end) / n_steps
    total, before = None, prompts.clean
    for k, (here, there) in enumerate(pairwise(points)):
        after = end if k == n_steps - 1 else run(there)
        step = prompts.products((here + there) / 2, difference=model.difference(after, before) + left)
        total, before = step if total is None else total + step, after
    return total
