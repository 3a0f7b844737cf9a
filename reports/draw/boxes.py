"""Horizontal box plots: how a number spreads over templates, programs or seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from .notes import LACKING_ROOM, annotate, say_lacking
from .panels import empty_figure, legend_rows, panels
from .scales import LogScale
from .style import COLUMN, Look, across, looks, styled

_ROW = 0.2
"""Height of a box and the room around it, inches."""

FAR = 3
"""From how many times the distance of the first and last decile beyond the median a value is only an arrow."""


@styled
def boxes(
    table: pd.DataFrame,
    x_label: str,
    *,
    log: tuple[str, ...] = (),
    level: float | None = None,
    note: str = "",
    lacking: str = "",
) -> Figure:
    """One panel per ``panel``, one box per ``series``: quartiles, whiskers to 1.5 times their distance, every value.

    Args:
        table: columns ``panel``, ``series``, ``y`` (the number), ``origin``. A paper reports one number for each
            series.
        x_label: the label of the number, with its unit.
        log: contains ``x`` when the number's axis is logarithmic.
        level: the value at which a line is drawn, such as the full model or chance.
        note: a remark for the figure, such as that another model than the paper's was measured.
        lacking: what is said of a panel in which nothing is ours.
    """
    table = table[table["y"].notna()]
    if table.empty:
        return empty_figure("Not run here, and no published numbers at hand.")
    titles, styles = list(dict.fromkeys(table["panel"])), looks(table["series"])
    series = [name for name in styles if (table["series"] == name).any()]
    columns = 2 if len(titles) > 1 else 1
    reported = bool((table["origin"] == "reported").any())
    # A few values far beyond all others would compress these to a line. They are drawn as arrows at the edge.
    middle, far = table["y"].median(), max(FAR * (table["y"].quantile(0.9) - table["y"].quantile(0.1)), 1.0)
    ends = (float("-inf"), float("inf")) if log else (middle - far, middle + far)
    extra = 0.3 + 0.26 * reported + 0.2 * bool(note or lacking)
    ours = [bool(((table["panel"] == title) & (table["origin"] == "ours")).any()) for title in titles]
    room = LACKING_ROOM * (bool(lacking) and any(ours) and not all(ours))
    figure, axes = panels(titles, _ROW * len(series) + 0.25 + room, columns=columns, extra=extra, shared=True)
    columns = across(columns)
    scale = LogScale(table["y"]) if log else None
    for i, (title, ax) in enumerate(zip(titles, axes, strict=True)):
        here = table[table["panel"] == title]
        here = here.assign(y=scale.place(here["y"])) if scale else here
        for row, name in enumerate(series):
            values = here.loc[(here["series"] == name) & (here["origin"] == "ours"), "y"].to_numpy(dtype=float)
            _box(ax, np.clip(values, *ends), row, styles[name])
            for edge, marker, n in zip(ends, "<>", (np.sum(values < ends[0]), np.sum(values > ends[1])), strict=True):
                if n:
                    ax.plot(edge, row, marker, color="black", ms=5, zorder=6, clip_on=False)
            for value in here.loc[(here["series"] == name) & (here["origin"] == "reported"), "y"]:
                ax.plot(value, row, "D", mfc="white", mec="black", ms=4.5, zorder=6, clip_on=False)
        if level is not None:
            ax.axvline(level, color="#888888", lw=0.8, ls=(0, (3, 2)), zorder=1)
        ax.set(ylim=(len(series) - 0.4, -0.6), yticks=range(len(series)), yticklabels=series)
        ax.tick_params(labelbottom=i + columns >= len(titles), labelleft=i % columns == 0)
        ax.grid(axis="y", visible=False)
        if scale:
            scale.apply(ax, "x")
        ax.set_xlabel(x_label if i + columns >= len(titles) else "")
    if reported:
        handle = Line2D([], [], ls="", marker="D", mfc="white", mec="black", ms=4.5, label="reported")
        figure.legend(handles=[handle], loc="outside lower center", ncols=legend_rows(["reported"], COLUMN)[0])
    annotate(figure, note)
    say_lacking(axes, ours, lacking)
    return figure


def _box(ax: Axes, values: np.ndarray, row: int, look: Look) -> None:
    """One box at height ``row``; values are drawn in three lanes, in their order, so that equal ones show."""
    if not values.size:
        return
    low, middle, high = np.percentile(values, [25, 50, 75])
    reach = 1.5 * (high - low)
    inside = values[(values >= low - reach) & (values <= high + reach)]
    ax.plot([inside.min(), low], [row, row], color=look.color, lw=0.9, zorder=3)
    ax.plot([high, inside.max()], [row, row], color=look.color, lw=0.9, zorder=3)
    body = {"fc": look.color, "ec": look.color, "alpha": 0.25, "lw": 0.9}
    ax.add_patch(Rectangle((low, row - 0.28), high - low, 0.56, zorder=2, **body))
    ax.plot([middle, middle], [row - 0.28, row + 0.28], color=look.color, lw=1.8, zorder=5)
    lanes = row + 0.14 * (np.arange(values.size) % 3 - 1)
    ax.plot(values, lanes, look.marker, color=look.color, ms=2.2, mew=0, alpha=0.7, zorder=4, clip_on=False)
