"""ROC curves as a paper published them: its own points, one per threshold or strength of regularisation."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure

from ..read.published import Level, PublishedCurve
from .panels import FRACTION_TICKS, empty_figure, legend, legend_height, outer, panels
from .style import looks, styled


@styled
def published_roc(curves: Sequence[PublishedCurve], level: Level = "edge") -> Figure:
    """One panel per task, objective and ablation; open markers are published points, steps the area below them."""
    if not curves:
        return empty_figure("The paper's points were not released.")
    titles = list(dict.fromkeys(map(_title, curves)))
    styles = looks(curve.method for curve in curves)
    figure, axes = panels(titles, 1.75, columns=4, extra=legend_height(list(styles), len(titles)))
    for title, (ax, left, bottom) in zip(titles, outer(axes, columns=4), strict=True):
        ax.plot([0, 1], [0, 1], color="#bbbbbb", lw=0.8, zorder=1)
        for curve in (curve for curve in curves if _title(curve) == title):
            look = styles[curve.method]
            points = np.array(sorted(point.rates(level) for point in curve.points))
            best = np.maximum.accumulate(points[:, 1])
            steps = {"color": look.color, "lw": 0.9, "ls": look.line, "drawstyle": "steps-post", "zorder": 2}
            ax.plot([0, *points[:, 0], 1], [0, *best, best[-1]], **steps)
            marker = {"marker": look.marker, "ls": "", "color": look.color, "mfc": "white", "ms": 3.2, "mew": 0.7}
            ax.plot(points[:, 0], points[:, 1], clip_on=False, zorder=3, **marker)
        ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="False positive rate" if bottom else "")
        ax.set_ylabel("True positive rate" if left else "")
        ax.set_xticks(**FRACTION_TICKS)
        ax.set_yticks(**FRACTION_TICKS)
    legend(figure, styles, lines=True, markers=True)
    return figure


def _title(curve: PublishedCurve) -> str:
    return fill(f"{curve.task}, {curve.ablation}, {curve.objective}", 22)  # what a panel of four is wide enough for
