"""What recovery costs: the area under the ROC curve against passes through the model, or seconds."""

from __future__ import annotations

from typing import Literal

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from ..read.labels import ordered_ablations
from .panels import legend, legend_height, nothing, outer, panels
from .style import looks, styled

_AXIS = {"passes": "Passes a cell (log scale)", "seconds": "Seconds a cell (log scale)"}


@styled
def cost(aggregate: pd.DataFrame, by: Literal["passes", "seconds"] = "passes") -> Figure:
    """One panel per ablation, one marker per method: median cost of a cell against the median area, with its interval.

    Args:
        aggregate: ``tables.aggregate_table`` (medians).
        by: ``passes`` counts forward and backward passes over one example alike; methods that run no model (cost 0) are
            drawn at the left edge.
    """
    drawn = aggregate[aggregate["auroc"].notna() & aggregate[by].notna()] if len(aggregate) else aggregate
    if drawn.empty:
        return nothing("No cost was recorded for a scored cell.")
    ablations, styles = ordered_ablations(drawn["ablation"]), looks(drawn["label"])
    height = 2.2 if len(ablations) == 1 else 1.8
    figure, axes = panels(
        [f"{name} ablation" for name in ablations], height, extra=legend_height(list(styles), len(ablations))
    )
    columns = ["label", by, "auroc", "auroc_low", "auroc_high"]
    positive = drawn.loc[drawn[by] > 0, by]
    left = positive.min() / 3 if len(positive) else 1.0
    for ablation, (ax, first, bottom) in zip(ablations, outer(axes), strict=True):
        ax.axhline(0.5, color="#888888", lw=0.8, ls=(0, (3, 2)), zorder=1)
        for found in drawn.loc[drawn["ablation"] == ablation, columns].itertuples():
            look, x = styles[found.label], getattr(found, by) or left
            ax.plot([x, x], [found.auroc_low, found.auroc_high], color=look.color, lw=1.2, zorder=2)
            ax.plot(
                x, found.auroc, look.marker, color=look.color, mec="white", mew=0.4, ms=6.5, clip_on=False, zorder=3
            )
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(numticks=5))
        ax.xaxis.set_major_formatter(FuncFormatter(_short))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set(ylim=(0, 1.03), xlabel=_AXIS[by] if bottom else "")
        ax.set_ylabel("Median area\nunder the ROC curve" if first else "")
    legend(figure, styles, lines=False, markers=True)
    return figure


def _short(value: float, _position: int) -> str:
    """1000 as 1k: short, and no formula in it."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
