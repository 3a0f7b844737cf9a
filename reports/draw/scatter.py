"""One score against another, edge by edge: how well an approximation predicts the effect of cutting an edge."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..page.table import number
from .notes import annotate
from .panels import empty_figure, legend, legend_height, panels
from .style import across, looks, styled


@styled
def scatter(table: pd.DataFrame, x_label: str, y_label: str, *, note: str = "") -> Figure:
    """One panel per ``panel``, one dot an edge; the diagonal is where both are equal.

    Args:
        table: columns ``panel``, ``series``, ``x``, ``y``.
        x_label, y_label: with units.
        note: a remark for the figure, such as that another model than the paper's was measured.
    Pearson's r and the slope of the least-squares line stand in each panel, for each series.
    """
    table = table[table["x"].notna() & table["y"].notna()]
    if table.empty:
        return empty_figure("No method was run beside exact patching.")
    titles, styles = list(dict.fromkeys(table["panel"])), looks(table["series"])
    columns = 2 if len(titles) in (2, 4) else 3
    extra = legend_height(list(styles), len(titles)) + 0.2 * bool(note)
    figure, axes = panels(titles, 2.1, columns=columns, extra=extra, shared=False)
    columns = across(columns)
    for i, (title, ax) in enumerate(zip(titles, axes, strict=True)):
        here = table[table["panel"] == title]
        ends = float(here["x"].min()), float(here["x"].max())
        ax.plot(ends, ends, color="#888888", lw=0.8, ls=(0, (3, 2)), zorder=1)
        told = []
        for series, dots in here.groupby("series", sort=False):
            look = styles[series]
            mark = {"color": look.color, "ls": "", "marker": look.marker, "ms": 3, "mew": 0.6, "mfc": "none"}
            ax.plot(dots["x"], dots["y"], **mark, alpha=0.8, zorder=3)
            if np.ptp(dots["x"]) > 0 and np.ptp(dots["y"]) > 0:
                slope, start = np.polyfit(dots["x"], dots["y"], 1)
                line = {"color": look.color, "lw": 0.9, "ls": look.line}
                ax.plot(ends, [start + slope * end for end in ends], zorder=2, **line)
                told.append(f"{series}: r = {number(np.corrcoef(dots['x'], dots['y'])[0, 1])}, slope {number(slope)}")
        paper = {"fc": "white", "ec": "none", "alpha": 0.8, "pad": 1.0}
        place = {"transform": ax.transAxes, "ha": "left", "va": "top", "fontsize": 6.5, "bbox": paper, "zorder": 5}
        ax.text(0.03, 0.98, "\n".join(told), **place)
        ax.margins(y=0.12 + 0.06 * len(told))  # room for the text
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(5))
        ax.set_xlabel(x_label if i + columns >= len(titles) else "")
        ax.set_ylabel(y_label if i % columns == 0 else "")
    legend(figure, styles, lines=True, markers=True)
    annotate(figure, note)
    return figure
