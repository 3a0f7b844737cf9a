"""Exact edge patching: every edge cut by itself. The oracle of the gradient methods (EActP in Mueller et al. 2025)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..circuit import EdgeScores
from ..data import Data
from ..intervention.ablation import Ablation
from ..intervention.evaluator import Evaluator, masks_within_budget
from ..intervention.objective import Objective
from ..model.single_cuts import SingleCuts
from ..model.transformer import Transformer
from ._attribution import keep_prompts_apart
from .cost import Cost, edge_passes
from .registry import method

_MASKS = 64  # a call, where edges are cut by masks
_LIVE = 8  # residual streams that a cut holds at once: the stream, an MLP's four, what is added


@method(
    "exact",
    paper="activation patching of every edge; EActP in Mueller et al. 2025, arXiv:2504.13151",
    presets={"quick": {}},
    cost="1 forward an edge, through its node and the layers above",
    cost_only={"masks_at_once", "batch_size"},
    passes=lambda graph, n, given: Cost(forward=3 * n, cut=n * edge_passes(graph, at_once=1)),
    per_prompt=True,
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
    """score(e) = loss with edge e cut - loss of the plain model, by one cut pass an edge.

    Args:
        masks_at_once: how many edges into nodes of one kind and layer are cut in one call; 0 chooses it.
        batch_size: prompts at a time; 0 chooses it. Scores do not depend on either but for rounding.

    An edge that carries the same cut as kept, on every prompt, scores exactly zero.
    """
    graph, apart = model.graph, keep_prompts_apart()
    evaluator = Evaluator(model, data, ablation, objective, seed=seed, batch_size=batch_size or None)
    values = torch.zeros(graph.exists.shape, dtype=torch.float64)
    if model.reads_apart:
        return _by_masks(evaluator, graph.exists, masks_at_once or _MASKS)
    for ready in evaluator.prepared():
        cuts = SingleCuts(model, ready.inputs, ready.prefix, ready.runs.read)
        plain = objective.loss(cuts.plain, ready.targets).double()  # [B]
        by_prompt = None if apart is None else values.new_zeros(len(plain), *values.shape)
        at_once = masks_at_once or masks_within_budget(model, ready.inputs.shape[1] * ready.inputs.shape[2], _LIVE)
        for group in graph.groups:
            readers = range(group.readers.start, group.readers.stop)
            seen = [w for w in range(group.sees.start, group.sees.stop) if cuts.moved[w]]
            edges = [(w, r) for r in readers for w in seen if graph.exists[w, r]]
            for start in range(0, len(edges), at_once):
                part = edges[start : start + at_once]
                losses = objective.loss(cuts.outputs(group, part), ready.targets).double()  # [C, B]
                w, r = torch.tensor(part).T
                values[w, r] += (losses.sum(-1) - plain.sum()).cpu()
                if by_prompt is not None:
                    by_prompt[:, w, r] = (losses - plain).cpu().T
        if apart is not None and by_prompt is not None:
            apart.append((ready.batch.rows, by_prompt))
    return EdgeScores(graph, values / data.n)


def _by_masks(evaluator: Evaluator, exists: Tensor, at_once: int) -> EdgeScores:
    """The same by whole cut passes, for graphs in which every node computes from an input of its own."""
    graph, apart = evaluator.model.graph, keep_prompts_apart()
    values = torch.zeros(exists.shape, dtype=torch.float64)
    by_prompt = None if apart is None else values.new_zeros(evaluator.data.n, *exists.shape)
    plain = evaluator.per_example(exists[None])[0]
    for part in exists.nonzero().split(at_once):
        masks = exists.repeat(len(part), 1, 1)
        masks[torch.arange(len(part)), part[:, 0], part[:, 1]] = False
        found = evaluator.per_example(masks) - plain  # [C, N]
        values[part[:, 0], part[:, 1]] = found.mean(1)
        if by_prompt is not None:
            by_prompt[:, part[:, 0], part[:, 1]] = found.T
    if apart is not None and by_prompt is not None:
        apart.append((torch.arange(evaluator.data.n), by_prompt))
    return EdgeScores(graph, values)
