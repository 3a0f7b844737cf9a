"""The truth mismatch: what was found under one ablation, scored against the circuit of another."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from .heat import heat_maps
from .panels import nothing
from .style import styled


@styled
def mismatch(table: pd.DataFrame, metric: str = "average_precision") -> Figure:
    """One heat map per method: discovery ablation down, the truth's ablation across, medians written in the squares.

    Args:
        table: ``tables.mismatch_table``. Framed squares are those where both ablations agree; empty ones were not run.
    """
    if table.empty or table["truth_ablation"].nunique() < 2:
        return nothing("Only one ablation has a truth: no mismatch to show.")
    text = {"side": "Discovery ablation", "foot": "Ablation of the truth scored against"}
    return heat_maps(table, metric, "truth_ablation", bar=f"Median {metric.replace('_', ' ')}", **text)
