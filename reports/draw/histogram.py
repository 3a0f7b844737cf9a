"""A histogram of shares, such as the overlap of two runs of a method with different seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .notes import annotate
from .panels import FRACTION_TICKS, empty_figure, legend, legend_height, panels
from .style import looks, styled

BINS = np.linspace(0, 1, 21)


@styled
def histogram(table: pd.DataFrame, x_label: str, y_label: str, *, note: str = "") -> Figure:
    """One panel per ``panel``, one outline per ``series``: shares from 0 to 1 in twenty steps.

    Args:
        table: columns ``panel``, ``series``, ``x`` (0 to 1).
        x_label, y_label: what the share is, and what is counted.
        note: a remark for the figure, such as that another model than the paper's was measured.
    A tick below the axis marks each series' median.
    """
    table = table[table["x"].notna()]
    if table.empty:
        return empty_figure("Not run here, and no published numbers at hand.")
    titles, styles = list(dict.fromkeys(table["panel"])), looks(table["series"])
    extra = legend_height(list(styles), len(titles)) + 0.2 * bool(note)
    figure, axes = panels(titles, 1.7, extra=extra)
    for i, (title, ax) in enumerate(zip(titles, axes, strict=True)):
        for series, values in table[table["panel"] == title].groupby("series", sort=False)["x"]:
            look = styles[series]
            counts, _ = np.histogram(values, BINS)
            ax.stairs(counts, BINS, color=look.color, lw=1.2, ls=look.line, fill=False, zorder=3)
            ax.stairs(counts, BINS, color=look.color, alpha=0.15, fill=True, zorder=2)
            ax.plot(values.median(), 0, look.marker, color=look.color, ms=5, clip_on=False, zorder=4)
        ax.set(xlim=(0, 1), xlabel=x_label, ylabel=y_label if i == 0 else "")
        ax.set_ylim(bottom=0)
        ax.set_xticks(**FRACTION_TICKS)
    legend(figure, styles, lines=True, markers=True)
    annotate(figure, note)
    return figure
