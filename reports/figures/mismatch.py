"""The truth mismatch: what was found under one ablation, scored against the circuit of another."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..labels import ordered_ablations, ordered_labels
from ..style import COLUMN, PAGE, styled
from .panels import nothing

SMALLEST = 0.25
"""Side of a square in which a number can be read, inches."""


@styled
def mismatch(table: pd.DataFrame, metric: str = "average_precision") -> Figure:
    """One heat map per method: discovery ablation down, the truth's ablation across, medians written in the squares.

    Args:
        table: ``tables.mismatch_table``. Framed squares are those where both ablations agree; empty ones were not run.
    """
    if table.empty or table["truth_ablation"].nunique() < 2:
        return nothing("Only one ablation has a truth: no mismatch to show.")
    found_under, truths = ordered_ablations(table["ablation"]), ordered_ablations(table["truth_ablation"])
    labels = ordered_labels(table["label"])
    width = COLUMN if len(labels) == 1 else PAGE
    name = 0.065 * max(map(len, {*truths, *found_under})) + 0.15  # inches of the longest tick label
    room = (width - name - 1.1) / len(truths) - 0.02  # inches of all the squares in one line of the figure
    across = max(1, min(4, len(labels), int(room / SMALLEST)))
    down = math.ceil(len(labels) / across)
    square = min(room / across, 0.42)
    # Slanted labels stand below the last row, and below the row before where the last one is not full.
    slanted = 0.75 * name * (1 + (down > 1 and len(labels) % across > 0))
    figure = Figure(figsize=(width, down * (square * len(found_under) + 0.34) + slanted + 0.35))
    axes = list(figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flat)
    image, size = None, min(6.5, 20 * square)
    for i, (label, ax) in enumerate(zip(labels, axes, strict=False)):
        values = np.full((len(found_under), len(truths)), np.nan)
        for row in table[table["label"] == label].itertuples():
            values[found_under.index(row.ablation), truths.index(row.truth_ablation)] = getattr(row, metric)
        image = ax.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="equal")
        for (y, x), value in np.ndenumerate(values):
            if not np.isnan(value):
                color = "white" if value < 0.55 else "black"
                ax.text(
                    x, y, f"{value:.2f}".removeprefix("0") or "0", ha="center", va="center", color=color, fontsize=size
                )
            if found_under[y] == truths[x]:
                ax.add_patch(Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, fill=False, ec="#D55E00", lw=1.4))
        ax.set_title(label)
        ax.set_xticks(range(len(truths)), truths, rotation=45, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(len(found_under)), found_under)
        ax.tick_params(length=0, labelbottom=i + across >= len(labels))
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
    for ax in axes[len(labels) :]:
        ax.set_visible(False)
    bar = {"aspect": 5 * figure.get_figheight()}  # as thin in a tall figure as in a low one
    figure.supxlabel("Ablation of the truth scored against", fontsize=7.5)
    figure.supylabel("Discovery ablation", fontsize=7.5)
    figure.colorbar(image, ax=axes[: len(labels)], label="Median average precision", shrink=0.8, pad=0.01, **bar)
    return figure
