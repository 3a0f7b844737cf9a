"""Faithfulness against circuit size: how much of the model's behaviour circuits of each size keep."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ..page.table import share_text
from ..read.labels import ordered_ablations
from ..read.ranking import on_fewer_tasks
from .panels import MOST_BANDS, empty_figure, in_front, legend, legend_height, line_looks, outer, panels, with_tasks
from .style import styled

RANGE = (-0.5, 1.5)
"""What is shown of faithfulness at most: a circuit may be far below nothing or above the model."""

BEYOND = "A triangle at the edge stands for a value beyond it."


@styled
def faithfulness(table: pd.DataFrame) -> Figure:
    """One panel per evaluation ablation, one curve per method: faithfulness of circuits of each size, of several tasks
    the median. A method that ran on fewer tasks than others has hollow markers.

    Circuits are those found under the ablation that they are evaluated with, or under the only one that there is. Where
    methods are few, each has its 95 % band over programs. The line at 1 is the full model.

    Args:
        table: ``evaluations.faithfulness_table``.
    """
    drawn = own_curves(table)
    if drawn.empty:
        return empty_figure("Circuits were not evaluated at several sizes.")
    ablations, styles = ordered_ablations(drawn["evaluation_ablation"]), line_looks(drawn, "faithfulness")
    written = with_tasks(styles, fewer := on_fewer_tasks(drawn))
    height = 2.2 if len(ablations) == 1 else 1.7
    titles = [f"{name} ablation" for name in ablations]
    figure, axes = panels(titles, height, extra=legend_height(list(written.values()), len(ablations)))
    ends = drawn[
        ["faithfulness", "faithfulness_low", "faithfulness_high"] if len(styles) <= MOST_BANDS else ["faithfulness"]
    ]
    # A little more than the ends, so that a marker there is whole.
    low, high = max(min(ends.min().min() - 0.03, -0.02), RANGE[0]), min(max(ends.max().max(), 1.05), RANGE[1])
    ticks = spaced(sorted(set(drawn["share"])))
    for ablation, (ax, first, bottom) in zip(ablations, outer(axes), strict=True):
        ax.axhline(1, color="#888888", lw=0.8, ls=(0, (3, 2)), zorder=1)
        curves = in_front(ax, drawn[drawn["evaluation_ablation"] == ablation], styles, "share", "faithfulness")
        for order, (label, curve) in enumerate(curves.groupby("label", sort=False)):
            look, curve = styles[label], curve.sort_values("share")
            if len(styles) <= MOST_BANDS:
                ends = curve["faithfulness_low"], curve["faithfulness_high"]
                ax.fill_between(curve["share"], *ends, color=look.color, alpha=0.12, lw=0)
            width = max(2.0 - 0.2 * order, 0.9)  # curves that coincide stay visible
            style = {"color": look.color, "ls": look.line, "lw": width, "marker": look.marker, "ms": 3.5}
            style |= {"mfc": "white"} if label in fewer else {}
            ax.plot(curve["share"], curve["faithfulness"], **style, zorder=3 + 0.1 * order)
            for outside, edge, marker in (
                (curve["faithfulness"] < low, low, "v"),
                (curve["faithfulness"] > high, high, "^"),
            ):
                if outside.any():
                    arrow = {"color": look.color, "marker": marker, "ms": 5, "ls": "", "clip_on": False, "zorder": 5}
                    ax.plot(curve.loc[outside, "share"], np.full(int(outside.sum()), edge), **arrow)
        ax.set_xscale("log")
        ax.set_xticks(ticks, [share_text(share) for share in ticks])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set(ylim=(low, high), xlabel="Share of the edges (log scale)" if bottom else "")
        ax.set_ylabel(axis_of(table) if first else "")
    legend(figure, styles, lines=True, markers=True, written=written, hollow=fewer)
    return figure


def axis_of(table: pd.DataFrame) -> str:
    """What is drawn: ``Median faithfulness``, or of one task ``Faithfulness``."""
    return "Faithfulness" if table["n_programs"].max() == 1 else "Median faithfulness"


def spaced(shares: list[float], most: int = 5) -> list[float]:
    """The evaluated sizes whose labels fit side by side on a logarithmic axis, chosen from the largest downwards."""
    step, chosen = math.log(shares[-1] / shares[0]) / most, [shares[-1]]
    for share in reversed(shares):
        chosen += [share] if math.log(chosen[-1] / share) > step else []
    return chosen[::-1]


def own_curves(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that make curves: two or more fractions as sizes, found and evaluated under one ablation.

    Circuits that were found under a single ablation are compared under every evaluation ablation.
    """
    fractions = table[table["share"].notna() & table["faithfulness"].notna()]
    if fractions["share"].nunique() < 2:
        return fractions[:0]
    if fractions["ablation"].nunique() == 1:
        return fractions
    return fractions[fractions["ablation"] == fractions["evaluation_ablation"]]
