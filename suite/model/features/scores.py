"""How good a dictionary is: what it reconstructs, how sparsely, and how many of the true directions it found."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .dictionary import FeatureDictionary

FOUND_FROM = 0.9  # cosine from which on a true direction counts as found


@dataclass(frozen=True)
class DictionaryScores:
    """Scores of a dictionary on activations.

    Args:
        unexplained: |x - reconstruction|^2 over |x - mean x|^2, both summed over rows; 0 is perfect, 1 is the mean.
        l0: features active in a row, on average.
        dead: share of the features that are active in no row.
        found: share of the true directions that have a feature of their own at a cosine of ``FOUND_FROM`` or more, in
            the best one-to-one matching; ``None`` where no directions are known.
        mean_cosine: the matching's mean cosine, a true direction without a feature counting 0; ``None`` likewise.
    """

    unexplained: float
    l0: float
    dead: float
    found: float | None = None
    mean_cosine: float | None = None


def dictionary_scores(
    dictionary: FeatureDictionary, read: Tensor, whole: Tensor | None = None, directions: Tensor | None = None
) -> DictionaryScores:
    """Scores of a dictionary.

    Args:
        read: what the encoder reads, [N, D_in].
        whole: what is to be reconstructed, [N, D]; ``read`` unless given (transcoders read something else).
        directions: the true directions [T, D].
    """
    whole = read if whole is None else whole
    active = dictionary.encode(read)
    error = (whole - dictionary.reconstruct(read)).square().sum()
    spread = (whole - whole.mean(0)).square().sum().clamp_min(torch.finfo(whole.dtype).tiny)
    on = active != 0
    matched = None if directions is None else match(dictionary.W_dec, directions)[1]
    return DictionaryScores(
        unexplained=float(error / spread),
        l0=float(on.sum(1).float().mean()),
        dead=float((~on.any(0)).float().mean()),
        found=None if matched is None else float((matched >= FOUND_FROM).float().mean()),
        mean_cosine=None if matched is None else float(matched.mean()),
    )


def match(decoder: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """The one-to-one matching of directions [T, D] with decoder rows [K, D] of largest total cosine.

    Returns:
        The feature of each direction [T], -1 where there are fewer features than directions and none is left; and the
        cosine [T], 0 there.
    """
    cosines = unit(directions.double()) @ unit(decoder.double()).T
    rows, columns = linear_sum_assignment(cosines.numpy(), maximize=True)
    feature = torch.full((len(directions),), -1, dtype=torch.long)
    value = torch.zeros(len(directions), dtype=torch.float64)
    feature[rows] = torch.from_numpy(columns)
    value[rows] = cosines[rows, columns]
    return feature, value


def unit(rows: Tensor) -> Tensor:
    """Rows scaled to norm 1; rows of zeros stay."""
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
