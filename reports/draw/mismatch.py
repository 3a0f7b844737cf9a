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
from .style import across, styled, width_of

MOST_COLUMNS = 16
"""Pairs of ablations drawn side by side; of more the methods are summed up in one square map."""

_READABLE = 0.2
"""Width of a square in which a number of two digits can be read, inches."""

_ROW = 0.165
"""Height of a method's row, inches."""


@styled
def mismatch(table: pd.DataFrame, metric: str = "average_precision") -> Figure:
    """Methods down, and across the ablations of the truths, in one map for each discovery ablation.

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
    beside = across(len(found))
    one_column = beside < len(found)
    down = len(found) // beside
    letters = 6.0 if one_column else 7.0
    # Inches: of the slanted names below, of the names at the left, and of one square.
    names, left = 0.065 * max(map(len, truths)) * 0.75, letters / 100 * max(map(len, labels))
    width = width_of(2)
    room = (width - left - (0.2 if one_column else 0.8)) / (beside * len(truths))
    height = down * (_ROW * len(labels) + 0.2) + names + (0.9 if one_column else 0.42)
    figure = Figure(figsize=(width, height))
    axes = list(figure.subplots(down, beside, sharex=True, sharey=True, squeeze=False).flat)
    image = None
    for i, (ablation, ax) in enumerate(zip(found, axes, strict=True)):
        part = values[:, i * len(truths) : (i + 1) * len(truths)]
        image = ax.imshow(part, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for (y, x), value in np.ndenumerate(part):
            if not np.isnan(value) and room >= _READABLE:
                square_text(ax, x, y, short(value), value, min(6.0, 24 * room))
            if truths[x] == ablation:
                ax.add_patch(Rectangle((x - 0.46, y - 0.44), 0.92, 0.88, fill=False, ec=FRAME, lw=1.1))
        ax.set_title(f"found under {ablation}" if room * len(truths) > 0.9 else ablation, fontsize=7, loc="center")
        ax.set_xticks(range(len(truths)), truths, rotation=45, ha="right", rotation_mode="anchor", fontsize=letters)
        ax.set_yticks(range(len(labels)), labels, fontsize=letters)
        mark_own(ax, labels)
        _bare(ax)
    about = "Ablation of the truth scored against"
    if one_column:  # the colour bar is below
        axes[-1].set_xlabel(about)
    else:
        figure.supxlabel(about, fontsize=7.5)
    place = {"location": "bottom", "aspect": 40} if one_column else {"location": "right", "aspect": 30}
    figure.colorbar(image, ax=axes, label=f"Median {metric.replace('_', ' ')}", pad=0.01, **place)
    return figure


def _summed_up(table: pd.DataFrame, metric: str, found: list[str], truths: list[str]) -> Figure:
    rivals = table[~table["label"].map(method_of).isin(BASELINES)]
    # A truth may be certified for fewer programs than others: methods are alike that have as many as any under it.
    rivals = pd.concat([compared_alike(of_pair) for _, of_pair in rivals.groupby(["ablation", "truth_ablation"])])
    n = rivals["label"].nunique()
    middle = rivals.groupby(["ablation", "truth_ablation"])[metric].median().unstack()
    values = middle.reindex(index=found, columns=truths).to_numpy(dtype=float)
    names = [0.065 * max(map(len, side)) for side in (found, truths)]
    width = width_of(2)
    below = across(2) == 1  # the colour bar, where there is no room for it at the right
    square = min((width - names[0] - (0.4 if below else 1.2)) / len(truths), 1.6 * SMALLEST)
    figure = Figure(figsize=(width, square * len(found) + names[1] * 0.75 + (1.2 if below else 0.6)))
    ax = figure.subplots()
    image = ax.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        if not np.isnan(value):
            square_text(ax, x, y, short(value), value, min(6.5, 20 * square))
        if found[y] == truths[x]:
            ax.add_patch(Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, fill=False, ec=FRAME, lw=1.4))
    ax.set_xticks(range(len(truths)), truths, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(found)), found)
    ax.set(xlabel=f"Ablation of the truth (median, {n} methods)", ylabel="Discovery ablation")
    _bare(ax)
    place = {"location": "bottom", "aspect": 40} if below else {"location": "right", "aspect": 30}
    figure.colorbar(image, ax=ax, label=metric.replace("_", " ").capitalize(), pad=0.01, **place)
    return figure


def _bare(ax) -> None:
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
