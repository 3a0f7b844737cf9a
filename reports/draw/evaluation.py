"""Methods by ablations: how faithful circuits found under one ablation are when evaluated under another."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ..page.table import share_text
from ..read.ranking import on_fewer_tasks
from .faithfulness import axis_of
from .heat import heat_maps
from .panels import empty_figure, with_tasks
from .style import styled

MOST = 12
"""Methods drawn at most; the table has all."""


@styled
def evaluation(table: pd.DataFrame, size: str = "true") -> Figure:
    """One heat map per method: discovery ablation down, evaluation ablation across, numbers written in the squares.

    Of the methods that are ``compared``, the ``MOST`` best.

    Args:
        table: ``evaluations.faithfulness_table``. Framed squares are those where both ablations agree; hatched ones
            have no meaning or no number; empty ones were not run.
        size: the size of the circuits.
    """
    drawn = rows_of_map(table, size)
    if drawn.empty:
        return empty_figure("No circuit was evaluated under several ablations.")
    which = "of the true size" if size == "true" else f"with {share_text(float(size))} of the edges"
    written = with_tasks(drawn["label"].unique(), on_fewer_tasks(drawn))
    text = {"side": "Discovery ablation", "foot": f"Evaluation ablation, circuits {which}", "bar": axis_of(table)}
    return heat_maps(drawn, "faithfulness", "evaluation_ablation", unbounded=True, most=MOST, written=written, **text)


def rows_of_map(table: pd.DataFrame, size: str) -> pd.DataFrame:
    """The rows of one size, of methods whose circuits were evaluated under several ablations. Others fill no map."""
    rows = table[table["size"] == size]
    return rows[rows.groupby("label")["evaluation_ablation"].transform("nunique") > 1]
