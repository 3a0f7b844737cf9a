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

COLUMNS = 4


@styled
def mismatch(table: pd.DataFrame, metric: str = "auroc") -> Figure:
    """One heat map per method: discovery ablation down, the truth's ablation across, medians written in the squares.

    Args:
        table: ``tables.mismatch_table``. Framed squares are those where both ablations agree; empty ones were not run.
    """
    if table.empty or table["truth_ablation"].nunique() < 2:
        return nothing("Only one ablation has a truth: no mismatch to show.")
    found_under, truths = ordered_ablations(table["ablation"]), ordered_ablations(table["truth_ablation"])
    labels = ordered_labels(table["label"])
    across = min(COLUMNS, len(labels))
    down = math.ceil(len(labels) / across)
    width = COLUMN if len(labels) == 1 else PAGE
    square = min((width - 1.0) / across / len(truths) - 0.06, 0.42)
    figure = Figure(figsize=(width, down * (square * len(found_under) + 0.32) + 0.95))
    axes = list(figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flat)
    image = None
    for i, (label, ax) in enumerate(zip(labels, axes, strict=False)):
        values = np.full((len(found_under), len(truths)), np.nan)
        for row in table[table["label"] == label].itertuples():
            values[found_under.index(row.ablation), truths.index(row.truth_ablation)] = getattr(row, metric)
        image = ax.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="equal")
        for (y, x), value in np.ndenumerate(values):
            if not np.isnan(value):
                color = "white" if value < 0.55 else "black"
                ax.text(x, y, f"{value:.2f}".removeprefix("0") or "0", ha="center", va="center", color=color, fontsize=6.5)
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
    figure.supxlabel("Ablation of the truth scored against", fontsize=7.5)
    figure.supylabel("Discovery ablation", fontsize=7.5)
    figure.colorbar(image, ax=axes[: len(labels)], label="Median area under the ROC curve", shrink=0.8, aspect=18, pad=0.01)
    return figure
