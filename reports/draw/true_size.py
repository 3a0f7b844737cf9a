"""Precision and recall of the circuit that has as many edges as the true one."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..read.labels import ordered_ablations
from .panels import by_score, counts_of, empty_figure, fraction_axis, name_rows, outer, panels, rows_of
from .style import looks, styled

_MARKERS = {"precision": (-0.17, {"marker": "o", "ms": 4.2}), "recall": (0.17, {"marker": "D", "ms": 3.6})}
"""How far below the middle of its row each is drawn, and as what."""

_LINE = {"ls": "", "mew": 1.0}


@styled
def true_size(aggregate: pd.DataFrame) -> Figure:
    """One panel per ablation, one row per method: precision above recall, medians with 95 % intervals.

    A median over fewer programs than others is hollow: a circuit without edges has no precision.

    Args:
        aggregate: ``tables.aggregate_table`` (medians). Methods of the highest recall stand at the top.
    """
    drawn = aggregate[aggregate["recall"].notna()] if len(aggregate) else aggregate
    if drawn.empty:
        return empty_figure("No method was scored against a known circuit.")
    ablations, labels = ordered_ablations(drawn["ablation"]), by_score(drawn, "recall")
    styles = looks(labels)
    medians = {metric: rows_of(drawn, metric) for metric in _MARKERS}
    keys = list(zip(drawn["ablation"], drawn["label"], strict=True))
    defined = {metric: dict(zip(keys, drawn[f"{metric}_n"], strict=True)) for metric in _MARKERS}
    any_hollow = False
    figure, axes = panels([f"{name} ablation" for name in ablations], 0.26 * len(labels) + 0.45, extra=0.26)
    for ablation, (ax, first, bottom) in zip(ablations, outer(axes), strict=True):
        counts, most = counts_of(drawn, ablation)
        for row, label in enumerate(labels):
            color = styles[label].color
            for metric, (shift, shape) in _MARKERS.items():
                if (ablation, label) not in medians[metric]:
                    continue
                value, low, high = medians[metric][ablation, label]
                ax.plot([low, high], [row + shift] * 2, color=color, lw=1.0, clip_on=False, zorder=2)
                hollow = defined[metric][ablation, label] < most
                any_hollow |= hollow
                face = "white" if hollow else color
                ax.plot(value, row + shift, color=color, mfc=face, **shape, **_LINE, clip_on=False, zorder=3)
        name_rows(ax, labels, counts)
        ax.tick_params(labelleft=first)
        fraction_axis(ax, float(drawn[["precision_low", "recall_low", "precision", "recall"]].min().min()))
        ax.set_xlabel("Fraction of edges, at the true size" if bottom else "")
    grey = {"color": "#444444", **_LINE}
    handles = [Line2D([], [], label=metric, **shape, **grey) for metric, (_, shape) in _MARKERS.items()]
    if any_hollow:
        handles.append(Line2D([], [], label="over fewer programs", mfc="white", **_MARKERS["precision"][1], **grey))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, handletextpad=0.2)
    return figure
