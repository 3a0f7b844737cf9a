"""Parallel ensembles of methods: Mondorf et al. 2025, arXiv:2510.06811."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..circuit import EdgeScores
from ..data import Data
from ..errors import SpecError, Undefined
from ..intervention.ablation import Ablation
from ..intervention.objective import Objective
from ..model.graph import Graph
from ..model.transformer import Transformer
from ._attribution import check_choices
from .cost import Cost
from .registry import METHODS, method
from .source_code import SourceCode

COMBINATIONS = ("mean", "min", "max")
# Any method may be a member, so a change of any method is a change of this one.
_EVERY = SourceCode(*sorted(Path(__file__).parent.glob("*.py")))


def _cost(graph: Graph, prompts: int, given: Mapping[str, Any]) -> Cost | None:
    members = [METHODS.get(name) for name in given["members"]]
    total = Cost()
    for member in members:
        cost = member.cost_of(graph, prompts, member.resolve({}))
        if cost is None:
            return None
        total = total + cost
    return total


@method(
    "ensemble",
    paper="Mondorf et al. 2025, arXiv:2510.06811",
    needs={"gradients"},
    presets={"quick": {}},
    cost="that of its members",
    passes=_cost,
    code=_EVERY,
)
def discover(
    model: Transformer,
    data: Data,
    *,
    ablation: Ablation,
    objective: Objective,
    seed: int,
    members: tuple[str, ...] = ("eap-ig", "eap-path"),
    combine: str = "mean",
) -> EdgeScores:
    """Combines the scores of several methods, each divided by its largest; the paper does best with the mean.

    score(e) = mean, smallest or largest over the members of |score of the member| / its largest |score|

    Args:
        members: names of built-in methods, which run with their defaults and have equal weights.
        combine: ``mean``, ``min`` or ``max``.

    Raises:
        SpecError: there are no members, a member is unknown or the ensemble itself, or ``combine`` is unknown.
        Undefined: a member is undefined for this ablation, objective, task or model.
    """
    check_choices("ensemble", combine=(combine, COMBINATIONS))
    if not members or "ensemble" in members:
        raise SpecError(f"ensemble: members={members!r}; name other methods, such as eap-ig and exact.")
    found = []
    for name in members:
        member = METHODS.get(name)
        if "truth" in member.needs:
            raise Undefined(f"ensemble: {name} is given the truth; name methods that search for it.")
        given = {"ablation": ablation, "objective": objective, "seed": seed, **member.resolve({})}
        sizes = member.discover(model, data, **given).scores.values.nan_to_num().abs()
        found.append(sizes / sizes.max().clamp_min(torch.finfo(sizes.dtype).tiny))
    together = torch.stack(found)
    return EdgeScores(
        model.graph, {"mean": together.mean(0), "min": together.amin(0), "max": together.amax(0)}[combine]
    )
