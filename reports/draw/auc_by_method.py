"""The area under the ROC curve by method and ablation: every program, the median, and its interval."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..read.labels import ordered_ablations
from .panels import by_score, counts_of, empty_figure, fraction_axis, name_rows, outer, panels, rows_of
from .style import looks, styled


@styled
def auc_by_method(recovery: pd.DataFrame, aggregate: pd.DataFrame) -> Figure:
    """One panel per ablation, one row per method: a faint dot per program, the median with its 95 % interval.

    The best methods stand at the top; a median over fewer programs than the others' is hollow.

    Args:
        recovery: ``tables.recovery_table``.
        aggregate: ``tables.aggregate_table`` (medians).
    """
    own = recovery[recovery["own"].astype(bool) & recovery["auroc"].notna()]
    if own.empty:
        return empty_figure("No method was scored against a known circuit.")
    drawn = aggregate[aggregate["auroc"].notna()]
    ablations, labels = ordered_ablations(own["ablation"]), by_score(drawn)
    styles = looks(labels)
    programs = own.groupby(["ablation", "label", "program"])["auroc"].mean()
    medians = rows_of(aggregate, "auroc")
    figure, axes = panels([f"{name} ablation" for name in ablations], 0.2 * len(labels) + 0.45)
    for ablation, (ax, first, bottom) in zip(ablations, outer(axes), strict=True):
        counts, most = counts_of(drawn, ablation)
        for row, label in enumerate(labels):
            look = styles[label]
            dots = programs.loc[ablation, label] if (ablation, label) in programs.index else programs[:0]
            # Dots at the same value are spread over the row, always in the same way.
            spread = np.linspace(-0.25, 0.25, len(dots)) if len(dots) != 1 else np.zeros(1)
            ax.scatter(dots, row + spread, s=7, color=look.color, alpha=0.35, lw=0, clip_on=False, zorder=2)
            if label in counts:
                median, low, high = medians[ablation, label]
                ax.plot([low, high], [row, row], color=look.color, lw=1.6, clip_on=False, zorder=3)
                whole = counts[label] == most
                face = {"mfc": look.color, "mec": "white", "mew": 0.5} if whole else {"mfc": "white", "mew": 1.1}
                ax.plot(median, row, look.marker, color=look.color, **face, ms=6, clip_on=False, zorder=4)
        name_rows(ax, labels, counts)
        ax.tick_params(labelleft=first)
        fraction_axis(ax, float(programs.min()))
        if ax.get_xlim()[0] < 0.5:
            ax.axvline(0.5, color="#888888", lw=0.8, ls=(0, (3, 2)), zorder=1)
        ax.set_xlabel("Area under the ROC curve" if bottom else "")
    return figure
