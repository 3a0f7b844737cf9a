"""Gate-aware discovery, noising together with denoising: Chen et al. 2025, arXiv:2505.10039."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..circuit import Circuit, Discovery, EdgeScores, NativeCircuit
from ..data import Data
from ..errors import SpecError, Undefined
from ..intervention.ablation import Ablation
from ..intervention.evaluator import Evaluator
from ..intervention.objective import Objective
from ..model.graph import Graph
from ..model.transformer import Transformer
from ._attribution import Prompts, check_choices, mean_values
from ._single_edges import single_edge_effects
from .cost import Cost, edge_passes
from .registry import BY_GRADIENTS, method

BY = ("exact", "gradient")
KINDS = {"and": (True, False), "or": (False, True), "adder": (True, True)}
"""The kinds of gates, and whether an edge into one is found by noising, and by denoising."""


def _cost(graph: Graph, prompts: int, given: Mapping[str, Any]) -> Cost:
    if given["by"] == "gradient":
        return Cost(forward=2 * prompts, gradient=2 * prompts)
    return Cost(forward=6 * prompts, cut=2 * prompts * edge_passes(graph, at_once=1))


@method(
    "gate-aware",
    paper="Chen et al. 2025, arXiv:2505.10039",
    ablations={"patch", "resample"},
    presets={"gradient": {"by": "gradient"}, "quick": {}},
    cost="1 forward an edge and direction, through its node and the layers above; by gradients 2 forward, 2 backward",
    cost_only={"batch_size"},
    exact_for=BY_GRADIENTS,
    passes=_cost,
)
def discover(
    model: Transformer,
    data: Data,
    *,
    ablation: Ablation,
    objective: Objective,
    seed: int,
    by: str = "exact",
    thresholds: tuple[float, ...] = (0.1,),
    batch_size: int = 0,
) -> Discovery:
    """Corrupts each edge in the clean run and restores it in the corrupted run: tells AND, OR and ADDER gates apart.

    noising(e) = loss of the clean run with e as in the corrupted run - loss of the clean run;
    denoising(e) = loss of the corrupted run - loss of the corrupted run with e as in the clean run

    An edge leads into an AND gate if only noising finds it, into an OR gate if only denoising finds it, and into an
    ADDER if both find it. The score of an edge is the one of the two effects that is larger in size. This holds for
    pairs whose inputs are on in the clean run and off in the corrupted run; the other way round AND and OR change
    places.

    The paper combines the two directions with ACDC, EAP and Edge Pruning, and has no released code. Here edges are
    tried one by one, so that neither direction depends on an order, and both effects are in units of the same loss.

    Args:
        by: how effects are measured: ``exact``, by one run for each edge and direction; or by the ``gradient`` at the
            clean run and at the corrupted run (EAP from both ends).
        thresholds: the least size of an effect that counts as found, as a share of the mean over prompts of
            |loss of the corrupted run - loss of the clean run|. Where this mean is zero, nothing is found. For each
            threshold there is a circuit of all edges found, and one of the edges of each kind, labelled by ``noising``
            and ``denoising`` (1: found by it). The diagnostics have the kind of each edge.
        batch_size: prompts at a time; 0 chooses it. Scores do not depend on it.

    Raises:
        SpecError: ``by`` is unknown, or a threshold is not above zero.
        Undefined: with ``gradient``, the objective has no gradient, or is a divergence, whose gradient at the clean
            run is zero.
    """
    check_choices("gate-aware", by=(by, BY))
    if not thresholds or min(thresholds) <= 0:
        raise SpecError(f"gate-aware: thresholds={thresholds!r}; give shares of the whole effect above 0.")
    if by == "gradient" and not objective.differentiable:
        raise Undefined(f"gate-aware: by=gradient needs gradients, which {objective.name} does not have; use by=exact.")
    if by == "gradient" and objective.divergence:
        raise Undefined(
            f"gate-aware: by=gradient needs the gradient at the clean run, where that of {objective.name} is zero."
        )
    given = (model, data, ablation, objective)
    graph = model.graph
    if by == "exact":
        ends = [
            Evaluator(*given, seed=seed, batch_size=batch_size or None, denoising=denoising)
            for denoising in (False, True)
        ]
        (noising, clean), (restoring, corrupted) = (single_edge_effects(end, 0) for end in ends)
        effects, whole = torch.stack([noising, -restoring]), float((corrupted - clean).abs().mean())
    else:
        effects, whole = _by_gradients(*given, seed=seed, batch_size=batch_size)
    larger = torch.where(effects[0].abs() >= effects[1].abs(), effects[0], effects[1])
    circuits, found = [], []
    for threshold in thresholds:
        seen = (effects.abs() >= threshold * whole) & graph.exists & (whole > 0)
        circuits.append(NativeCircuit({"threshold": threshold}, Circuit(graph, seen.any(0))))
        kinds: dict[str, str] = {}
        for kind, (by_noising, by_denoising) in KINDS.items():
            circuit = Circuit(graph, (seen[0] == by_noising) & (seen[1] == by_denoising) & seen.any(0))
            label = {"threshold": threshold, "noising": float(by_noising), "denoising": float(by_denoising)}
            circuits.append(NativeCircuit(label, circuit))
            kinds |= dict.fromkeys(circuit.names, kind)
        found.append({"threshold": threshold, "kinds": kinds})
    return Discovery(EdgeScores(graph, larger), tuple(circuits), {"whole_effect": whole, "gates": found})


def _by_gradients(
    model: Transformer, data: Data, ablation: Ablation, objective: Objective, *, seed: int, batch_size: int
) -> tuple[Tensor, float]:
    """Noising and denoising effects [2, W, R] to first order, and the mean size of the whole effect."""

    def of_batch(prompts: Prompts) -> Tensor:
        by_direction = torch.stack([prompts.products_at_clean(), prompts.products(prompts.alternative_inputs)])
        corrupted = prompts.losses(model.run(prompts.alternative_inputs, read=prompts.runs.read)[0])
        # The last row, below those of the writers, holds the size of the whole effect.
        size = (corrupted - prompts.losses(prompts.runs.clean[0])).abs().sum().expand(2, 1, by_direction.shape[2])
        return torch.cat([by_direction, size], 1)

    with torch.no_grad():
        found = mean_values(model, data, ablation, objective, seed, batch_size, of_batch)
    return found[:, :-1], float(found[0, -1, 0])
