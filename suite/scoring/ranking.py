"""How well scores rank the true ones above the others: ROC and precision-recall, on flat arrays.

Everything here takes ``labels`` (bool [n], the true ones) and ``values`` (float [n], larger = more important) and knows
no graph. ``recovery.py`` says which edges enter and how scores become values.

Ties are never broken by chance or by order: tied items enter the ranking together. For the ROC that means that a tied
pair of a true and a false item counts one half; for average precision that all of a tied group are judged at the
precision and recall reached once the whole group is in (so scores that are all equal give the share of true items).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class RocCurve(NamedTuple):
    """Points of a ROC curve, from (0, 0) to (1, 1): float64 [n_points] each, fractions."""

    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray


class PrecisionRecallCurve(NamedTuple):
    """Points of a precision-recall curve by growing recall: float64 [n_points] each, fractions.

    A step function: between two recalls the precision of the right one holds (that is what average precision sums).
    """

    recall: np.ndarray
    precision: np.ndarray


@dataclass(frozen=True)
class Ranking:
    """Items ranked by value, of which every curve and area is read.

    Args:
        true, false: the true and false items among those scored at least each distinct value, from the largest value
            down; int64 [n_points] each.
        n_true, n_false: of all items.
    """

    true: np.ndarray
    false: np.ndarray
    n_true: int
    n_false: int

    @classmethod
    def of(cls, labels: np.ndarray, values: np.ndarray) -> Ranking:
        """Ranks items. Raises ValueError for vectors of two lengths, and for NaN."""
        labels = np.asarray(labels, dtype=bool)
        values = np.asarray(values, dtype=np.float64)
        if labels.shape != values.shape or labels.ndim != 1:
            raise ValueError(f"labels {labels.shape} and values {values.shape} must be two vectors of one length")
        if np.isnan(values).any():
            raise ValueError("values contain NaN: leave out what has no score before ranking")
        order = np.argsort(-values, kind="stable")
        ranked = values[order]
        # The last item of each group of equal values; != and not a difference, since infinite values are allowed.
        ends = np.ones(values.size, dtype=bool)
        np.not_equal(ranked[1:], ranked[:-1], out=ends[:-1])
        last_of_group = np.flatnonzero(ends)
        true = np.cumsum(labels[order])[last_of_group]
        n_true = int(np.count_nonzero(labels))
        return cls(true, last_of_group + 1 - true, n_true, values.size - n_true)

    @property
    def roc(self) -> RocCurve:
        """As ``roc_curve``."""
        with np.errstate(invalid="ignore", divide="ignore"):
            false, true = (np.concatenate([[0], counts]) for counts in (self.false, self.true))
            return RocCurve(false / np.float64(self.n_false), true / np.float64(self.n_true))

    @property
    def auroc(self) -> float:
        """As ``auroc``."""
        if not self.n_true + self.n_false:
            return float("nan")
        false_rate, true_rate = self.roc
        return float(np.trapezoid(true_rate, false_rate))

    @property
    def precision_recall(self) -> PrecisionRecallCurve:
        """As ``precision_recall_curve``."""
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = self.true / (self.true + self.false).astype(np.float64)
            return PrecisionRecallCurve(self.true / np.float64(self.n_true), precision)

    @property
    def average_precision(self) -> float:
        """As ``average_precision``."""
        if not self.n_true:
            return float("nan")
        recall, precision = self.precision_recall
        return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def roc_curve(labels: np.ndarray, values: np.ndarray) -> RocCurve:
    """The ROC curve, anchored at (0, 0) and (1, 1), one point per distinct value.

    Rates are NaN when they are undefined (without a true item, or without a false one).
    """
    return Ranking.of(labels, values).roc


def auroc(labels: np.ndarray, values: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a true item outranks a false one, ties counting half.

    NaN when there is no true item or no false one.
    """
    return Ranking.of(labels, values).auroc


def precision_recall_curve(labels: np.ndarray, values: np.ndarray) -> PrecisionRecallCurve:
    """The precision-recall curve, one point per distinct value; recall is NaN when there is no true item."""
    return Ranking.of(labels, values).precision_recall


def average_precision(labels: np.ndarray, values: np.ndarray) -> float:
    """sum_k (recall_k - recall_{k-1}) precision_k over the distinct values; NaN when there is no true item.

    The definition of scikit-learn's ``average_precision_score``: no interpolation between the points.
    """
    return Ranking.of(labels, values).average_precision


def top(labels: np.ndarray, values: np.ndarray, n: int) -> tuple[float, int]:
    """How many of the ``n`` items with the largest values are true, and how many are chosen.

    Of items that tie at the last place, the share that is chosen has the group's share of true ones: the mean over all
    ways to break the tie. An item whose value is zero is never chosen, because it was scored as irrelevant. Fewer than
    ``n`` may therefore be chosen.

    Args:
        labels, values: bool and float64 [n_items]; values are not negative.
    """
    labels, values = np.asarray(labels, dtype=bool), np.asarray(values, dtype=np.float64)
    chosen = min(n, int(np.count_nonzero(values)))
    if not chosen:
        return 0.0, 0
    last = np.sort(values)[-chosen]
    above, tied = values > last, values == last
    room = chosen - np.count_nonzero(above)
    return float(np.count_nonzero(labels & above) + room * labels[tied].mean()), chosen


def separated(labels: np.ndarray, values: np.ndarray) -> bool:
    """Whether every true item has a nonzero value larger than every false item's, so that no tie needs to be broken."""
    labels = np.asarray(labels, dtype=bool)
    true, false = values[labels], values[~labels]
    return bool((true != 0).all() and (not true.size or not false.size or true.min() > false.max()))


def with_missed(values: np.ndarray, missed: Sequence[str] | None, value: float) -> np.ndarray:
    """Values of a graph's edges [n], followed by ``value`` for each edge that is missed (``Reference.missed``)."""
    return np.concatenate([values, np.full(len(missed or ()), value, dtype=values.dtype)]) if missed else values
