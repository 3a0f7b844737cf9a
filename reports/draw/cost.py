"""What recovery costs: the area under the ROC curve against passes through the model, or seconds."""

from __future__ import annotations

import math
from typing import Literal

import pandas as pd
from matplotlib.figure import Figure

from ..read.labels import ORACLE, is_own, method_of, ordered_ablations
from .direct_labels import Point, name_points
from .panels import OTHERS_LOOK, counts_of, empty_figure, outer, panels
from .scales import LogScale
from .style import across, looks, styled

_AXIS = {"passes": "Passes per cell (log scale)", "seconds": "Seconds per cell (log scale)"}
HEIGHT = 1.9
_MARGIN = 0.06
"""Room around the points, as a fraction of a panel."""


@styled
def cost(aggregate: pd.DataFrame, by: Literal["passes", "seconds"] = "passes") -> Figure:
    """One panel per ablation, one marker per method: median cost of a cell against the median area, with its interval.

    The methods to which no other is at once cheaper and better, and the user's own, are named and coloured. A median
    over fewer programs than the others' is hollow.

    Args:
        aggregate: ``tables.aggregate_table`` (medians). The method that is given the answer is left out.
        by: ``passes`` counts forward and backward passes over one example alike; methods that run no model stand at 0.
    """
    drawn = aggregate[aggregate["auroc"].notna() & aggregate[by].notna()] if len(aggregate) else aggregate
    drawn = drawn[drawn["label"].map(method_of) != ORACLE] if len(drawn) else drawn
    if drawn.empty:
        return empty_figure("No cost was recorded for a scored cell.")
    ablations, styles = ordered_ablations(drawn["ablation"]), looks(drawn["label"])
    scale = LogScale(drawn[by])
    low, high = math.log(scale.zero or scale.low), math.log(scale.high)
    wide = max(high - low, 1.0)
    ends = math.exp(low - _MARGIN * wide), math.exp(high + _MARGIN * wide)
    bottom_of = max(-0.03, math.floor((drawn[["auroc", "auroc_low"]].min().min() - 0.02) * 10) / 10)
    figure, axes = panels([f"{name} ablation" for name in ablations], HEIGHT)
    beside = min(across(3), len(ablations))
    size = (72 * (figure.get_figwidth() / beside - 0.5), 72 * (HEIGHT - 0.25))
    for ablation, (ax, first, bottom) in zip(ablations, outer(axes), strict=True):
        here = drawn[drawn["ablation"] == ablation]
        here = here.assign(x=scale.place(here[by]))
        counts, most = counts_of(here, ablation)
        named = frontier(here, by) | {label for label in here["label"] if is_own(label)}
        points = []
        for found in here.sort_values("auroc", ascending=False, kind="stable").itertuples():
            told = found.label in named
            look = styles[found.label] if told else OTHERS_LOOK._replace(marker=styles[found.label].marker)
            order = 4 if told else 2
            ax.plot([found.x] * 2, [found.auroc_low, found.auroc_high], color=look.color, lw=1.0, zorder=order)
            whole = counts[found.label] == most
            face = {"mfc": look.color, "mec": "white", "mew": 0.4} if whole else {"mfc": "white", "mew": 1.0}
            dot = {"color": look.color, "ms": 6 if told else 4.5, "clip_on": False, **face}
            ax.plot(found.x, found.auroc, look.marker, **dot, zorder=order + 1)
            x = (math.log(found.x) - low + _MARGIN * wide) / (wide * (1 + 2 * _MARGIN))
            heights = (found.auroc, found.auroc_low, found.auroc_high)
            y, *span = ((height - bottom_of) / (1.03 - bottom_of) for height in heights)
            text = found.label if told else ""
            whiskers = tuple(span) if all(map(math.isfinite, span)) else None  # one program has no interval
            points.append(Point(x, y, text, look.color, is_own(found.label), whiskers))
        scale.apply(ax, "x", most=4)
        ax.set(xlim=ends, ylim=(bottom_of, 1.03), xlabel=_AXIS[by] if bottom else "")
        if bottom_of < 0.5:
            ax.axhline(0.5, color="#888888", lw=0.8, ls=(0, (3, 2)), zorder=1)
        ax.set_ylabel("Median area\nunder the ROC curve" if first else "")
        name_points(ax, points, size)
    return figure


def frontier(rows: pd.DataFrame, by: str) -> set[str]:
    """The labels to which no other is at once cheaper and better."""
    chosen, best = set(), float("-inf")
    for found in rows.sort_values([by, "auroc"], ascending=[True, False], kind="stable").itertuples():
        if found.auroc > best + 1e-9:
            chosen.add(found.label)
            best = found.auroc
    return chosen
