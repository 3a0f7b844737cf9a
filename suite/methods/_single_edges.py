"""The effect of each edge alone, measured by one cut pass for each edge."""

from __future__ import annotations

import torch
from torch import Tensor

from ..intervention.evaluator import Evaluator, masks_within_budget
from ..model.single_cuts import SingleCuts
from ._attribution import keep_prompts_apart

_MASKS = 64  # masks in one call
_LIVE = 8  # residual streams that a cut holds at once: the stream, an MLP's hidden units (as wide as four), and sums


def single_edge_effects(evaluator: Evaluator, at_once: int) -> tuple[Tensor, Tensor]:
    """How much each edge alone changes the loss of the run from which the evaluator starts.

    Noising starts from the clean run, and the edge carries what a cut edge carries. Denoising starts from the corrupted
    run, and the edge carries what it carries in the clean run.

    Args:
        at_once: the number of edges, into nodes of one kind and layer, that are changed in one call; 0 chooses it.

    Returns:
        The change of the mean loss, float64 [W, R], which is exactly zero for an edge that carries the same in both
        runs on every prompt; and the loss of each prompt in the run from which the evaluator starts, float64 [N]. The
        changes of each prompt are kept inside ``prompts_kept_apart``.
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
    """``single_edge_effects`` by whole passes, for graphs in which every node has an input of its own."""
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
