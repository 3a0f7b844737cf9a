"""Squares with numbers in them: one thing against another, such as what two circuits have in common."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..style import COLUMN, PAGE, styled
from .beside import annotate
from .heat import SMALLEST, short
from .panels import nothing


@styled
def matrix(table: pd.DataFrame, x_label: str, y_label: str, *, bar: str, note: str = "") -> Figure:
    """One map per ``panel`` and origin: ``x`` across, ``series`` downwards, ``y`` in colour and in numbers.

    Args:
        table: columns ``panel``, ``series``, ``x``, ``y`` (0 to 1), ``origin``.
        x_label, y_label: what stands across and downwards.
        bar: what the number is.
        note: what must not be overlooked, such as another model than the paper's.
    """
    table = table[table["y"].notna()]
    if table.empty:
        return nothing("Nothing was measured, and the paper's numbers are not at hand.")
    maps = list(dict.fromkeys(zip(table["panel"], table["origin"], strict=True)))
    several = table["origin"].nunique() > 1
    tops = [list(dict.fromkeys(_of(table, key)["x"])) for key in maps]
    sides = [list(dict.fromkeys(_of(table, key)["series"])) for key in maps]
    columns = min(2, len(maps))
    rows = math.ceil(len(maps) / columns)
    width = COLUMN if len(maps) == 1 else PAGE
    name = 0.065 * max(len(str(each)) for each in (*sum(tops, []), *sum(sides, []))) + 0.15
    # Each map has its own names at its side and slanted below it.
    square = max(min((width - 0.9 - columns * name) / columns / max(map(len, tops)) - 0.02, 0.5), 0.6 * SMALLEST)
    height = rows * (square * max(map(len, sides)) + 0.75 * name + 0.35) + 0.3 + 0.2 * bool(note)
    figure = Figure(figsize=(width, height))
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for key, top, side, ax in zip(maps, tops, sides, axes, strict=False):
        values = np.full((len(side), len(top)), np.nan)
        for found in _of(table, key).itertuples():
            values[side.index(found.series), top.index(found.x)] = found.y
        image = ax.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="equal")
        for (y, x), found in np.ndenumerate(values):
            if not np.isnan(found) and square >= 0.8 * SMALLEST:
                color = "white" if found < 0.55 else "black"
                ax.text(x, y, short(found), ha="center", va="center", color=color, fontsize=min(6.5, 20 * square))
        ax.set_xticks(range(len(top)), top, rotation=45, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(len(side)), side)
        ax.tick_params(length=0)
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
        ax.set_title(", ".join(part for part in (key[0], key[1] * several) if part))
    for ax in axes[len(maps) :]:
        ax.set_visible(False)
    figure.supxlabel(x_label, fontsize=7.5)
    figure.supylabel(y_label, fontsize=7.5)
    figure.colorbar(image, ax=axes[: len(maps)], label=bar, shrink=0.8, pad=0.01, aspect=5 * height)
    annotate(figure, note)
    return figure


def _of(table: pd.DataFrame, key: tuple[str, str]) -> pd.DataFrame:
    return table[(table["panel"] == key[0]) & (table["origin"] == key[1])]
