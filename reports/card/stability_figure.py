"""The figure of a stability card: agreement by size, how often each edge is included, faithfulness prompt by prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from ...suite.scoring.structure.stability_card import AtSize, MethodStability, StabilityCard
from ..draw.style import PAGE, Look, looks, styled

_SHOWN = ("prompts", "templates", "seeds", "order", "parameters")


@styled
def stability_figure(card: StabilityCard) -> Figure:
    """Three panels of the first change that each method has numbers for."""
    entries = {entry.method: entry for entry in card.methods}
    styles = looks(entries)
    figure = Figure(figsize=(PAGE, 2.7), layout="constrained")
    agreement, inclusion, prompts = figure.subplots(1, 3)
    for name, entry in entries.items():
        change = next((entry.over[what] for what in _SHOWN if what in entry.over and entry.over[what].points), None)
        if change is not None:
            _agreement(agreement, change.points, styles[name])
            _inclusion(inclusion, change.inclusion, styles[name])
    _finish_agreement(agreement, card)
    inclusion.axvline(card.size, color="#888888", lw=0.8, ls=(0, (3, 2)))
    inclusion.set(xlabel="edges, most often included first", ylabel="share of circuits with the edge", ylim=(0, 1.03))
    inclusion.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    _prompts(prompts, entries, styles)
    handles = [Line2D([], [], color=s.color, marker=s.marker, ls=s.line, label=name) for name, s in styles.items()]
    handles.append(Line2D([], [], color="#888888", ls=(0, (3, 2)), label="chance; circuit's size"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6), frameon=False)
    return figure


def _agreement(ax: Axes, points: Sequence[AtSize], look: Look) -> None:
    x = [point.size for point in points]
    ax.plot(x, [point.jaccard for point in points], color=look.color, marker=look.marker, ls=look.line)
    if all(point.low is not None for point in points):
        low, high = [point.low for point in points], [point.high for point in points]
        ax.fill_between(x, low, high, color=look.color, alpha=0.15, lw=0)


def _finish_agreement(ax: Axes, card: StabilityCard) -> None:
    ax.set(xlabel="edges in the circuit", ylabel="Jaccard index of two circuits", xscale="log", ylim=(0, 1.03))
    found = [change.points for entry in card.methods for change in entry.over.values() if change.points]
    if found:
        sizes = [point.size for point in found[0]]
        ax.plot(sizes, [point.chance for point in found[0]], color="#888888", lw=0.8, ls=(0, (3, 2)))
        ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
        ax.xaxis.set_minor_locator(NullLocator())


def _inclusion(ax: Axes, inclusion: Mapping[str, float], look: Look) -> None:
    values = sorted(inclusion.values(), reverse=True)
    ax.plot(range(1, len(values) + 1), values, color=look.color, ls=look.line)


def _prompts(ax: Axes, entries: Mapping[str, MethodStability], styles: Mapping[str, Look]) -> None:
    names = [name for name, entry in entries.items() if entry.prompt_by_prompt.quantiles]
    for row, name in enumerate(names):
        share, look = entries[name].prompt_by_prompt.quantiles, styles[name]
        ax.plot([share["0.05"], share["0.95"]], [row, row], color=look.color, lw=1)
        ax.plot([share["0.25"], share["0.75"]], [row, row], color=look.color, lw=4, alpha=0.5)
        ax.plot([share["0.5"]], [row], color=look.color, marker=look.marker)
    ax.axvline(1, color="#888888", lw=0.8, ls=(0, (1, 2)))
    ax.set(xlabel="faithfulness of each prompt\n(median, half of them, nine of ten)", ylim=(len(names) - 0.5, -0.5))
    ax.set_yticks(range(len(names)), names)
    low, high = ax.get_xlim()
    ax.set_xlim(min(low, -0.05), max(high, 1.05))
