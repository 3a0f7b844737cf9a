"""What counts as zero, and as equal, among numbers that are compared: what is left is rounding."""

from __future__ import annotations

import numpy as np

ZERO_FRACTION = 1e-6
"""Scores below this fraction of the largest finite absolute score count as zero."""


def floor(values: np.ndarray, *, axis: int | None = None) -> np.ndarray:
    """``values`` in steps of ``ZERO_FRACTION`` of the largest absolute value; those below one step are zero.

    Rounding errors of edges that do nothing would otherwise be ranked, and edges that matter equally would be ranked by
    theirs, which differ from processor to processor. Infinite scores stay and set no scale.

    Args:
        values: float [...].
        axis: along which the largest is taken; of all values when omitted.
    """
    values = np.asarray(values, dtype=np.float64)
    sizes = np.abs(values)
    finite = np.isfinite(values)
    limit = ZERO_FRACTION * np.max(np.where(finite, sizes, 0.0), axis=axis, keepdims=True, initial=0.0)
    step = np.where(limit > 0, limit, 1.0)
    stepped = np.where(sizes < limit, 0.0, np.where(finite, np.round(values / step) * step, values))
    return np.where(limit > 0, stepped, values).reshape(values.shape)
