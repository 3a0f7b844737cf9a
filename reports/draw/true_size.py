"""Precision and recall of the circuit that has as many edges as the true one."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..read.labels import ordered_ablations
from .panels import by_score, counts_of, empty_figure, fraction_axis, name_rows, outer, panels, rows_of
from .style import looks, styled


@styled
def true_size(aggregate: pd.DataFrame) -> Figure:
    """One panel per ablation, one row per method: precision (filled) above recall (open), medians with 95 % intervals.

    Args:
        aggregate: ``tables.aggregate_table`` (medians). Methods of the highest recall stand at the top.
    """
    drawn = aggregate[aggregate["recall"].notna()] if len(aggregate) else aggregate
    if drawn.empty:
        return empty_figure("No method was scored against a known circuit.")
    ablations, labels = ordered_ablations(drawn["ablation"]), by_score(drawn, "recall")
    styles = looks(labels)
    medians = {metric: rows_of(drawn, metric) for metric in ("precision", "recall")}
    figure, axes = panels([f"{name} ablation" for name in ablations], 0.26 * len(labels) + 0.45, extra=0.26)
    for ablation, (ax, first, bottom) in zip(ablations, outer(axes), strict=True):
        for row, label in enumerate(labels):
            look = styles[label]
            for shift, face, metric in ((-0.17, look.color, "precision"), (0.17, "white", "recall")):
                if (ablation, label) not in medians[metric]:
                    continue
                value, low, high = medians[metric][ablation, label]
                ax.plot([low, high], [row + shift] * 2, color=look.color, lw=1.0, clip_on=False, zorder=2)
                marker = {"marker": "o", "ls": "", "color": look.color, "mfc": face, "ms": 4.2, "mew": 1.0}
                ax.plot(value, row + shift, **marker, clip_on=False, zorder=3)
        name_rows(ax, labels, counts_of(drawn, ablation)[0])
        ax.tick_params(labelleft=first)
        fraction_axis(ax, float(drawn[["precision_low", "recall_low", "precision", "recall"]].min().min()))
        ax.set_xlabel("Fraction of edges, at the true size" if bottom else "")
    common = {"marker": "o", "ls": "", "color": "#444444", "ms": 4.2, "mew": 1.0}
    handles = [
        Line2D([], [], label="precision (filled)", **common),
        Line2D([], [], label="recall (open)", mfc="white", **common),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, handletextpad=0.2)
    return figure
