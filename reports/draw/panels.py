"""Small multiples: one panel per ablation, one legend underneath, and a figure that says there is nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..read.labels import BASELINES, method_of, ordered_labels
from .style import COLUMN, PAGE, Look, looks

TOP = 0.3
"""Room for a panel's title, inches."""

MOST_BANDS = 8
"""Methods up to which a band is drawn around each curve: more are one grey."""

MOST_LINES = 14
"""Methods up to which every curve is told apart; of more only the ``LEADING`` best are, and the others are grey."""

LEADING = 8
OTHERS = Look("#c4c4c4", "", "-")

FRACTION_TICKS = {"ticks": [0, 0.25, 0.5, 0.75, 1], "labels": ["0", ".25", ".5", ".75", "1"]}
"""Short labels: those of neighbouring panels meet otherwise."""


def panels(
    titles: Sequence[str], height: float | Sequence[float], *, columns: int = 3, extra: float = 0.0, shared: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure with one panel per title, its axes shared.

    Args:
        height: of one panel, inches, or of each row of panels. A single panel is as wide as a column of a paper,
            several fill the page's width.
        extra: inches added below for a legend.
        shared: whether the panels share their axes.
    """
    across = min(columns, len(titles))
    down = math.ceil(len(titles) / across)
    heights = [height] * down if isinstance(height, (int, float)) else list(height)
    figure = Figure(figsize=(COLUMN if len(titles) == 1 else PAGE, sum(heights) + down * TOP + extra))
    ratios = {"height_ratios": heights}
    grid = figure.subplots(down, across, sharex=shared, sharey=shared, squeeze=False, gridspec_kw=ratios)
    axes = list(grid.flat)
    for ax, title in zip(axes, titles, strict=False):
        ax.set_title(title)
    for ax in axes[len(titles) :]:
        ax.set_visible(False)
    return figure, axes[: len(titles)]


def outer(axes: Sequence[Axes], columns: int = 3) -> Iterator[tuple[Axes, bool, bool]]:
    """(panel, is it in the first column, has it no panel below) for axis labels that are written once."""
    across = min(columns, len(axes))
    for i, ax in enumerate(axes):
        bottom = i + across >= len(axes)
        ax.tick_params(labelbottom=bottom)
        yield ax, i % across == 0, bottom


def leading(curves: pd.DataFrame, value: str) -> list[str]:
    """The labels whose curves are told apart: all, or those of the methods that are the highest on average.

    Args:
        curves: has columns ``label`` and ``value``. Baselines never lead: what is given the answer always would.
    """
    labels = ordered_labels(curves["label"])
    if len(labels) <= MOST_LINES:
        return labels
    heights = curves.groupby("label")[value].mean().round(9)
    rivals = [label for label in labels if method_of(label) not in BASELINES]
    return ordered_labels(sorted(rivals, key=lambda label: -heights[label])[:LEADING])


def line_looks(curves: pd.DataFrame, value: str) -> dict[str, Look]:
    """A look for each of the ``leading`` labels, and one for all others together; what a legend lists."""
    labels, chosen = ordered_labels(curves["label"]), leading(curves, value)
    of_all = looks(labels)
    others = {f"the other {len(labels) - len(chosen)} methods": OTHERS} if len(chosen) < len(labels) else {}
    return {label: of_all[label] for label in chosen} | others


def in_front(ax: Axes, curves: pd.DataFrame, styles: dict[str, Look], x: str, y: str, **line: str) -> pd.DataFrame:
    """Draws the curves that have no look of their own in grey, and returns the others."""
    behind = ~curves["label"].isin(styles)
    for _, curve in curves[behind].groupby("label", sort=False):
        curve = curve.sort_values(x, kind="stable")
        ax.plot(curve[x], curve[y], color=OTHERS.color, lw=0.7, zorder=1.5, **line)
    return curves[~behind]


def legend_rows(labels: Sequence[str], width: float) -> tuple[int, int]:
    """(columns, rows) of a legend below a figure ``width`` inches wide."""
    longest = max(map(len, labels), default=0)
    rows = math.ceil(len(labels) / max(1, int(width / (0.6 + 0.06 * longest))))
    return math.ceil(len(labels) / rows), rows


def legend_height(labels: Sequence[str], n_panels: int) -> float:
    """Inches a legend of ``labels`` takes below a figure of ``n_panels`` panels."""
    return 0.16 * legend_rows(labels, COLUMN if n_panels == 1 else PAGE)[1] + 0.1


def legend(figure: Figure, styles: dict[str, Look], *, lines: bool, markers: bool) -> None:
    """The legend of methods below the panels."""
    handles = [
        Line2D(
            [], [], color=look.color, ls=look.line if lines else "", marker=look.marker if markers else "", label=label
        )
        for label, look in styles.items()
    ]
    columns, _ = legend_rows(list(styles), figure.get_figwidth())
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=2.8 if lines else 1.2)


def rows_of(aggregate: pd.DataFrame, metric: str) -> dict[tuple[str, str], tuple[float, float, float]]:
    """(ablation, label) -> the metric and the ends of its interval, of ``tables.aggregate_table``."""
    ends = zip(*(aggregate[f"{metric}{end}"] for end in ("", "_low", "_high")), strict=True)
    return dict(zip(zip(aggregate["ablation"], aggregate["label"], strict=True), ends, strict=True))


def corners(curve: pd.DataFrame) -> pd.DataFrame:
    """The rows of a band (x, low, high) at which it changes: a tenth of the points, and the same drawing."""
    ends = curve[["low", "high"]]
    changes = (ends != ends.shift()).any(axis=1) | (ends != ends.shift(-1)).any(axis=1)
    return curve[changes]


def has_bands(curves: pd.DataFrame, low: str = "low", high: str = "high") -> bool:
    """Whether a figure of these curves shows bands: methods are few, and some interval is more than a line."""
    return curves["label"].nunique() <= MOST_BANDS and bool((curves[high] - curves[low] > 1e-9).any())


def nothing(reason: str) -> Figure:
    """A figure that says why it is empty."""
    figure = Figure(figsize=(COLUMN, 0.8), layout="none")
    figure.text(0.5, 0.5, reason, ha="center", va="center", color="#444444")
    return figure
