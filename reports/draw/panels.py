"""Small multiples: one panel per ablation, one legend underneath, and a figure that says there is nothing."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..read.labels import BASELINES, ORACLE, is_own, method_of, ordered_labels
from .style import COLUMN, Look, across, looks, own_first, width_of

TOP = 0.3
"""Room for a panel's title, inches."""

MOST_BANDS = 8
"""Methods up to which a band is drawn around each curve: more are one grey."""

MOST_LINES = 14
"""Methods up to which every curve is told apart; of more only your own and the ``LEADING`` best others are."""

LEADING = 8
OTHERS_LOOK = Look("#c4c4c4", "", "-")

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
    beside = min(across(columns), len(titles))
    down = math.ceil(len(titles) / beside)
    heights = [height] * down if isinstance(height, (int, float)) else list(height)
    if len(heights) < down:  # fewer stand side by side than the caller thought
        heights = [heights[i // math.ceil(len(titles) / len(heights))] for i in range(down)]
    figure = Figure(figsize=(width_of(len(titles)), sum(heights) + down * TOP + extra))
    ratios = {"height_ratios": heights}
    grid = figure.subplots(down, beside, sharex=shared, sharey=shared, squeeze=False, gridspec_kw=ratios)
    axes = list(grid.flat)
    for ax, title in zip(axes, titles, strict=False):
        ax.set_title(title)
    for ax in axes[len(titles) :]:
        ax.set_visible(False)
    return figure, axes[: len(titles)]


def outer(axes: Sequence[Axes], columns: int = 3) -> Iterator[tuple[Axes, bool, bool]]:
    """(panel, whether it is in the first column, whether it is the lowest), for axis labels written once."""
    beside = min(across(columns), len(axes))
    for i, ax in enumerate(axes):
        bottom = i + beside >= len(axes)
        ax.tick_params(labelbottom=bottom)
        yield ax, i % beside == 0, bottom


def leading(curves: pd.DataFrame, value: str) -> list[str]:
    """The labels whose curves are told apart: all, or your own methods and the ``LEADING`` others that are the highest
    on average.

    Args:
        curves: has columns ``label`` and ``value``. Baselines never lead, because the one that is given the answer
            always would.
    """
    labels = own_first(curves["label"])
    if len(labels) <= MOST_LINES:
        return labels
    heights = curves.groupby("label")[value].mean().round(9)
    own = [label for label in labels if is_own(label)]
    others = [label for label in labels if method_of(label) not in BASELINES and label not in own]
    return own_first([*own, *sorted(others, key=lambda label: -heights[label])[:LEADING]])


def line_looks(curves: pd.DataFrame, value: str) -> dict[str, Look]:
    """A look for each of the ``leading`` labels and one for all others together, as a legend lists them."""
    labels, chosen = ordered_labels(curves["label"]), leading(curves, value)
    of_all = looks(labels)
    others = {f"the {len(labels) - len(chosen)} others": OTHERS_LOOK} if len(chosen) < len(labels) else {}
    return {label: of_all[label] for label in chosen} | others


def in_front(ax: Axes, curves: pd.DataFrame, styles: dict[str, Look], x: str, y: str, **line: str) -> pd.DataFrame:
    """Draws the curves that have no look of their own in grey, and returns the others."""
    behind = ~curves["label"].isin(styles)
    for _, curve in curves[behind].groupby("label", sort=False):
        curve = curve.sort_values(x, kind="stable")
        ax.plot(curve[x], curve[y], color=OTHERS_LOOK.color, lw=0.7, zorder=1.5, **line)
    return curves[~behind]


def legend_rows(labels: Sequence[str], width: float) -> tuple[int, int]:
    """(columns, rows) of a legend below a figure ``width`` inches wide."""
    longest = max(map(len, labels), default=0)
    rows = math.ceil(len(labels) / max(1, int(width / (0.6 + 0.06 * longest))))
    return math.ceil(len(labels) / rows), rows


def legend_height(labels: Sequence[str], n_panels: int) -> float:
    """Inches a legend of ``labels`` takes below a figure of ``n_panels`` panels."""
    return 0.16 * legend_rows(labels, width_of(n_panels))[1] + 0.1


def with_tasks(labels: Iterable[str], fewer: Mapping[str, int]) -> dict[str, str]:
    """Label -> the label as a figure writes it, with the number of its tasks where others have more.

    Args:
        fewer: ``ranking.on_fewer_tasks``.

    >>> with_tasks(["eap", "eap-ig"], {"eap": 1})
    {'eap': 'eap (1 task)', 'eap-ig': 'eap-ig'}
    """
    return {
        label: f"{label} ({fewer[label]} task{'s' * (fewer[label] != 1)})" if label in fewer else label
        for label in labels
    }


def legend(
    figure: Figure,
    styles: dict[str, Look],
    *,
    lines: bool,
    markers: bool,
    written: Mapping[str, str] | None = None,
    hollow: Collection[str] = (),
) -> None:
    """The legend of methods below the panels.

    Args:
        written: what stands there for a label; the label itself where omitted.
        hollow: labels whose markers are hollow.
    """
    written = {label: label for label in styles} | dict(written or {})
    handles = [
        Line2D(
            [],
            [],
            color=look.color,
            ls=look.line if lines else "",
            marker=look.marker if markers else "",
            label=written[label],
            mfc="white" if label in hollow else None,
        )
        for label, look in styles.items()
    ]
    columns, _ = legend_rows([written[label] for label in styles], figure.get_figwidth())
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=2.8 if lines else 1.2)


def rows_of(aggregate: pd.DataFrame, metric: str) -> dict[tuple[str, str], tuple[float, float, float]]:
    """(ablation, label) -> the metric and the ends of its interval, of ``tables.aggregate_table``."""
    ends = zip(*(aggregate[f"{metric}{end}"] for end in ("", "_low", "_high")), strict=True)
    return dict(zip(zip(aggregate["ablation"], aggregate["label"], strict=True), ends, strict=True))


def by_score(aggregate: pd.DataFrame, metric: str = "auroc") -> list[str]:
    """Labels from the best to the worst, by mean over ablations of their medians; the one given the answer is last."""
    means = aggregate.groupby("label")[metric].mean().round(9)
    return sorted(ordered_labels(aggregate["label"]), key=lambda name: (method_of(name) == ORACLE, -means[name]))


def name_rows(ax: Axes, labels: Sequence[str], programs: dict[str, int]) -> None:
    """One row per label, named at the left (your own methods bold), with the number of programs at the right.

    Args:
        programs: by label; a label without one has no row in this panel.
    """
    ax.set(ylim=(len(labels) - 0.4, -0.6))
    ax.set_yticks(range(len(labels)), labels)
    mark_own(ax, labels)
    beside = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "annotation_clip": False}
    style = {"fontsize": 5.5, "color": "#555555", "va": "center", "ha": "right"}
    for row, label in enumerate(labels):
        if label in programs:
            ax.annotate(f"{programs[label]}", (1, row), xytext=(14, 0), **beside, **style)
    ax.annotate("n", (1, -0.75), xytext=(14, 2), **beside, **style)
    ax.grid(axis="y", visible=False)


