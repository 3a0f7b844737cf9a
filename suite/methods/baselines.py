"""Baselines that bound every method: a random order, the size of the change that a cut makes, and the truth."""

from __future__ import annotations

import torch

from ..circuit import EdgeScores, Reference
from ..data import Data
from ..intervention.ablation import Ablation, Alternatives
from ..intervention.evaluator import default_batch_size
from ..intervention.objective import Objective
from ..intervention.plain_runs import Runs
from ..model.transformer import Transformer
from .cost import Cost
from .registry import method


@method(
    "random",
    paper="baseline",
    objectives=None,
    presets={"quick": {}},
    cost="nothing",
    stochastic=True,
    passes=lambda graph, n, given: Cost(),
    by_position=True,
)
def random(model: Transformer, data: Data, *, ablation: Ablation, objective: Objective | None, seed: int) -> EdgeScores:
    """A seeded uniform random score for each edge: the lower bound, at chance."""
    generator = torch.Generator().manual_seed(seed)
    return EdgeScores(model.graph, torch.rand(model.graph.exists.shape, generator=generator, dtype=torch.float64))


@method(
    "magnitude",
    paper="baseline",
    objectives=None,
    presets={"quick": {}},
    cost="2 forward",
    cost_only={"batch_size"},
    passes=lambda graph, n, given: Cost(forward=2 * n),
)
def magnitude(
    model: Transformer,
    data: Data,
    *,
    ablation: Ablation,
    objective: Objective | None,
    seed: int,
    batch_size: int = 0,
) -> EdgeScores:
    """The mean, over positions, of the norm of (alternative - clean) of the edge's writer, whatever reads it."""
    size = batch_size or default_batch_size(model, data.clean.shape[1])
    alternatives = Alternatives(model, data, ablation, seed=seed, batch_size=size)
    norms, count = torch.zeros(len(model.graph.writers), dtype=torch.float64), 0
    for batch in data.batches(size):
        runs = Runs(model, batch)
        difference = model.difference(alternatives.of(runs), runs.clean[1])
        length = difference.double().norm(dim=-1).cpu()  # [W, B, P]
        norms += (length * batch.valid).sum((1, 2))
        count += int(batch.valid.sum())
    return EdgeScores(model.graph, (norms / count)[:, None].expand(model.graph.exists.shape))


@method(
    "truth",
    paper="the certificate",
    needs={"truth"},
    objectives=None,
    presets={"quick": {}},
    cost="nothing",
    passes=lambda graph, n, given: Cost(),
    by_position=True,
)
def truth(
    model: Transformer,
    data: Data,
    *,
    ablation: Ablation,
    objective: Objective | None,
    seed: int,
    truth: Reference,
) -> EdgeScores:
    """1 for each edge of the certified circuit, 1/2 for optional edges, 0 for the others: the upper bound."""
    return EdgeScores(model.graph, truth.core.double() + 0.5 * truth.optional.double())
