"""Which structures methods find and miss: structures across, methods down, a panel per ablation."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..read.labels import ordered_ablations
from .panels import empty_figure, mark_own
from .style import across, styled, width_of

_FOUND, MISSED = "#0072B2", "#D55E00"
_ROW = 0.155
"""Height of a method's row, inches."""

ACROSS = 3
_LONGEST = 36
"""Letters of a label that are shown; the table has all."""

_KINDS = (
    ("found", {"marker": "s", "color": _FOUND, "ms": 5.5}),
    ("in some of the runs", {"marker": "s", "color": _FOUND, "ms": 5.5, "fillstyle": "left", "mfcalt": "white"}),
    ("missed", {"marker": "x", "color": MISSED, "ms": 4, "mew": 1.1}),
)


@styled
def structures(table: pd.DataFrame) -> Figure:
    """Squares are filled for structures found in every run, half filled for some runs; crosses are for missed ones.

    Args:
        table: ``diagnostics.structures``, whose order of methods and structures is kept. Empty squares were not run.
    """
    if table.empty:
        return empty_figure("No method was run on a gate.")
    ablations, labels = ordered_ablations(table["ablation"]), list(dict.fromkeys(table["label"]))
    gates = list(dict.fromkeys(table.sort_values("place", kind="stable")["structure"]))
    beside = min(len(ablations), across(ACROSS))
    axes = _panels(len(ablations), labels, gates)
    for i, (ablation, ax) in enumerate(zip(ablations, axes, strict=True)):
        ax.set_title(f"{ablation} ablation")
        _marks(ax, table[table["ablation"] == ablation], labels, gates)
        ax.tick_params(length=0, labelbottom=i + beside >= len(ablations), labelleft=i % beside == 0)
    figure = axes[0].figure
    handles = [Line2D([], [], ls="", label=words, **look) for words, look in _KINDS]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), handletextpad=0.3)
    return figure


def _panels(n: int, labels: Sequence[str], gates: Sequence[str]) -> list[Axes]:
    """The panels, placed in inches: long names on both axes leave an automatic layout no room."""
    page = width_of(2)
    beside = min(n, across(ACROSS))
    down = -(-n // beside)
    left = 0.12 + 0.057 * max(len(_short(label)) for label in labels)
    below = 0.35 + 0.045 * max(map(len, gates))  # slanted names, and the legend
    width, tall = (page - left - 0.05) / beside, _ROW * len(labels) + 0.08
    height = down * (tall + 0.3) + below
    figure = Figure(figsize=(page, height), layout="none")
    places = [(i % beside, i // beside) for i in range(n)]
    return [
        figure.add_axes(
            (
                (left + column * width) / page,
                1 - (row + 1) * (tall + 0.3) / height,
                (width - 0.15) / page,
                tall / height,
            )
        )
        for column, row in places
    ]


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}\u2026"


def _marks(ax: Axes, rows: pd.DataFrame, labels: Sequence[str], gates: Sequence[str]) -> None:
    """One panel."""
    chosen = (rows["found"] >= 1, (rows["found"] > 0) & (rows["found"] < 1), rows["found"] <= 0)
    for kind, (_, look) in zip(chosen, _KINDS, strict=True):
        x = [gates.index(name) for name in rows.loc[kind, "structure"]]
        y = [labels.index(name) for name in rows.loc[kind, "label"]]
        if x:
            ax.plot(x, y, ls="", clip_on=False, **look)
    for column, name in enumerate(gates):
        if not (rows["structure"] == name).any():
            middle, word = (len(labels) - 1) / 2, "not certified" if len(labels) > 6 else "none"
            ax.text(column, middle, word, rotation=90, ha="center", va="center", fontsize=6, color="#666666")
    ax.set(xlim=(-0.6, len(gates) - 0.4), ylim=(len(labels) - 0.4, -0.6))
    ax.set_xticks(range(len(gates)), gates, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(labels)), map(_short, labels))
    mark_own(ax, labels)
