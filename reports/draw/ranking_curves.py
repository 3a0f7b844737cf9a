"""Curves of rankings, mean over programs: how many true edges are found for how many false ones (ROC), and how pure the
ranking is down to each share of the true edges (precision-recall)."""

from __future__ import annotations

from typing import Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..read.labels import ordered_ablations
from .panels import (
    FRACTION_TICKS,
    MOST_BANDS,
    corners,
    empty_figure,
    in_front,
    legend,
    legend_height,
    line_looks,
    outer,
    panels,
)
from .style import Look, across, styled, width_of

_MARGINS, _BETWEEN = 0.25, 0.35
"""Inches beside all panels, for the name of the axis, and beside each of them, for its tick labels."""

_BELOW = 0.4
"""Inches below the panels, for the tick labels and the name of the axis."""


@styled
def roc(means: pd.DataFrame) -> Figure:
    """One panel per ablation, one mean curve per method; the diagonal is chance.

    Where methods are few, each has its 95 % band over programs.

    Args:
        means: the first table of ``curves.curve_tables``.
    """
    drawn = means[means["kind"] == "roc"]
    if drawn.empty:
        return empty_figure("No scores with a known circuit: no ROC curve.")
    return _mean_curves(drawn, ("False positive rate", "True positive rate"), chance=True)


@styled
def precision_recall(means: pd.DataFrame) -> Figure:
    """One panel per ablation, one mean curve per method with its 95 % band over programs where they are few.

    Args:
        means: the first table of ``curves.curve_tables``.
    """
    drawn = means[means["kind"] == "precision-recall"]
    if drawn.empty:
        return empty_figure("No scores with a known circuit: no precision-recall curve.")
    return _mean_curves(drawn, ("Recall", "Precision"), step="pre")


def _mean_curves(
    drawn: pd.DataFrame, axes_are: tuple[str, str], *, chance: bool = False, step: Literal["pre"] | None = None
) -> Figure:
    """The panels; ``step``: how a curve goes from one point to the next, None for straight lines."""
    ablations, styles = ordered_ablations(drawn["ablation"]), line_looks(drawn, "mean")
    beside = min(across(3), len(ablations))
    # Nearly square, and as wide as the figure allows. A fixed aspect would push titles out of the figure: the layout
    # makes room for what stands above the place of a panel, and not above the smaller square within it.
    height = (width_of(len(ablations)) - _MARGINS) / beside - _BETWEEN
    below = _BELOW + legend_height(list(styles), len(ablations))
    figure, axes = panels([f"{name} ablation" for name in ablations], height, extra=below)
    drawstyle = "default" if step is None else f"steps-{step}"
    for ablation, (ax, first, bottom) in zip(ablations, outer(axes), strict=True):
        if chance:
            ax.plot([0, 1], [0, 1], color="#bbbbbb", lw=0.8, zorder=1)
        curves = in_front(ax, drawn[drawn["ablation"] == ablation], styles, "x", "mean", drawstyle=drawstyle)
        for order, (label, curve) in enumerate(curves.groupby("label", sort=False)):
            if len(styles) <= MOST_BANDS:
                band, color = corners(curve), styles[label].color
                ax.fill_between(band["x"], band["low"], band["high"], color=color, alpha=0.10, lw=0, step=step)
            _curve(ax, curve, styles[label], order, drawstyle)
        x, y = axes_are
        ax.set(xlim=(0, 1), ylim=(0, 1.0), xlabel=x if bottom else "", ylabel=y if first else "")
        ax.set_xticks(**FRACTION_TICKS)
        ax.set_yticks(**FRACTION_TICKS)
    legend(figure, styles, lines=True, markers=True)
    return figure


def _curve(ax: Axes, curve: pd.DataFrame, look: Look, order: int, drawstyle: str) -> None:
    """One method's. Curves that coincide stay visible: later ones are thinner and lie on top."""
    ax.plot(
        curve["x"],
        curve["mean"],
        color=look.color,
        ls=look.line,
        lw=max(2.2 - 0.22 * order, 0.9),
        marker=look.marker,
        ms=3.5,
        markevery=(5 + 4 * order, 25),
        drawstyle=drawstyle,
        clip_on=False,
        zorder=3 + 0.1 * order,
    )
