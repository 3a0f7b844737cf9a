"""Small heat maps, one per method: what was found under one ablation (down), judged under another (across)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from ..page.table import short
from ..read.labels import ordered_ablations, ordered_labels
from .style import across, width_of

SMALLEST = 0.25
"""Side of a square in which a number can be read, inches."""

MOST_MAPS = 24
"""Methods in one figure: more fill pages, and take most of a report's time."""

TITLE = (6.5, 8.0)
"""The smallest and the largest letters of titles, points: a name too long for the smallest is shortened."""

FRAME = "#D55E00"
HATCHES = {"undefined": ("/////", "no meaning"), "no number": ("....", "no number")}
"""How squares without a value are told apart from those that were not run, which are empty."""


def heat_maps(
    table: pd.DataFrame,
    value: str,
    column: str,
    *,
    side: str,
    foot: str,
    bar: str,
    unbounded: bool = False,
    most: int = MOST_MAPS,
    written: Mapping[str, str] | None = None,
) -> Figure:
    """One heat map per label, with values from 0 to 1 in colour and in numbers.

    Args:
        table: one row per ``label``, ``ablation`` (drawn downwards) and ``column``; ``state``, where there is such a
            column, says why a value is missing.
        value: the column drawn.
        column: the column of ablations drawn across.
        side, foot, bar: the texts at the left, below, and at the colour bar.
        written: the titles of labels; the label itself where omitted.
        unbounded: values may lie outside 0 to 1; the colours do not.
    Framed squares are those where both ablations agree. Of more than ``most`` methods the best are drawn, by their
    mean in framed squares, and the figure says so.
    """
    down, over = ordered_ablations(table["ablation"]), ordered_ablations(table[column])
    labels, foot = _drawn(table, value, column, foot, most)
    width = width_of(len(labels))
    name = 0.065 * max(map(len, {*down, *over})) + 0.15  # inches of the longest tick label
    above = across(2) == 1  # where the colour bar is: there is no room for it at the right
    room = (width - name - (0.5 if above else 1.1)) / len(over) - 0.02  # inches of all the squares of a line
    columns = max(1, min(4, len(labels), int(room / SMALLEST)))
    rows = math.ceil(len(labels) / columns)
    square = min(room / columns, 0.42)
    missing = [state for state in HATCHES if "state" in table and (table["state"] == state).any()]
    # Slanted labels stand below the last row, and below the row before where the last one is not full.
    slanted = 0.75 * name * (1 + (rows > 1 and len(labels) % columns > 0))
    height = rows * (square * len(down) + 0.34) + slanted + 0.35 + 0.2 * bool(missing) + 0.6 * above
    figure = Figure(figsize=(width, height))
    axes = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    # A title starts at its map, which stands in the middle of its place, and ends before the next place.
    named = [(written or {}).get(label, label) for label in labels]
    titles, size = _titles(named, (room / columns + square) * len(over) / 2)
    image = None
    for i, (label, ax) in enumerate(zip(labels, axes, strict=False)):
        image = _map(ax, table[table["label"] == label], value, column, down, over, square)
        ax.set_title(titles[i], fontsize=size)
        ax.tick_params(length=0, labelbottom=i + columns >= len(labels))
    for ax in axes[len(labels) :]:
        ax.set_visible(False)
    if above:
        thin = {"location": "top", "aspect": 30.0}
    else:  # as thin in a tall figure as in a low one
        thin = {"location": "right", "aspect": 5 * figure.get_figheight()}
    figure.supxlabel(foot, fontsize=7.5)
    figure.supylabel(side, fontsize=7.5)
    ends = {"extend": "both", "extendfrac": 0.03} if unbounded else {}
    figure.colorbar(image, ax=axes[: len(labels)], label=bar, shrink=1 if above else 0.8, pad=0.01, **thin, **ends)
    if missing:
        _explain(figure, missing)
    return figure


def _drawn(table: pd.DataFrame, value: str, column: str, foot: str, most: int) -> tuple[list[str], str]:
    """The methods that have a map, and the text below the figure."""
    labels = ordered_labels(table["label"])
    if len(labels) <= most:
        return labels, foot
    framed = table[table["ablation"] == table[column]].groupby("label")[value].mean()
    best = framed.sort_values(ascending=False, kind="stable").index[:most]
    return ordered_labels(best), f"{foot} (the {most} best of {len(labels)} methods; the table has all)"


def _titles(labels: Sequence[str], room: float) -> tuple[list[str], float]:
    """Titles of one size that stay within ``room`` inches, and that size in points.

    The middle of a title that is too long is left out, because the settings of one method differ at the end.
    """
    letters = 72 * room / 0.6  # in letters of one point: bold ones are 0.6 times as wide as high on average
    size = min(TITLE[1], max(TITLE[0], letters / max(map(len, labels))))
    most = int(letters / size + 1e-6)
    return [
        text if len(text) <= most else f"{text[: most // 2]}…{text[len(text) - (most - 1 - most // 2) :]}"
        for text in labels
    ], size


def _map(
    ax: Axes, table: pd.DataFrame, value: str, column: str, down: Sequence[str], over: Sequence[str], square: float
):
    """Draws one method's squares and returns the image that the colour bar is of."""
    values = np.full((len(down), len(over)), np.nan)
    for found in table.to_dict("records"):
        y, x = down.index(found["ablation"]), over.index(found[column])
        values[y, x] = found[value]
        if found.get("state") in HATCHES:
            hatch = {"hatch": HATCHES[found["state"]][0], "ec": "#999999", "fill": False, "lw": 0}
            ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, **hatch))
    image = ax.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="equal")
    for (y, x), found in np.ndenumerate(values):
        if not np.isnan(found) and square >= 0.8 * SMALLEST:
            text = short(found)
            square_text(ax, x, y, text, found, min(6.5, 20 * square, 72 * square / (0.62 * len(text))))
        if down[y] == over[x]:
            ax.add_patch(Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, fill=False, ec=FRAME, lw=1.4))
    ax.set_xticks(range(len(over)), over, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(down)), down)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    return image


def _explain(figure: Figure, states: Sequence[str]) -> None:
    """A legend of the hatched squares."""
    handles = [
        Patch(fc="white", ec="#999999", hatch=HATCHES[state][0], lw=0.5, label=HATCHES[state][1]) for state in states
    ]
    figure.legend(handles=handles, loc="outside lower right", ncols=len(handles), handlelength=1.4)


def square_text(ax: Axes, x: float, y: float, text: str, value: float, size: float) -> None:
    """A number in its square, light on dark colours and dark on light ones."""
    ax.text(x, y, text, ha="center", va="center", color="white" if value < 0.55 else "black", fontsize=size)