def mark_own(ax: Axes, labels: Sequence[str]) -> None:
    """Sets the names of your own methods bold, on an axis whose tick ``i`` is row ``i``."""
    for tick, label in zip(ax.yaxis.get_major_ticks(len(labels)), labels, strict=True):
        tick.label1.set_fontweight("bold" if is_own(label) else "normal")


def counts_of(aggregate: pd.DataFrame, ablation: str) -> tuple[dict[str, int], int]:
    """(label -> over how many programs its medians are, the most of any label), under one ablation."""
    rows = aggregate[aggregate["ablation"] == ablation]
    counts = dict(zip(rows["label"], rows["n_programs"].astype(int), strict=True))
    return counts, max(counts.values(), default=0)


def fraction_axis(ax: Axes, lowest: float) -> None:
    """An axis of fractions that uses the width: from the tenth below the lowest value up to 1."""
    start = min(0.9, math.floor(max(lowest, 0) * 10 + 1e-9) / 10)
    step = 0.25 if start < 0.3 else 0.1 if start < 0.75 else 0.05
    start = 0.0 if start < 0.3 else start
    ticks = [start + i * step for i in range(int((1 - start) / step + 1.001))]
    ax.set_xlim(start, 1)
    ax.set_xticks(ticks, [f"{tick:g}".removeprefix("0") or "0" for tick in (round(t, 3) for t in ticks)])


def corners(curve: pd.DataFrame) -> pd.DataFrame:
    """The rows of a band (x, low, high) at which it changes. They are a tenth of all and give the same drawing."""
    ends = curve[["low", "high"]]
    changes = (ends != ends.shift()).any(axis=1) | (ends != ends.shift(-1)).any(axis=1)
    return curve[changes]


def has_bands(curves: pd.DataFrame, low: str = "low", high: str = "high") -> bool:
    """Whether a figure of these curves shows bands: methods are few, and some interval is more than a line."""
    return curves["label"].nunique() <= MOST_BANDS and bool((curves[high] - curves[low] > 1e-9).any())


def empty_figure(reason: str) -> Figure:
    """A figure that says why it is empty."""
    figure = Figure(figsize=(COLUMN, 0.8), layout="none")
    figure.text(0.5, 0.5, reason, ha="center", va="center", color="#444444")
    return figure
