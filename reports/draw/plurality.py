"""Which of the minimal circuits runs found: a stacked bar a method, a panel for each kind of question."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .panels import FRACTION_TICKS, empty_figure, panels
from .style import across, styled

_ROW = 0.21
"""Height of a bar and the room around it, inches."""

_COLOURS = {
    "minimal": "#0072B2",
    "another": "#0072B2",
    "both": "#56B4E9",
    "superset": "#56B4E9",
    "the same": "#BBBBBB",
    "chimera": "#E69F00",
    "miss": "#F0C9B0",
}
_HATCHES = {"both": "....", "superset": "....", "the same": "xxxx", "chimera": "////"}
"""What tells outcomes apart in grey; one of the circuits is dark, and a miss is plain."""

_WORDS = {
    "minimal": "one of them, or another than the avoided",
    "superset": "a superset, or both",
    "the same": "the avoided one",
    "chimera": "a chimera",
    "miss": "a miss",
}
_PANELS = (
    (False, True, "several circuits, none avoided"),
    (True, True, "one avoided, another exists"),
    (True, False, "one avoided, no other exists"),
)


@styled
def draw_plurality(shares: pd.DataFrame) -> Figure:
    """Shares of runs by outcome; ablations are taken together by the number of their runs.

    Args:
        shares: as ``read.plurality.plurality_shares`` gives them.
    """
    if shares.empty:
        return empty_figure("No truth with several minimal circuits.")
    found = [
        (title, here)
        for avoids, several, title in _PANELS
        if len(here := shares[(shares["avoids"] == avoids) & (shares["several"] == several)])
    ]
    heights = [_ROW * here["label"].nunique() + 0.2 for _, here in found]
    beside = min(across(1), len(found))
    figure, axes = panels([title for title, _ in found], heights, columns=beside, extra=0.55, shared=False)
    for ax, (_, here) in zip(axes, found, strict=True):
        labels = list(dict.fromkeys(here["label"]))
        for row, label in enumerate(labels):
            own, left = here[here["label"] == label], 0.0
            for outcome, colour in _COLOURS.items():
                share = float((own[outcome] * own["n_cells"]).sum() / own["n_cells"].sum())
                if share > 0:
                    ax.barh(row, share, left=left, height=0.72, color=colour, **_edge(outcome))
                left += share
        ax.set_yticks(range(len(labels)), [label.partition(" (avoid")[0] for label in labels])
        ax.set_ylim(len(labels) - 0.5, -0.5)
        ax.set_xlim(0, 1)
        ax.set_xticks(**FRACTION_TICKS)
        ax.grid(visible=False, axis="y")
    axes[-1].set_xlabel("share of runs")
    handles = [Patch(facecolor=_COLOURS[name], label=words, **_edge(name)) for name, words in _WORDS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, handlelength=1.0)
    return figure


def _edge(outcome: str) -> dict[str, str | float]:
    return {"edgecolor": "white", "linewidth": 0.4, "hatch": _HATCHES.get(outcome, "")}
