"""What a circuit is compared with and what is tried against it: a row a method, a panel a kind of control."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..read.controls import FAITHFULNESS, NULL_NAMES
from ..read.labels import ordered_labels
from .panels import empty_figure, mark_own, panels
from .style import Look, styled

_RANGE = (-1.0, 1.5)
"""What is shown of faithfulness at most: what lies beyond stands at the edge."""

_LOOKS = {
    FAITHFULNESS: Look("#000000", "o", ""),
    "null reset-weights": Look("#D55E00", "s", ""),
    "null permuted-labels": Look("#0072B2", "^", ""),
    "null nonsense": Look("#009E73", "D", ""),
    "random": Look("#999999", "P", ""),
    "worst": Look("#B22222", "v", ""),
    "rank": Look("#56B4E9", "o", ""),
}
_NAMES = {
    FAITHFULNESS: "the task, all of the rest cut",
    **{f"null {kind}": words for kind, words in NULL_NAMES.items()},
    "random": "random halves cut",
    "worst": "worst subset cut",
}
_PANELS = {
    "nulls": (FAITHFULNESS, "null reset-weights", "null permuted-labels", "null nonsense"),
    "parts of the rest": (FAITHFULNESS, "random", "worst"),
    "scores": ("rank",),
}
_AXES = {"scores": "Rank correlation\nwith exact patching"}


@styled
def draw_controls(summary: pd.DataFrame) -> Figure:
    """A row per method; medians over programs with their intervals, of one ablation.

    Args:
        summary: ``read.controls.control_summary``.
    """
    shown = {title: [name for name in names if name in set(summary["control"])] for title, names in _PANELS.items()}
    shown = {title: names for title, names in shown.items() if set(names) - {FAITHFULNESS}}
    if not shown:
        return empty_figure("No control was asked for.")
    labels = ordered_labels(summary["label"])
    height = 0.5 + 0.22 * len(labels)
    figure, axes = panels(list(shown), height, extra=0.45, shared=False)
    rows = {(row["label"], row["control"]): row for row in summary.to_dict("records")}
    for i, (ax, (title, names)) in enumerate(zip(axes, shown.items(), strict=True)):
        for at, name in enumerate(names):
            _dots(ax, labels, name, rows, (at - (len(names) - 1) / 2) * 0.18)
        ax.set(ylim=(len(labels) - 0.4, -0.6), xlabel=_AXES.get(title, "Faithfulness"))
        ax.set_yticks(range(len(labels)), labels if i == 0 else [""] * len(labels))
        if i == 0:
            mark_own(ax, labels)
        ax.grid(axis="y", visible=False)
        if title not in _AXES:
            low, high = ax.get_xlim()
            ax.set_xlim(max(low, _RANGE[0] - 0.05), min(max(high, 1.05), _RANGE[1] + 0.05))
        ax.axvline(1, color="#888888", lw=0.8, ls=(0, (3, 2)), zorder=1)
        ax.axvline(0, color="#888888", lw=0.8, zorder=1)
    drawn = [name for name in _NAMES if any(name in names for names in shown.values())]
    handles = [Line2D([], [], color=_LOOKS[n].color, marker=_LOOKS[n].marker, ls="", label=_NAMES[n]) for n in drawn]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _dots(ax: Axes, labels: list[str], name: str, rows: dict, shift: float) -> None:
    look = _LOOKS[name]
    for place, label in enumerate(labels):
        if (row := rows.get((label, name))) is None:
            continue
        value, low, high = (min(max(row[end], _RANGE[0]), _RANGE[1]) for end in ("value", "low", "high"))
        if not pd.isna(row["low"]):
            ax.plot([low, high], [place + shift] * 2, color=look.color, lw=0.9, zorder=2)
        ax.plot([value], [place + shift], color=look.color, marker=look.marker, ms=3.2, zorder=3)
