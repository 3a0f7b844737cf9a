"""What the features at a model's sites keep of its behaviour by themselves, and what the error nodes keep.

    share(kept) = (loss(neither) - loss(kept)) / (loss(neither) - loss(whole model))

where the nodes that are not kept are cut at every site, and ``neither`` is the model with features and error nodes cut.
Under zero ablation the features' share is what the field calls the loss recovered; the error nodes' is the baseline
that Marks et al. 2024 (arXiv:2403.19647, section 4.2) draw beside feature circuits. ``parts_of`` parts a circuit alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..circuit import Circuit
from ..data import Data
from ..model.features.graph import FeatureGraph
from ..model.features.transformer import FeatureTransformer
from .ablation import Ablation
from .evaluator import Evaluator
from .objective import Objective


@dataclass(frozen=True)
class FeatureShares:
    """Shares of the behaviour; 1 is the whole model, NaN where cutting both changes nothing.

    Args:
        features: kept where every error node is cut.
        errors: kept where every feature is cut.
    """

    features: float
    errors: float


def feature_shares(
    model: FeatureTransformer, data: Data, *, ablation: Ablation, objective: Objective, seed: int = 0
) -> FeatureShares:
    """The shares of a model whose nodes are all features of its dictionaries.

    Raises:
        Undefined: the ablation has no meaning on this data.
    """
    exists, error, feature = model.graph.exists, _writers(model.graph, "error"), _writers(model.graph, "feature")
    cut = torch.stack([torch.zeros_like(error), error, feature, error | feature])
    losses = Evaluator(model, data, ablation, objective, seed=seed).loss((exists & ~cut[:, :, None]).float())
    whole, features, errors, neither = losses.tolist()
    if abs(neither - whole) <= 1e-6 * max(abs(neither), abs(whole)):
        return FeatureShares(math.nan, math.nan)
    return FeatureShares(*((neither - loss) / (neither - whole) for loss in (features, errors)))


def parts_of(circuit: Circuit) -> tuple[Circuit, Circuit]:
    """A circuit of features without the edges that its error nodes write, and without those that its features write.

    What the first keeps, its features explain; what the second keeps, no feature does.
    """
    graph = circuit.graph
    assert isinstance(graph, FeatureGraph)
    kept = (circuit.edges & ~_writers(graph, kind)[:, None] for kind in ("error", "feature"))
    of_features, of_errors = (Circuit(graph, edges) for edges in kept)
    return of_features, of_errors


def _writers(graph: FeatureGraph, kind: str) -> Tensor:
    """Which writers are of a kind, ``feature`` or ``error``: bool [W]."""
    found = torch.zeros(len(graph.writers), dtype=torch.bool)
    for group in graph.groups:
        if group.kind.endswith(kind):
            found[group.writers] = True
    return found
