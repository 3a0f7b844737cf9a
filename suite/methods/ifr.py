"""Information flow routes: Ferrando and Voita 2024, arXiv:2403.00824."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..circuit import EdgeScores
from ..data import Data
from ..intervention.ablation import Ablation
from ..intervention.evaluator import default_batch_size
from ..intervention.objective import Objective
from ..intervention.plain_runs import Runs
from ..model.graph import NodeGroup
from ..model.transformer import Activations, Transformer
from .cost import Cost
from .registry import method


@method(
    "ifr",
    paper="Ferrando and Voita 2024, arXiv:2403.00824",
    objectives=None,
    presets={"reference-code": {"constants": False}, "quick": {}},
    cost="1 forward",
    cost_only={"batch_size"},
    passes=lambda graph, n, given: Cost(forward=n),
)
def discover(
    model: Transformer,
    data: Data,
    *,
    ablation: Ablation,
    objective: Objective | None,
    seed: int,
    constants: bool = True,
    batch_size: int = 0,
) -> EdgeScores:
    """Measures, on clean prompts alone, how near what a writer writes is to the residual stream that a reader reads.

    proximity(w, r) = max(|y_r|_1 - |y_r - out_w|_1, 0), with y_r the residual stream that r reads;
    score(w, r) = mean over examples and positions of proximity(w, r) / sum of the proximities of all parts of y_r
    (section 2)

    Of a prompt with answers of several tokens, which has a run for each of them, it is the mean over its runs, each of
    which has the positions of the prompt and of its answer.

    Neither the ablation nor the objective is used, so that the scores are the same under all of them. The q, k and v
    readers of a layer read the same stream and have the same scores. Where no part has a proximity above zero, all
    scores are zero (the released code divides zero by zero).

    Args:
        constants: whether what no edge carries (a position embedding that no node writes, output biases) is a part of
            y_r, so that all shares sum to 1. In the code of EAP-IG it is not (preset ``reference-code``).
        batch_size: prompts at a time; 0 chooses it. Scores do not depend on it.
    """
    size = batch_size or default_batch_size(model, data.clean.shape[1])
    total = torch.zeros(model.graph.exists.shape, dtype=torch.float64)
    for batch in data.batches(size):
        for group, shares in contributions(model, Runs(model, batch).clean[1], constants):
            counted = shares[:-1] * batch.weights.to(shares)
            total[group.sees, group.readers] += counted.mean(2).sum(1).double().cpu()[:, None]
    return EdgeScores(model.graph, total / data.n)


@torch.no_grad()
def contributions(model: Transformer, run: Activations, constants: bool) -> Iterator[tuple[NodeGroup, Tensor]]:
    """For each group of nodes that read the residual stream: the group, and the share of each part in the stream.

    The shares are [w + 1, B, P]: those of the w writers that the group sees, and last that of what no edge carries.
    """
    wide = torch.promote_types(model.dtype, torch.float32)
    out = model.outputs(run).to(wide)
    nothing = run.map(lambda part: torch.zeros_like(part[:, :1, :1]))
    on_no_edge = model.alternative(nothing, out.shape[2]).before  # what readers read when every writer writes zero

    def shares(group: NodeGroup) -> Tensor:
        fixed = on_no_edge[group.key].to(wide).expand_as(out[0])
        parts = torch.cat([out[group.sees], fixed[None]])
        read = parts.sum(0)
        near = (read.abs().sum(-1) - (read - parts).abs().sum(-1)).clamp_min(0)
        if not constants:
            near[-1] = 0
        whole = near.sum(0)
        return near / whole.where(whole > 0, 1)

    for group in model.graph.groups:
        if group.reads:
            yield group, shares(group)
