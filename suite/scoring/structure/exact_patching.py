"""How far a method's scores are from what cutting single edges really changes, on edges drawn by chance."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from ...circuit import EdgeScores
from ...data import Data
from ...intervention.ablation import Ablation
from ...intervention.evaluator import Evaluator
from ...intervention.objective import Objective
from ...model.transformer import Transformer
from ...rounding import floor
from .controls_found import ExactFound

_RESAMPLES = 1000
_AT_ONCE = 64


def beside_exact(
    model: Transformer,
    data: Data,
    scores: EdgeScores,
    ablation: Ablation,
    objective: Objective,
    *,
    edges: int = 100,
    seed: int = 0,
    batch_size: int | None = None,
) -> ExactFound:
    """Spearman's correlation of scores with exact effects, and the share of the effects that scores explain.

    Args:
        data: the prompts that the scores are of.
        edges: how many edges are drawn, each with the same chance; all edges when the graph has no more.
        seed: of the draw, of what the ablation draws, and of the bootstrap over edges.
        batch_size: prompts at a time; chosen from the model's size when omitted.
    """
    places = model.graph.exists.nonzero()
    generator = np.random.default_rng(seed)
    if edges < len(places):
        places = places[torch.from_numpy(np.sort(generator.choice(len(places), size=edges, replace=False)))]
    effects = single_effects(
        Evaluator(model, data, ablation, objective, seed=seed, batch_size=batch_size), places
    ).numpy()
    own = scores.values[places[:, 0], places[:, 1]].numpy()
    if not np.abs(effects).max() > 0:
        return ExactFound(edges=len(places), undefined="no edge that was drawn has an effect")
    drawn = generator.integers(len(places), size=(_RESAMPLES, len(places)))
    ranks, shares = rank_agreement(own[drawn], effects[drawn]), explained(own[drawn], effects[drawn])
    ends = [_ends(values) for values in (ranks, shares)]
    return ExactFound(
        edges=len(places),
        rank=float(rank_agreement(own, effects)),
        rank_low=ends[0][0],
        rank_high=ends[0][1],
        explained=float(explained(own, effects)),
        explained_low=ends[1][0],
        explained_high=ends[1][1],
    )


def single_effects(evaluator: Evaluator, places: Tensor) -> Tensor:
    """The mean change of the loss when each edge, long [n, 2] (writer, reader), is cut alone: float64 [n]."""
    exists = evaluator.model.graph.exists
    plain, found = evaluator.loss(exists[None])[0], []
    for part in places.split(_AT_ONCE):
        masks = exists.repeat(len(part), 1, 1)
        masks[torch.arange(len(part)), part[:, 0], part[:, 1]] = False
        found.append(evaluator.loss(masks) - plain)
    return torch.cat(found)


def rank_agreement(scores: np.ndarray, effects: np.ndarray) -> np.ndarray:
    """Spearman's correlation of absolute values along the last axis; NaN when one of the two does not vary.

    What differs by rounding (``floor``) is tied.
    """
    ranks = []
    for values in (np.abs(scores), np.abs(effects)):
        rank = rankdata(floor(values, axis=-1), axis=-1)
        ranks.append(rank - rank.mean(-1, keepdims=True))
    size = np.sqrt(np.square(ranks[0]).sum(-1) * np.square(ranks[1]).sum(-1))
    return np.where(size > 0, (ranks[0] * ranks[1]).sum(-1) / np.where(size > 0, size, 1), np.nan)


def explained(scores: np.ndarray, effects: np.ndarray) -> np.ndarray:
    """1 - sum (score - effect)^2 / sum effect^2 along the last axis; NaN when no edge has an effect."""
    whole = np.square(effects).sum(-1)
    return np.where(whole > 0, 1 - np.square(scores - effects).sum(-1) / np.where(whole > 0, whole, 1), np.nan)


def _ends(values: np.ndarray) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)
