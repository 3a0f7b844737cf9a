"""A matrix of numbers in coloured squares, such as the overlap of every pair of circuits."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..page.table import short
from .heat import square_text
from .notes import annotate
from .panels import empty_figure
from .style import across, styled, width_of

INCH = 0.062
"""Width of a letter of a name, inches."""

READABLE = 0.2
"""Side of a square in which a number can be read, inches."""


@styled
def matrix(table: pd.DataFrame, x_label: str, y_label: str, *, bar: str, note: str = "") -> Figure:
    """One map per ``panel`` and origin: ``x`` across, ``series`` downwards, ``y`` in colour and in numbers.

    Args:
        table: columns ``panel``, ``series``, ``x``, ``y`` (0 to 1), ``origin``.
        x_label, y_label: the labels across and downwards.
        bar: the meaning of the number.
        note: a remark for the figure, such as that another model than the paper's was measured.
    """
    table = table[table["y"].notna()]
    if table.empty:
        return empty_figure("Not run here, and no published numbers at hand.")
    maps = list(dict.fromkeys(zip(table["panel"], table["origin"], strict=True)))
    several = table["origin"].nunique() > 1
    # A paper's matrix and ours may have different rows and columns. Maps of one origin share their names.
    tops, sides = ([_names(table, key, name, several) for key in maps] for name in ("x", "series"))
    tops = [side if set(top) == set(side) else top for top, side in zip(tops, sides, strict=True)]
    width = width_of(len(maps))
    side_name, top_name = (INCH * max(len(str(each)) for each in sum(names, [])) + 0.2 for names in (sides, tops))
    for columns in range(across(3), 0, -1):
        room = width - 0.9 - side_name * (columns if several else 1)
        square = min(room / columns / max(map(len, tops)) - 0.02, 0.45)
        if columns <= len(maps) and square >= READABLE:
            break
    columns = min(columns, len(maps))
    rows, square = math.ceil(len(maps) / columns), max(square, 0.1)
    height = rows * (square * max(map(len, sides)) + 0.35) + 0.75 * top_name * (rows if several else 1)
    height += 0.25 * bool(x_label) + 0.2 * bool(note)
    figure = Figure(figsize=(width, height))
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for key, top, side, ax in zip(maps, tops, sides, axes, strict=False):
        values = np.full((len(side), len(top)), np.nan)
        for found in _of(table, key).itertuples():
            values[side.index(found.series), top.index(found.x)] = found.y
        image = ax.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="equal")
        for (y, x), found in np.ndenumerate(values):
            if not np.isnan(found) and square >= READABLE:
                square_text(ax, x, y, short(found), found, min(6.5, 20 * square))
        ax.set_xticks(range(len(top)), top, rotation=45, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(len(side)), side)
        place = axes.index(ax)
        left, bottom = several or place % columns == 0, several or place + columns >= len(maps)
        ax.tick_params(length=0, labelleft=left, labelbottom=bottom)
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
        ax.set_title(", ".join(part for part in (key[0], key[1] * several) if part))
    for ax in axes[len(maps) :]:
        ax.set_visible(False)
    if x_label:
        figure.supxlabel(x_label, fontsize=7.5)
    if y_label:
        figure.supylabel(y_label, fontsize=7.5)
    figure.colorbar(image, ax=axes[: len(maps)], label=bar, shrink=0.8, pad=0.01, aspect=6 * height)
    annotate(figure, note)
    return figure


def _names(table: pd.DataFrame, key: tuple[str, str], column: str, several: bool) -> list[str]:
    """The names along one side of a map: its own, or those of all maps."""
    return list(dict.fromkeys((_of(table, key) if several else table)[column]))


def _of(table: pd.DataFrame, key: tuple[str, str]) -> pd.DataFrame:
    return table[(table["panel"] == key[0]) & (table["origin"] == key[1])]
