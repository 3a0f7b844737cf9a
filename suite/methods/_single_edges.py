"""The effect of every edge by itself, by one cut pass an edge."""

from __future__ import annotations

import torch
from torch import Tensor

from ..intervention.evaluator import Evaluator, masks_within_budget
from ..model.single_cuts import SingleCuts
from ._attribution import keep_prompts_apart

_MASKS = 64  # a call, where edges are cut by masks
_LIVE = 8  # residual streams that a cut holds at once: the stream, an MLP's four, what is added


def single_edge_effects(evaluator: Evaluator, at_once: int) -> tuple[Tensor, Tensor]:
    """What each edge changes alone, in the run from which the evaluator starts.

    From the clean run (noising) an edge carries what a cut edge carries; from the corrupted one (denoising) it carries
    what it does in the clean run.

    Args:
        at_once: how many edges into nodes of one kind and layer are changed in one call; 0 chooses it.

    Returns:
        The change of the mean loss, float64 [W, R], exactly zero for an edge that carries the same either way on every
        prompt; and each prompt's loss in the run from which it starts, float64 [N]. Changes of each prompt are kept
        where they are asked for (see ``keep_prompts_apart``).
    """
    model, data, objective = evaluator.model, evaluator.data, evaluator.objective
    graph, apart = model.graph, keep_prompts_apart()
    if model.reads_apart:
        return _by_masks(evaluator, at_once or _MASKS)
    values, unchanged = torch.zeros(graph.exists.shape, dtype=torch.float64), torch.empty(data.n, dtype=torch.float64)
    for ready in evaluator.prepared():
        cuts = SingleCuts(model, ready.inputs, ready.prefix, ready.runs.read)
        plain = objective.loss(cuts.plain, ready.targets).double()  # [B]
        unchanged[ready.batch.rows] = plain.cpu()
        by_prompt = None if apart is None else values.new_zeros(len(plain), *values.shape)
        most = at_once or masks_within_budget(model, ready.inputs.shape[1] * ready.inputs.shape[2], _LIVE)
        for group in graph.groups:
            readers = range(group.readers.start, group.readers.stop)
            seen = [w for w in range(group.sees.start, group.sees.stop) if cuts.moved[w]]
            edges = [(w, r) for r in readers for w in seen if graph.exists[w, r]]
            for start in range(0, len(edges), most):
                part = edges[start : start + most]
                losses = objective.loss(cuts.outputs(group, part), ready.targets).double()  # [C, B]
                w, r = torch.tensor(part).T
                values[w, r] += (losses.sum(-1) - plain.sum()).cpu()
                if by_prompt is not None:
                    by_prompt[:, w, r] = (losses - plain).cpu().T
        if apart is not None and by_prompt is not None:
            apart.append((ready.batch.rows, by_prompt))
    return values / data.n, unchanged


def _by_masks(evaluator: Evaluator, at_once: int) -> tuple[Tensor, Tensor]:
    """The same by whole cut passes, for graphs in which every node computes from an input of its own."""
    exists, n, apart = evaluator.model.graph.exists, evaluator.data.n, keep_prompts_apart()
    values = torch.zeros(exists.shape, dtype=torch.float64)
    by_prompt = None if apart is None else values.new_zeros(n, *exists.shape)
    start = torch.zeros_like(exists) if evaluator.denoising else exists
    unchanged = evaluator.per_example(start[None])[0]
    for part in exists.nonzero().split(at_once):
        masks = start.repeat(len(part), 1, 1)
        masks[torch.arange(len(part)), part[:, 0], part[:, 1]] ^= True
        found = evaluator.per_example(masks) - unchanged  # [C, N]
        values[part[:, 0], part[:, 1]] = found.mean(1)
        if by_prompt is not None:
            by_prompt[:, part[:, 0], part[:, 1]] = found.T
    if apart is not None and by_prompt is not None:
        apart.append((torch.arange(n), by_prompt))
    return values, unchanged
