"""Whether settings put circuits (or methods) in different orders."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy import stats


class Reversals(NamedTuple):
    """How often, among all pairs of circuits and pairs of settings, the two settings prefer different circuits."""

    n: int
    """How many there are, ties included."""
    raw: int
    """Whose estimates have opposite signs: in noisy data, mostly noise."""
    significant: int
    """Whose paired intervals moreover both exclude zero."""


def pairs(n: int) -> list[tuple[int, int]]:
    """All pairs of ``n`` things, in the order in which this file counts them."""
    return list(combinations(range(n), 2))


def reversals(differences: np.ndarray, low: np.ndarray, high: np.ndarray) -> Reversals:
    """How often two circuits change places between two settings.

    Args:
        differences: float [n_pairs, D]: first circuit minus second, in each setting.
        low, high: [n_pairs, D], the ends of their paired intervals; NaN (no interval) never excludes zero.
    Returns counts over all pairs of circuits and of settings.
    """
    differences = np.asarray(differences, dtype=np.float64)
    sure = np.where(np.asarray(low) > 0, 1, np.where(np.asarray(high) < 0, -1, 0))
    n_pairs, n_settings = differences.shape
    return Reversals(
        n=n_pairs * n_settings * (n_settings - 1) // 2, raw=_opposite(np.sign(differences)), significant=_opposite(sure)
    )


def _opposite(signs: np.ndarray) -> int:
    """Pairs of settings with opposite signs, added up over the rows of signs [n_pairs, D]."""
    return int(((signs > 0).sum(1) * (signs < 0).sum(1)).sum())


def kendall_matrix(values: np.ndarray) -> np.ndarray:
    """Kendall's tau-b between the orders of circuits in any two settings: [D, D] from values [n_circuits, D].

    NaN when a setting ties all circuits. Kendall, 1945.
    """
    values = np.asarray(values, dtype=np.float64)
    upper = np.triu_indices(len(values), 1)
    signs = np.sign(values[:, None] - values[None])[upper]  # [n_pairs, D]
    untied = (signs**2).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        tau = (signs.T @ signs) / np.sqrt(np.outer(untied, untied))
    return np.where(np.outer(untied, untied) > 0, tau, np.nan)


def kendall_w(values: np.ndarray) -> float:
    """Kendall's coefficient of concordance of the settings about the circuits' order, corrected for ties.

    It is 1 when every setting ranks the circuits alike, and 0 without agreement. It is NaN with fewer than two circuits
    or settings, or when all circuits are tied.

    Args:
        values: float [n_circuits, D].

    Kendall and Babington Smith, 1939; Friedman's statistic is D (n_circuits - 1) times it.
    """
    n, n_settings = np.shape(values)
    if n < 2 or n_settings < 2:
        return float("nan")
    ranks = stats.rankdata(values, axis=0)
    ties = sum(
        float((counts**3 - counts).sum()) for column in ranks.T for counts in [np.unique(column, return_counts=True)[1]]
    )
    spread = float(((ranks.sum(1) - n_settings * (n + 1) / 2) ** 2).sum())
    most = n_settings**2 * (n**3 - n) - n_settings * ties
    return 12 * spread / most if most > 0 else float("nan")
