"""What the features at a model's sites keep of its behaviour by themselves, and what the error nodes keep.

    share(kept) = (loss(neither) - loss(kept)) / (loss(neither) - loss(whole model))

where the nodes that are not kept are cut at every site, and ``neither`` is the model with features and error nodes cut.
Under zero ablation the features' share is what the field calls the loss recovered; the error nodes' is the baseline
that Marks et al. 2024 (arXiv:2403.19647, section 4.2) draw beside feature circuits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..data import Data
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
    exists, writers = model.graph.exists, model.graph.writers
    error = torch.tensor([name.endswith(".error") for name in writers])
    feature = torch.tensor([".f" in name for name in writers])
    cut = torch.stack([torch.zeros_like(error), error, feature, error | feature])
    losses = Evaluator(model, data, ablation, objective, seed=seed).loss((exists & ~cut[:, :, None]).float())
    whole, features, errors, neither = losses.tolist()
    if abs(neither - whole) <= 1e-6 * max(abs(neither), abs(whole)):
        return FeatureShares(math.nan, math.nan)
    return FeatureShares(*((neither - loss) / (neither - whole) for loss in (features, errors)))
