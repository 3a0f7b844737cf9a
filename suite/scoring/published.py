"""Areas under curves as papers print them, so that their numbers can be set beside ours.

Neither paper's area under a ROC curve is the usual one: ACDC's is a lower bound that steps below the curve, MIB's has
ten points and no (0, 0). Under a faithfulness curve MIB's CPR and CMD weigh sizes linearly, so half of each lies above
50 % of the edges; ``log=True`` weighs every doubling of the size alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MIB_FRACTIONS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""The ten circuit sizes of MIB, as fractions of all edges."""

ACDC_SMALLEST_THRESHOLD = 1e-6
"""The ACDC paper's plots leave out its runs at smaller thresholds."""


def pessimistic_auc(false_positive_rate: Sequence[float], true_positive_rate: Sequence[float]) -> float:
    """ACDC's area under a ROC curve given as points, in any order.

    (0, 0) and (1, 1) are added; points with another one strictly to the left and strictly above are dropped; what is
    left is joined by steps that stay below: sum_i (1 - x_i) (y_i - y_{i-1}). The two anchors alone give 0, so an
    uninformative ranking has at most one half.

    Args:
        false_positive_rate, true_positive_rate: [n_points] fractions, one point per circuit. For ACDC itself drop the
            circuits found at thresholds below ``ACDC_SMALLEST_THRESHOLD`` first.
    Returns NaN when a rate is NaN.

    Conmy et al., 2023 (arXiv 2304.14997), Tables 2 and 3.
    """
    x = np.concatenate([[0.0], np.asarray(false_positive_rate, dtype=np.float64), [1.0]])
    y = np.concatenate([[0.0], np.asarray(true_positive_rate, dtype=np.float64), [1.0]])
    if np.isnan(x).any() or np.isnan(y).any():
        return float("nan")
    order = np.lexsort((y, x))
    x, y = x[order], y[order]
    # The best rate among the points strictly to the left: a running maximum, moved back to before each run of equal x.
    best = np.maximum.accumulate(y)
    first_of_run = np.searchsorted(x, x, side="left")
    best_to_the_left = np.where(first_of_run > 0, best[first_of_run - 1], -np.inf)
    optimal = y >= best_to_the_left
    x, y = x[optimal], y[optimal]
    return float(np.sum((1 - x[1:]) * np.diff(y)))


def mib_auroc(false_positive_rate: Sequence[float], true_positive_rate: Sequence[float]) -> float:
    """MIB's AUROC from the rates of its ten circuits, in the order of ``MIB_FRACTIONS``.

    The trapezoid rule over ``FPR / FPR[-1]``, without the point (0, 0): what lies left of the smallest circuit's false
    positive rate is lost, so a perfect ranking need not give 1. NaN when the largest circuit has no false edge.

    MIB's released comparison also counts an edge that is missing by name from the submitted graph as found (or as
    wrongly added) instead of as left out. Here circuit and reference share one graph, no name can be missing, and the
    two computations agree.

    Mueller et al., 2025 (arXiv 2504.13151), the InterpBench column.
    """
    x = np.asarray(false_positive_rate, dtype=np.float64)
    y = np.asarray(true_positive_rate, dtype=np.float64)
    if not x[-1] > 0:
        return float("nan")
    return float(np.trapezoid(y, x / x[-1]))


def cpr(fractions: Sequence[float], faithfulness: Sequence[float], *, log: bool = False) -> float:
    """MIB's CPR: the area under faithfulness over circuit size; larger is better, and there is no upper bound.

    The trapezoid rule from the smallest size given (.001 in MIB, not 0) to the largest, so a circuit that is as good as
    the model at all of ``MIB_FRACTIONS`` has .999 and not 1.

    Args:
        fractions: [n_sizes] *requested* sizes as fractions of all edges, growing. They are not the sizes after pruning.
        faithfulness: [n_sizes], of the circuit of each size. 1 is the full model, 0 the graph with every edge cut.
        log: over the logarithm of the size, divided by its range: the mean faithfulness over log sizes, 1 for a
            circuit that is as good as the model at every size.
    Returns NaN when a faithfulness is NaN. Raises ValueError when sizes do not grow or do not match the values.

    Mueller et al., 2025 (arXiv 2504.13151).
    """
    return _area(fractions, np.asarray(faithfulness, dtype=np.float64), log)


def cmd(fractions: Sequence[float], faithfulness: Sequence[float], *, log: bool = False) -> float:
    """MIB's CMD: the area between faithfulness and 1, as ``cpr`` takes it; smaller is better, and 0 is best."""
    return _area(fractions, np.abs(1 - np.asarray(faithfulness, dtype=np.float64)), log)


def _area(fractions: Sequence[float], heights: np.ndarray, log: bool) -> float:
    x = np.asarray(fractions, dtype=np.float64)
    if x.shape != heights.shape or x.ndim != 1 or x.size < 2 or not (np.diff(x) > 0).all() or not x[0] > 0:
        raise ValueError(f"an area needs two sizes at least that grow from above 0, and as many values; got {x}")
    if not log:
        return float(np.trapezoid(heights, x))
    return float(np.trapezoid(heights, np.log(x)) / np.log(x[-1] / x[0]))
