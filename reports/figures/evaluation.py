"""Methods by ablations: how faithful circuits found under one ablation are when evaluated under another."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ..style import styled
from .heat import heat_maps
from .panels import nothing


@styled
def evaluation(table: pd.DataFrame, size: str = "true") -> Figure:
    """One heat map per method: discovery ablation down, evaluation ablation across, medians written in the squares.

    Args:
        table: ``evaluations.faithfulness_table``. Framed squares are those where both ablations agree; hatched ones
            have no meaning or no number; empty ones were not run.
        size: the size of the circuits.
    """
    drawn = table[table["size"] == size]
    if drawn.empty:
        return nothing("No circuit of this size was evaluated.")
    which = "of the true size" if size == "true" else f"with {float(size):.3g} of the edges"
    text = {"side": "Discovery ablation", "foot": f"Evaluation ablation, circuits {which}"}
    return heat_maps(drawn, "faithfulness", "evaluation_ablation", bar="Median faithfulness", unbounded=True, **text)
