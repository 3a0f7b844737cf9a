"""Precision-recall curves: how pure the ranking is down to each share of the true edges, mean over programs."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from ..read.labels import ordered_ablations
from .panels import (
    FRACTION_TICKS,
    MOST_BANDS,
    corners,
    in_front,
    legend,
    legend_height,
    line_looks,
    nothing,
    outer,
    panels,
)
from .style import styled


@styled
def precision_recall(means: pd.DataFrame) -> Figure:
    """One panel per ablation, one mean curve per method with its 95 % band over programs where they are few.

    Args:
        means: the first table of ``curves.curve_tables``.
    """
    drawn = means[means["kind"] == "precision-recall"]
    if drawn.empty:
        return nothing("No scores with a known circuit: no precision-recall curve.")
    ablations, styles = ordered_ablations(drawn["ablation"]), line_looks(drawn, "mean")
    height = 2.6 if len(ablations) == 1 else 2.0
    figure, axes = panels(
        [f"{name} ablation" for name in ablations], height, extra=legend_height(list(styles), len(ablations))
    )
    for ablation, (ax, first, bottom) in zip(ablations, outer(axes), strict=True):
        here = drawn[drawn["ablation"] == ablation]
        curves = in_front(ax, here, styles, "x", "mean", drawstyle="steps-pre")
        for order, (label, curve) in enumerate(curves.groupby("label", sort=False)):
            look = styles[label]
            if len(styles) <= MOST_BANDS:
                band = corners(curve)
                ax.fill_between(band["x"], band["low"], band["high"], color=look.color, alpha=0.10, lw=0, step="pre")
            width = max(2.2 - 0.22 * order, 0.9)
            style: dict[str, Any] = {
                "color": look.color,
                "ls": look.line,
                "lw": width,
                "marker": look.marker,
                "ms": 3.5,
            }
            style |= {
                "marker": look.marker,
                "markevery": (5 + 4 * order, 25),
                "drawstyle": "steps-pre",
                "zorder": 3 + 0.1 * order,
            }
            ax.plot(curve["x"], curve["mean"], **style, clip_on=False)
        ax.set(xlim=(0, 1), ylim=(0, 1.0), xlabel="Recall" if bottom else "", ylabel="Precision" if first else "")
        ax.set_xticks(**FRACTION_TICKS)
        ax.set_yticks(**FRACTION_TICKS)
        ax.set_aspect("equal")
    legend(figure, styles, lines=True, markers=True)
    return figure
