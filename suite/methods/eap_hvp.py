"""EAP with a second-order correction: Zhang and Wang 2026, arXiv:2606.09899."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..circuit import Discovery, EdgeScores, NodeScores
from ..data import Data
from ..errors import SpecError
from ..intervention.ablation import Ablation
from ..intervention.evaluator import Evaluator, masks_within_budget
from ..intervention.objective import Objective
from ..intervention.prepared_batch import PreparedBatch
from ..model.device import send
from ..model.graph import Graph
from ..model.passes import spend
from ..model.single_cuts import SingleCuts
from ..model.transformer import Transformer
from ._attribution import check_choices
from .cost import Cost, edge_passes
from .registry import NODE_KINDS, method

_LEVELS = ("edge", "node")
_CORRECT = ("all", "flagged", "none")
_ROUNDING = 1e-6  # of the largest term: a smaller term may be zero but for rounding
_ROUNDING_IN_FLOAT64 = 1e-12
_LIVE = 24  # residual streams that two backward passes hold at once, for each layer


def _cost(graph: Graph, prompts: int, given: Mapping[str, Any]) -> Cost:
    if given["level"] == "edge":
        passes = edge_passes(graph, at_once=1)
    else:
        above = [(len(group.nodes), graph.n_layers - group.layer) for group in graph.groups if group.writes]
        passes = sum(nodes * layers for nodes, layers in above) / graph.n_layers
    return Cost(forward=3 * prompts, cut=3 * given["steps"] * prompts * passes)


@method(
    "eap-hvp",
    paper="Zhang and Wang 2026, arXiv:2606.09899",
    needs={"gradients"},
    nodes=NODE_KINDS,
    presets={"node": {"level": "node"}, "multi-step": {"steps": 5}, "quick": {}},
    cost="3 forward, and steps x (1 forward, 2 backward) an edge, through its node and the layers above",
    cost_only={"batch_size"},
    passes=_cost,
)
def discover(
    model: Transformer,
    data: Data,
    *,
    ablation: Ablation,
    objective: Objective,
    seed: int,
    level: str = "edge",
    steps: int = 1,
    correct: str = "all",
    unreliable: float = 1.0,
    batch_size: int = 0,
) -> Discovery:
    """Estimates to second order how cutting each edge alone changes the loss, and flags where EAP is unreliable.

    score(e) = mean over examples of g.d + d.H d / 2,    ratio(e) = mean |d.H d| / 2 / mean |g.d|

    d is the change that cutting e makes in what the reader of e reads; g is the gradient and H the Hessian of the loss
    there, in the clean run. H d takes a second backward pass (a Hessian-vector product). g.d is the score of EAP, and
    the ratio tells how reliable that is. The abstract of the paper was read, and the two formulas as others quote
    them; what was inferred is said below. Every edge needs a run of its own, so that the method costs more than
    ``exact``: it is for finding out what a second order adds to EAP, and where EAP cannot be trusted.

    Args:
        level: ``edge``; or ``node``, as in the paper: a node is cut on all its edges together, and an edge has the
            score of the one of its two ends whose score is smaller in size.
        steps: the number of equal parts into which d is divided. The change over each part is taken to second order
            from where the part starts. 1 is the plain correction; with more the scores approach those of exact
            patching. (The paper has a variant of several steps; that they are equal was inferred.)
        correct: the scores that get the second order: ``all``; those that are ``flagged``; or ``none``, which gives
            the scores of EAP with flags.
        unreliable: the ratio from which a score is flagged. The paper asks that the second order rival the first; the
            value 1, at which the two are equal, is ours. The ratio is infinite where the first order is zero. A second
            order of at most 1e-6 of the largest term of any order (1e-12 in float64) is rounding and never flagged.
        batch_size: prompts at a time; 0 chooses it. Scores do not depend on it.

    Raises:
        SpecError: no steps, an unknown level or correction, or a ratio that is not above zero.
    """
    check_choices("eap-hvp", level=(level, _LEVELS), correct=(correct, _CORRECT))
    if steps < 1 or unreliable <= 0:
        raise SpecError(
            f"eap-hvp: steps={steps}, unreliable={unreliable}; give steps of 1 or more and a ratio above 0."
        )
    graph = model.graph
    evaluator = Evaluator(model, data, ablation, objective, seed=seed, batch_size=batch_size or None)
    shape = graph.exists.shape if level == "edge" else graph.exists.shape[:1]
    # The scores to second order and to first order, and the mean over examples of the size of both terms.
    orders = torch.zeros(4, *shape, dtype=torch.float64)
    for ready in evaluator.prepared():
        for where, first, second in _derivatives(model, ready, objective, level, steps):
            changes = (first + second / (2 * steps)).mean(0)
            sums = (changes, first[0], first[0].abs(), second[0].abs() / 2)
            orders[(slice(None), *where)] += torch.stack([each.double().sum(-1) for each in sums]).cpu()
    to_second, to_first, first_size, second_size = orders / data.n
    rounding = _ROUNDING_IN_FLOAT64 if model.dtype == torch.float64 else _ROUNDING
    noise = rounding * torch.maximum(first_size.max(), second_size.max())
    flagged = (second_size > noise) & (second_size >= unreliable * first_size)
    corrected = {"all": torch.ones_like(flagged), "flagged": flagged, "none": torch.zeros_like(flagged)}[correct]
    values = torch.where(corrected, to_second, to_first)
    if level == "edge":
        scores, names = EdgeScores(graph, values), graph.named(flagged)
    else:
        scores = NodeScores(graph, values).edges()
        names = [name for name, flag in zip(graph.writers, flagged.tolist(), strict=True) if flag]
    scored = graph.n_edges if level == "edge" else len(graph.writers)
    return Discovery(scores, (), {"scored": scored, "unreliable": names})


def _derivatives(
    model: Transformer, ready: PreparedBatch, objective: Objective, level: str, steps: int
) -> Iterator[tuple[tuple[Tensor, ...], Tensor, Tensor]]:
    """The indices of C edges or nodes in the scores, and the derivatives of the loss by the share that is cut of each.

    The first and the second derivative are [steps, C, B], of each example where 0, 1/steps, 2/steps ... are cut.
    """
    graph = model.graph
    cuts = SingleCuts(model, ready.inputs, ready.prefix, ready.runs.read)
    runs = ready.inputs.shape[1]
    at_once = masks_within_budget(model, runs * ready.inputs.shape[2], _LIVE * graph.n_layers)
    of_runs = send(ready.batch.example, model.device)
    for group in graph.groups:
        if level == "edge":
            seen = [w for w in range(group.sees.start, group.sees.stop) if cuts.moved[w]]
            readers = range(group.readers.start, group.readers.stop)
            every = [(w, r) for r in readers for w in seen if graph.exists[w, r]]
        else:
            every = [(w, w) for w in range(group.writers.start, group.writers.stop) if cuts.moved[w]]
        for start in range(0, len(every), at_once):
            part = every[start : start + at_once]
            writers, readers_of = torch.tensor(part).T
            found = []
            for step in range(steps):
                # The plain kernel of attention, because the others have no second derivative.
                with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
                    shape = len(part), len(ready.batch.rows)
                    shares = torch.full(shape, step / steps, dtype=model.dtype, device=model.device, requires_grad=True)
                    of_each = shares.index_select(1, of_runs)
                    if level == "edge":
                        outputs = cuts.outputs_at(group, part, of_each)
                    else:
                        outputs = cuts.outputs_without(group, writers.tolist(), of_each)
                    loss = objective.loss(outputs, ready.targets).sum()
                    found.append(_slope_and_curvature(loss, shares))
                spend(backward=2 * len(part) * runs * (graph.n_layers - group.layer) / graph.n_layers)
            first, second = (torch.stack(each) for each in zip(*found, strict=True))
            yield (writers, readers_of) if level == "edge" else (writers,), first, second


def _slope_and_curvature(loss: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """First and second derivative [C, B] of a loss by ``shares`` [C, B], where each term depends on one share alone."""
    (first,) = torch.autograd.grad(loss, shares, create_graph=True, materialize_grads=True)
    if not first.requires_grad:
        return first.detach(), torch.zeros_like(first)
    (second,) = torch.autograd.grad(first.sum(), shares, materialize_grads=True)
    return first.detach(), second
