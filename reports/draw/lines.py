"""Lines of a paper: what it reports as open markers, ours filled, one panel a task or measure."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .notes import LACKING_ROOM, annotate, say_lacking
from .panels import empty_figure, legend_rows, panels
from .scales import LogScale
from .style import Look, across, looks, own_first, styled, width_of

ORIGINS = {"reported": "reported (open)", "ours": "ours (filled)"}
CLEAR = 0.75
"""How far lines of the paper stand back behind ours."""


@styled
def lines(
    table: pd.DataFrame,
    x_label: str,
    y_label: str,
    *,
    log: tuple[str, ...] = (),
    level: float | None = None,
    note: str = "",
    lacking: str = "",
) -> Figure:
    """One panel per ``panel``, one line per ``series`` and origin; panels of one measure have one scale.

    Args:
        table: columns ``panel``, ``series``, ``x``, ``y``, ``low``, ``high`` (NaN where there is no interval),
            ``origin`` (reported, ours).
        x_label, y_label: with units; without ``y_label`` a panel's name is its label.
        log: the axes that are logarithmic.
        level: the value at which a line is drawn across, such as the full model or chance.
        note: a remark for the figure, such as that another model than the paper's was measured.
        lacking: what is said of a panel in which nothing is ours.
    """
    table = table[table["y"].notna()]
    if table.empty:
        return empty_figure("Not run here, and no published numbers at hand.")
    titles, styles = list(dict.fromkeys(table["panel"])), looks(table["series"])
    styles = {label: styles[label] for label in own_first(styles)}
    found = [text for origin, text in ORIGINS.items() if (table["origin"] == origin).any()]
    found = found if len(found) > 1 or ORIGINS["reported"] in found else []
    labels = [*styles, *found]
    columns = 2 if len(titles) in (2, 4) else 3
    extra = 0.16 * legend_rows(labels, width_of(len(titles)))[1] + 0.1 + 0.2 * bool(note or lacking)
    ours = [bool(((table["panel"] == title) & (table["origin"] == "ours")).any()) for title in titles]
    room = LACKING_ROOM * (bool(lacking) and any(ours) and not all(ours))
    height = (2.2 if len(titles) == 1 else 1.6) + room
    figure, axes = panels(titles, height, columns=columns, extra=extra, shared=False)
    columns = across(columns)
    for i, (title, ax) in enumerate(zip(titles, axes, strict=True)):
        here = table[table["panel"] == title]
        of_axis = {name: LogScale(here[name]) for name in log}
        for name, scale in of_axis.items():
            here = here.assign(**{name: scale.place(here[name])})
        for (series, origin), curve in here.groupby(["series", "origin"], sort=False):
            # Curves that coincide stay visible: later ones are thinner and lie on top.
            order = list(styles).index(series)
            _line(ax, curve.sort_values("x", kind="stable"), styles[series], origin, order)
        if level is not None:
            ax.axhline(level, color="#888888", lw=0.8, ls=(0, (3, 2)), zorder=1)
        for name, scale in of_axis.items():
            scale.apply(ax, name)
        ax.set_xlabel(x_label if i + columns >= len(titles) else "")
        ax.set_ylabel(y_label if y_label and i % columns == 0 else "")
        if not y_label:
            ax.set_title("", loc="left")
            ax.set_ylabel(title)
    if y_label:  # one measure: one scale
        ends = [ax.get_ylim() for ax in axes]
        for ax in axes:
            ax.set_ylim(min(low for low, _ in ends), max(high for _, high in ends))
    handles = [Line2D([], [], color=s.color, ls=s.line, marker=s.marker, label=label) for label, s in styles.items()]
    for text in found:
        inside = {"mfc": "white"} if text == ORIGINS["reported"] else {}
        handles.append(Line2D([], [], color="#444444", ls="", marker="o", label=text, **inside))
    ncols = legend_rows(labels, figure.get_figwidth())[0]
    figure.legend(handles=handles, loc="outside lower center", ncols=ncols, handlelength=2.6)
    annotate(figure, note)
    say_lacking(axes, ours, lacking)
    return figure


def _line(ax: Axes, curve: pd.DataFrame, look: Look, origin: str, order: int) -> None:
    ours = origin == "ours"
    if curve["low"].notna().any():
        ax.fill_between(curve["x"], curve["low"], curve["high"], color=look.color, alpha=0.12, lw=0)
    drawn = {"color": look.color, "ls": look.line, "marker": look.marker, "ms": 3.4 if ours else 3.8}
    if ours:
        drawn |= {"lw": max(2.2 - 0.35 * order, 0.9), "zorder": 4 + 0.1 * order}
    else:
        drawn |= {"lw": 0.8, "zorder": 3, "mfc": "white", "mew": 0.8, "alpha": CLEAR}
    ax.plot(curve["x"], curve["y"], **drawn)
