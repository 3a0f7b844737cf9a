"""How alike the circuits of resampled prompts are, by size; and, with truth beside it, whether stable means true."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ..page.table import share_text
from ..read.labels import ordered_ablations
from ..read.stability import at_true_size
from .faithfulness import spaced
from .panels import FRACTION_TICKS, MOST_BANDS, empty_figure, in_front, legend, legend_height, line_looks, panels
from .style import Look, styled

SPREAD = 0.012
"""Dots of small models lie on each other: each is moved by so much at most, always by the same."""


@styled
def draw_stability(summary: pd.DataFrame, cells: pd.DataFrame) -> Figure:
    """A panel per kind of truth and ablation, and one in which every cell is a dot: its stability and its recovery.

    Args:
        summary: ``read.stability.stability_summary``, of one kind of resample.
        cells: ``read.stability.stability_table``, of the same.
    Curves are medians over programs of the Jaccard index of two circuits; dashed: two random circuits.
    """
    drawn = summary[summary["size"] != "true"]
    drawn = drawn.assign(share=pd.to_numeric(drawn["size"], errors="coerce"))
    if drawn.empty:
        return empty_figure("Stability was not measured at several sizes.")
    places = [
        (truth, ablation)
        for truth in sorted(drawn["truth"].unique())
        for ablation in ordered_ablations(drawn.loc[drawn["truth"] == truth, "ablation"])
    ]
    dots = at_true_size(cells).dropna(subset=["jaccard", "f1"])
    titles = [f"{truth}, {ablation}" for truth, ablation in places] + ["stable and true"] * bool(len(dots))
    styles, columns = line_looks(drawn, "jaccard"), 2 if len(titles) in (2, 4) else 3
    extra = legend_height(list(styles), len(titles)) + 0.2
    figure, axes = panels(titles, 1.7, columns=columns, extra=extra, shared=False)
    for i, (ax, (truth, ablation)) in enumerate(zip(axes, places, strict=False)):
        here = drawn[(drawn["truth"] == truth) & (drawn["ablation"] == ablation)]
        _curves(ax, here, styles)
        ax.set_ylabel("Jaccard index of two circuits" if i % columns == 0 else "")
    if len(dots):
        _dots(axes[-1], dots, styles)
    legend(figure, styles, lines=True, markers=True)
    return figure


def _curves(ax: Axes, here: pd.DataFrame, styles: dict[str, Look]) -> None:
    chance = here.groupby("share")["chance"].median()
    ax.plot(chance.index, chance, color="#888888", lw=0.8, ls=(0, (3, 2)), zorder=1)
    curves = in_front(ax, here, styles, "share", "jaccard")
    for order, (label, curve) in enumerate(curves.groupby("label", sort=False)):
        look, curve = styles[label], curve.sort_values("share")
        if len(styles) <= MOST_BANDS and curve["jaccard_low"].notna().all():
            ax.fill_between(
                curve["share"], curve["jaccard_low"], curve["jaccard_high"], color=look.color, alpha=0.1, lw=0
            )
        width = max(2.0 - 0.2 * order, 0.9)  # curves that coincide stay visible
        style = {"color": look.color, "ls": look.line, "lw": width, "marker": look.marker, "ms": 3.5}
        ax.plot(curve["share"], curve["jaccard"], **style, zorder=3 + 0.1 * order)
    ticks = spaced(sorted(set(here["share"])))
    ax.set_xscale("log")
    ax.set_xticks(ticks, [share_text(share) for share in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set(ylim=(0, 1.03), xlabel="Share of the edges")


def _dots(ax: Axes, dots: pd.DataFrame, styles: dict[str, Look]) -> None:
    moved = np.random.default_rng(0).uniform(-SPREAD, SPREAD, size=(len(dots), 2))
    dots = dots.assign(x=dots["jaccard"] + moved[:, 0], y=dots["f1"] + moved[:, 1])
    for label, group in dots.groupby("label", sort=False):
        if label in styles:
            look = styles[label]
            ax.plot(group["x"], group["y"], ls="", marker=look.marker, color=look.color, ms=3, alpha=0.7, mew=0)
    ax.set(xlabel="Jaccard index at the true size", ylabel="Recovery (F1)", xlim=(-0.03, 1.04), ylim=(-0.03, 1.04))
    ax.set_xticks(**FRACTION_TICKS)
    ax.set_yticks(**FRACTION_TICKS)
