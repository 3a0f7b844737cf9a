"""What the gradient methods share: edge scores summed over batches, divided once by the number of examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from ..ablation import Ablation, Alternatives
from ..circuit import EdgeScores
from ..data import Data
from ..evaluator import default_batch_size
from ..model.capture import edge_products
from ..model.transformer import Activations, Transformer
from ..objective import Objective, Targets
from ..runs import Runs


def mean_edge_products(
    model: Transformer,
    data: Data,
    ablation: Ablation,
    objective: Objective,
    *,
    seed: int,
    batch_size: int,
    points: Callable[[Tensor, Activations], Iterator[tuple[Tensor, float]]],
) -> EdgeScores:
    """(1/N) sum over examples of <alternative - clean, gradient of the loss>, averaged over points of a path.

    Args:
        points: (clean input nodes [n_inputs, B, P, D], the alternative's activations) to the (input nodes, weight)
            at which gradients are taken.
        batch_size: prompts at a time; 0 chooses it from the model's size. It does not change the scores.
    """
    size = batch_size or default_batch_size(model, data.clean.shape[1])
    alternatives = Alternatives(model, data, ablation, seed=seed, batch_size=size)
    total = torch.zeros(model.graph.exists.shape, dtype=torch.float64)
    for batch in data.batches(size):
        runs = Runs(model, batch)
        cut = alternatives.of(runs)
        loss = partial(_summed_loss, objective, objective.targets(runs))
        clean = runs.clean[1]
        damage = model.difference(cut, clean)
        for inputs, weight in points(clean.inputs, cut):
            products, _ = edge_products(model, inputs, damage, loss, read=runs.read)
            total += weight * products.double().cpu()
    return EdgeScores(model.graph, total / data.n)


def _summed_loss(objective: Objective, targets: Targets, logits: Tensor) -> Tensor:
    return objective.loss(logits, targets).sum()
