"""How much of a known feature circuit is found, by how good the dictionary is."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .panels import empty_figure, legend_rows, panels
from .style import across, looks, styled, width_of

_MARKERS = {"narrow": "v", "equal": "o", "wide": "^"}
_QUALITIES = {"unexplained": "Variance not reconstructed", "found": "True features found"}


@styled
def dictionary_recovery(table: pd.DataFrame, method: str, ceiling: str) -> Figure:
    """One panel per ablation and measure of the dictionary, one dot per dictionary.

    Filled: the method; hollow: the best that any method can do with the dictionary.

    Args:
        table: ``dictionaries.recovery_by_dictionary``.
        method, ceiling: labels; ``ceiling`` is the method that is given the answer.
    """
    table = table[table["label"].isin([method, ceiling]) & table["auroc"].notna()]
    if table.empty:
        return empty_figure("No method was run on trained dictionaries.")
    programs, ablations = sorted(table["subject"].unique()), list(dict.fromkeys(table["ablation"].astype(str)))
    styles = looks(programs)
    shown = [(ablation, x) for ablation in ablations for x in _QUALITIES]
    titles = [f"{ablation} ablation" for ablation, _ in shown]
    filled = [(f"{method} (filled)", True), (f"{ceiling}, the ceiling (hollow)", False)]
    labels = [*programs, *_MARKERS, *(text for text, _ in filled)]
    extra = 0.16 * legend_rows(labels, width_of(len(titles)))[1] + 0.15
    figure, axes = panels(titles, 1.7, columns=2, extra=extra, shared=False)
    for i, ((ablation, x), ax) in enumerate(zip(shown, axes, strict=True)):
        here = table[table["ablation"].astype(str) == ablation]
        for row in here.itertuples():
            own, color = row.label == method, styles[row.subject].color
            face = {"mfc": color, "mec": "white", "mew": 0.4} if own else {"mfc": "none", "mec": color, "mew": 0.8}
            dot = {"ms": 5 if own else 6.5, "alpha": 0.85, "zorder": 3 + own, **face}
            ax.plot(getattr(row, x), row.auroc, _MARKERS[row.width], **dot)
        ax.set_xlim(-0.04, max(1.04, float(here[x].max()) + 0.04))
        ax.set_ylim(min(0.42, float(table["auroc"].min()) - 0.04), 1.04)
        ax.set_xlabel(_QUALITIES[x])
        ax.set_ylabel("Area under the ROC curve" if i % across(2) == 0 else "")
    handles = [Line2D([], [], color=styles[name].color, ls="", marker="s", label=name) for name in programs]
    handles += [Line2D([], [], color="#444444", ls="", marker=mark, label=width) for width, mark in _MARKERS.items()]
    handles += [
        Line2D([], [], color="#444444", ls="", marker="o", label=text, mfc="#444444" if full else "none")
        for text, full in filled
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=legend_rows(labels, figure.get_figwidth())[0])
    return figure
