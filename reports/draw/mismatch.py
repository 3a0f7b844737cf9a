"""The truth mismatch: what was found under one ablation, scored against the circuit of another."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..page.table import short
from ..read.labels import BASELINES, ORACLE, method_of, ordered_ablations
from ..read.ranking import compared_alike
from .heat import FRAME, SMALLEST, square_text
from .panels import empty_figure, mark_own
from .style import styled, width_of

MOST_COLUMNS = 16
"""Pairs of ablations drawn side by side; of more the methods are summed up in one square map."""

_ROW = 0.165
"""Height of a method's row, inches."""


@styled
def mismatch(table: pd.DataFrame, metric: str = "average_precision") -> Figure:
    """One heat map: methods down, and across for each discovery ablation the ablations of the truths.

    Of more than ``MOST_COLUMNS`` pairs of ablations the median over methods: discovery ablation down, truth across.

    Args:
        table: ``tables.mismatch_table``. Framed squares are those where both ablations agree; empty ones were not run.
    """
    if table.empty or table["truth_ablation"].nunique() < 2:
        return empty_figure("Only one ablation has a truth: no mismatch to show.")
    found, truths = (ordered_ablations(table[name]) for name in ("ablation", "truth_ablation"))
    if len(found) * len(truths) > MOST_COLUMNS:
        return _summed_up(table, metric, found, truths)
    return _by_method(table, metric, found, truths)


def _by_method(table: pd.DataFrame, metric: str, found: list[str], truths: list[str]) -> Figure:
    own = table[table["own"].astype(bool)].groupby("label")[metric].mean().round(9)
    labels = sorted(set(table["label"]), key=lambda name: (method_of(name) == ORACLE, -own.get(name, -1.0), name))
    pairs = [(ablation, truth) for ablation in found for truth in truths]
    values = table.pivot_table(index="label", columns=["ablation", "truth_ablation"], values=metric, aggfunc="first")
    values = values.reindex(index=labels, columns=pd.MultiIndex.from_tuples(pairs)).to_numpy(dtype=float)
    names = 0.065 * max(map(len, truths)) * 0.75
    figure = Figure(figsize=(width_of(2), _ROW * len(labels) + names + 0.62))
    ax = figure.subplots()
    image = ax.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    room = (figure.get_figwidth() - 0.07 * max(map(len, labels)) - 0.7) / len(pairs)
    for (y, x), value in np.ndenumerate(values):
        if not np.isnan(value) and room >= 0.2:
            square_text(ax, x, y, short(value), value, min(6.0, 24 * room))
        if pairs[x][0] == pairs[x][1]:
            ax.add_patch(Rectangle((x - 0.46, y - 0.44), 0.92, 0.88, fill=False, ec=FRAME, lw=1.1))
    for i, ablation in enumerate(found):
        if i:
            ax.axvline(i * len(truths) - 0.5, color="white", lw=3)
        middle = (i + 0.5) * len(truths) - 0.5
        at = {"xycoords": ("data", "axes fraction"), "xytext": (0, 3), "textcoords": "offset points"}
        title = f"found under {ablation}" if room * len(truths) > 0.9 else ablation
        ax.annotate(title, (middle, 1), ha="center", va="bottom", fontsize=7, fontweight="bold", **at)
    ax.set_xticks(range(len(pairs)), [truth for _, truth in pairs], rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(labels)), labels)
    mark_own(ax, labels)
    ax.set_xlabel("Ablation of the truth scored against")
    _bare(ax)
    figure.colorbar(image, ax=ax, label=f"Median {metric.replace('_', ' ')}", pad=0.01, aspect=30)
    return figure


def _summed_up(table: pd.DataFrame, metric: str, found: list[str], truths: list[str]) -> Figure:
    rivals = compared_alike(table)
    rivals = rivals[~rivals["label"].map(method_of).isin(BASELINES)]
    middle = rivals.groupby(["ablation", "truth_ablation"])[metric].median().unstack()
    values = middle.reindex(index=found, columns=truths).to_numpy(dtype=float)
    names = [0.065 * max(map(len, side)) for side in (found, truths)]
    width = width_of(2)
    square = min((width - names[0] - 1.2) / len(truths), 1.6 * SMALLEST)
    figure = Figure(figsize=(width, square * len(found) + names[1] * 0.75 + 0.6))
    ax = figure.subplots()
    image = ax.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        if not np.isnan(value):
            square_text(ax, x, y, short(value), value, min(6.5, 20 * square))
        if found[y] == truths[x]:
            ax.add_patch(Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, fill=False, ec=FRAME, lw=1.4))
    ax.set_xticks(range(len(truths)), truths, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(found)), found)
    ax.set(xlabel="Ablation of the truth scored against", ylabel="Discovery ablation")
    _bare(ax)
    n = rivals["label"].nunique()
    figure.colorbar(image, ax=ax, label=f"{metric.replace('_', ' ')}, median over {n} methods", pad=0.01, aspect=30)
    return figure


def _bare(ax) -> None:
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
