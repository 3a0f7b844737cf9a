"""A paper's numbers as open markers, ours as filled ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from textwrap import fill

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .notes import LACKING_ROOM, annotate, say_lacking
from .panels import empty_figure, legend_rows, panels
from .style import across, looks, styled, width_of

OPEN, FILLED = 6.8, 3.4
"""Sizes of the markers, points: what is reported goes around ours, so that both are seen when they are equal."""


@styled
def reported_beside_ours(table: pd.DataFrame, measure: str, note: str = "", lacking: str = "") -> Figure:
    """One panel per group, one line per row; series side by side in it. Panels that have something of ours come first.

    Panels of one quantity have one scale, so that what is further to the right is more in all of them.

    Args:
        table: ``reproduction.verdict_frame``: group, row, series, reported, ours (NaN where not run), tolerance,
            quantity, unit.
        measure: what the numbers are, for the axes.
        note: a remark for a figure with numbers of ours, such as that another model than the paper's was measured.
        lacking: what is said of a panel that has none.
    """
    if table.empty:
        return empty_figure("The paper's manifest names no values.")
    has = table["ours"].notna().groupby(table["group"]).any()
    groups = sorted(dict.fromkeys(table["group"]), key=lambda group: not has[group])
    ours, styles = [bool(has[group]) for group in groups], looks(table["series"])
    columns = 1 if len(groups) == 1 else across(2)
    labels = [*(styles if len(styles) > 1 else []), "reported (open)", "ours (filled)"]
    note = note if any(ours) else ""
    room = LACKING_ROOM * (bool(lacking) and any(ours) and not all(ours))
    extra = 0.16 * legend_rows(labels, width_of(len(groups)))[1] + 0.1 + 0.2 * bool(note or lacking)
    label = fill(measure, 40)
    room += 0.12 * (label.count("\n") + 1)
    of_group = {group: table[table["group"] == group] for group in groups}
    lanes = {group: [name for name in styles if name in set(here["series"])] for group, here in of_group.items()}
    needed = [here["row"].nunique() * (0.12 + 0.085 * len(lanes[group])) for group, here in of_group.items()]
    heights = [max(needed[i : i + columns]) + 0.3 + room for i in range(0, len(needed), columns)]
    figure, axes = panels(groups, heights, columns=columns, extra=extra, shared=False)
    for group, ax in zip(groups, axes, strict=True):
        here, names = of_group[group], lanes[group]
        rows = list(dict.fromkeys(here["row"]))
        for found in here.itertuples():
            look, lane = styles[found.series], names.index(found.series)
            y = rows.index(found.row) + (lane - (len(names) - 1) / 2) * 0.75 / max(len(names), 2)
            marker = {"marker": look.marker, "ls": "", "color": look.color, "clip_on": False}
            if found.ours == found.ours:
                ax.plot([found.reported, found.ours], [y, y], color=look.color, lw=0.8, zorder=2)
                ax.plot(found.ours, y, ms=FILLED, mew=0, zorder=4, **marker)
            ax.plot(found.reported, y, ms=OPEN, mew=0.8, mfc="white", zorder=3, **marker)
        ax.set(ylim=(len(rows) - 0.4, -0.6), yticks=range(len(rows)), yticklabels=rows)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel(label)
    _one_scale(groups, axes, {group: _quantity(here) for group, here in of_group.items()})
    _legend(figure, styles, labels)
    annotate(figure, note)
    say_lacking(axes, ours, lacking)
    return figure


def _quantity(here: pd.DataFrame) -> tuple[str, ...]:
    """What the numbers of a panel are: their units, and their quantities without what is said of them."""
    return tuple(sorted({*here["unit"], *(re.split("[:;,]", text)[0] for text in here["quantity"])}))


def _one_scale(groups: Sequence[str], axes: Sequence[Axes], quantities: Mapping[str, tuple[str, ...]]) -> None:
    """Gives the panels of one quantity the limits that hold all of their numbers."""
    for quantity in set(quantities.values()):
        same = [ax for group, ax in zip(groups, axes, strict=True) if quantities[group] == quantity]
        ends = [ax.get_xlim() for ax in same]
        for ax in same:
            ax.set_xlim(min(low for low, _ in ends), max(high for _, high in ends))


def _legend(figure: Figure, styles: dict, labels: list[str]) -> None:
    """The legend: series by colour and marker, and the meaning of open and filled markers."""
    one = len(styles) == 1  # a single series needs no name
    looks_of = {} if one else styles
    handles = [
        Line2D([], [], color=look.color, ls="", marker=look.marker, label=label) for label, look in looks_of.items()
    ]
    grey = {"color": "#444444", "ls": "", "marker": next(iter(styles.values())).marker if one else "o"}
    handles.append(Line2D([], [], mfc="none", mew=0.8, ms=OPEN, label=labels[-2], **grey))
    handles.append(Line2D([], [], mew=0, ms=FILLED, label=labels[-1], **grey))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=legend_rows(labels, figure.get_figwidth())[0],
        handletextpad=0.2,
    )
