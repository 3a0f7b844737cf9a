"""A paper's numbers as open markers, ours as filled ones."""

from __future__ import annotations

from textwrap import fill

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .notes import annotate
from .panels import empty_figure, legend_rows, panels
from .style import across, looks, styled, width_of

APART = 0.16
"""Half the distance of a reported number's line from ours, of the room of a series."""


@styled
def reported_beside_ours(table: pd.DataFrame, measure: str, note: str = "") -> Figure:
    """One panel per group, one line per row; series side by side in it.

    Args:
        table: ``reproduction.verdict_frame``: group, row, series, reported, ours (NaN where not run), tolerance.
        measure: what the numbers are, for the axes.
        note: a remark for the figure, such as that another model than the paper's was measured.
    """
    if table.empty:
        return empty_figure("The paper's manifest names no values.")
    groups, styles = list(dict.fromkeys(table["group"])), looks(table["series"])
    columns = 1 if len(groups) == 1 else across(2)
    labels = [*(styles if len(styles) > 1 else []), "reported (open)", "ours (filled)"]
    extra = 0.16 * legend_rows(labels, width_of(len(groups)))[1] + 0.1 + 0.2 * bool(note)
    step = 0.13 + 0.04 * min(len(styles), 4)
    rows = [table.loc[table["group"] == group, "row"].nunique() for group in groups]
    heights = [max(rows[i : i + columns]) * step + 0.3 for i in range(0, len(rows), columns)]
    figure, axes = panels(groups, heights, columns=columns, extra=extra, shared=False)
    for i, (group, ax) in enumerate(zip(groups, axes, strict=True)):
        here = table[table["group"] == group]
        rows = list(dict.fromkeys(here["row"]))
        for found in here.itertuples():
            look, series = styles[found.series], list(styles).index(found.series)
            y = rows.index(found.row) + (series - (len(styles) - 1) / 2) * 0.7 / max(len(styles), 2)
            marker = {"marker": look.marker, "ls": "", "color": look.color, "mew": 1.0, "clip_on": False}
            # The reported number is drawn a little above ours, so that both are seen when they are equal.
            above, below = y - APART / max(len(styles), 2), y + APART / max(len(styles), 2)
            if found.ours == found.ours:
                ax.plot([found.reported, found.ours], [above, below], color=look.color, lw=0.8, zorder=2)
                ax.plot(found.ours, below, ms=3.2, zorder=4, **marker)
            ax.plot(found.reported, above, ms=4.2, mfc="white", zorder=3, **marker)
        ax.set(ylim=(len(rows) - 0.4, -0.6), yticks=range(len(rows)), yticklabels=rows)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel(fill(measure, 40) if i + columns >= len(groups) else "")
    _legend(figure, styles, labels)
    annotate(figure, note)
    return figure


def _legend(figure: Figure, styles: dict, labels: list[str]) -> None:
    """The legend: series by colour and marker, and the meaning of open and filled markers."""
    one = len(styles) == 1  # a single series needs no name
    looks_of = {} if one else styles
    handles = [
        Line2D([], [], color=look.color, ls="", marker=look.marker, label=label) for label, look in looks_of.items()
    ]
    grey = {"color": "#444444", "ls": "", "marker": next(iter(styles.values())).marker if one else "o"}
    handles.append(Line2D([], [], mfc="none", ms=4.2, label=labels[-2], **grey))
    handles.append(Line2D([], [], ms=3.2, label=labels[-1], **grey))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=legend_rows(labels, figure.get_figwidth())[0],
        handletextpad=0.2,
    )
