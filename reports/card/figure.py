"""The sensitivity card: a circuit's faithfulness in every setting, what moves it, and what is left of the claim.

A specification curve (Simonsohn, Simmons and Nelson, 2020): settings from worst to best, and below them what each is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from ...suite.scoring.sensitivity.card import ENOUGH_RANDOM
from ..draw.panels import empty_figure
from ..draw.style import Look, across, looks, styled, width_of
from ..page.table import number, short
from .words import above_random

LOWEST, HIGHEST = -1.0, 2.0
"""Faithfulness beyond these is drawn as an arrow at the edge: one setting must not flatten all others."""

BAND = "90 % of random circuits"

_UP = Path(np.array([(0, -1), (0, 1), (-0.7, 0.2), (0, 1), (0.7, 0.2)]), [Path.MOVETO, Path.LINETO] * 2 + [Path.LINETO])
_DOWN = Path(-_UP.vertices, _UP.codes)
"""Arrows with a shaft, which no method's marker is."""

_LONGEST = 24
"""Letters of a circuit's name that are shown: the last ones, which tell files apart; the first of a method's label."""

STRONG = " (strong: first)"
"""Black on white, and white on black where a page is dark and its figures are inverted."""
_ROW = 0.115
"""Height of a level's row, inches."""

VERDICTS = (
    ("surely", "surely", "#1b1b1b", ""),
    ("perhaps", "yes, but within the interval", "#7a7a7a", ""),
    ("hardly", "no, but within the interval", "#c9c9c9", ""),
    ("surely_not", "surely not", "#ffffff", "////"),
)


@styled
def draw_card(values: pd.DataFrame, shares: pd.DataFrame, verdicts: pd.DataFrame, factors: Sequence[str]) -> Figure:
    """The card of one circuit, or of several compared.

    Args:
        values: ``reports.card.value_table``.
        shares: ``reports.card.share_table``; may be empty.
        verdicts: ``reports.card.verdict_table``.
        factors: columns of ``values``: the choices that vary, in the order in which they are drawn.
    """
    if values.empty:
        return empty_figure("No setting has a value.")
    names = list(dict.fromkeys(values["circuit"]))
    look_of = looks(names)
    styles = {name: look_of[name] for name in names}
    wide = values.pivot(index="setting", columns="circuit", values="value")[names]
    order = list(wide.mean(axis=1).sort_values(kind="stable").index)
    levels = [(factor, level) for factor in factors for level in dict.fromkeys(values[factor])]
    ranked, random = len(names) > 1, values["percentile"].notna().any()
    beyond = _beyond(values["value"])
    upper = {"curve": 1.8, "percentile": 0.75 * random, "ranks": 0.15 * len(names) * ranked}
    upper |= {"levels": _ROW * max(len(levels), 1)}
    lower = 0.26 * len(factors), 0.42 * len(verdicts) * (1 + random)
    enough = bool(random) and int(verdicts["random_n"].max()) >= ENOUGH_RANDOM
    banded = enough and not ranked
    threshold = float(verdicts["threshold"].iloc[0])
    texts = [*map(_short, names), _of_threshold(threshold), *[BAND] * banded, *(ends.label for ends in beyond)]
    figure, axes, (left, right) = _layout({k: v for k, v in upper.items() if v}, lower, names, levels, texts)
    placed = values.assign(x=values["setting"].map({setting: x for x, setting in enumerate(order)}))
    _curve(axes["curve"], placed, styles, threshold, beyond, banded=banded)
    if random:
        _percentiles(axes["percentile"], placed, styles, float(verdicts["random_threshold"].min()))
    if ranked:
        _ranks(axes["ranks"], wide.loc[order])
    _levels(axes["levels"], placed, levels)
    for ax in axes.values():
        ax.set_xlim(-0.5 - 0.004 * len(order), len(order) - 0.5 + 0.004 * len(order))
        ax.tick_params(labelbottom=False, bottom=False)
        ax.grid(axis="x", visible=False)
    what = f"{len(order)} settings, from worst to best{' on average' if ranked else ''}"
    if across(2) == 2:
        axes["levels"].set_xlabel(what)
    else:  # the text is wider than the panel
        axes["levels"].set_xlabel(f"{what}\n(of ranks the strong is first)" if ranked else what, loc="right")
    _shares(left, shares, factors, styles)
    _verdicts(right, verdicts, len(order))
    return figure


class _Beyond(NamedTuple):
    """The values beyond one end of the panel: the end, the symbol that stands there for them, and the legend."""

    edge: float
    symbol: Path
    label: str


def _beyond(value: pd.Series) -> list[_Beyond]:
    """What is drawn at the ends of the panel, where there is any."""
    below, above = value[value < LOWEST], value[value > HIGHEST]
    found = []
    if len(below):
        found.append(_Beyond(LOWEST, _DOWN, f"outside: {len(below)}, down to {number(below.min())}"))
    if len(above):
        found.append(_Beyond(HIGHEST, _UP, f"outside: {len(above)}, up to {number(above.max())}"))
    return found


def _layout(
    upper: dict[str, float],
    lower: tuple[float, float],
    circuits: Sequence[str],
    levels: Sequence[tuple[str, str]],
    texts: Sequence[str],
) -> tuple[Figure, dict[str, Axes], tuple[Axes, Axes]]:
    """The figure, its upper panels by name one below the other, and two panels below them, side by side if wide.

    Placed in inches: the rows of levels must stay readable however many there are.

    Args:
        upper: heights of the upper panels, in order.
        lower: heights of the lower ones at least.
        texts: of the legend above the curve.
    """
    circuits = [_short(name) for name in circuits]
    ranked = [f"{name}{STRONG * (across(2) == 2)}" for name in circuits] if "ranks" in upper else []
    labels = max(map(len, [*(level for _, level in levels), *ranked, "Faithful"]))
    of_factor = max([len(factor) for factor, _ in levels], default=0)
    margin, right = 0.25 + 0.047 * labels, 0.1 + 0.055 * of_factor
    page, beside = width_of(2), across(2) == 2
    gap, top, title, legend = 0.07, 0.1 + 0.16 * -(-len(texts) // _columns(texts)), 0.55, 0.66 if beside else 0.98
    low = [max(lower)] if beside else list(lower)
    height = top + sum(upper.values()) + gap * (len(upper) - 1) + sum(title + tall + legend for tall in low)
    height -= (0.3 - gap) * (len(low) - 1)
    figure = Figure(figsize=(page, height), layout="none")

    def panel(x: float, y: float, width: float, tall: float) -> Axes:
        """Inches from the left and from the top."""
        return figure.add_axes((x / page, 1 - (y + tall) / height, width / page, tall / height))

    axes, y = {}, top
    for name, tall in upper.items():
        axes[name] = panel(margin, y, page - margin - right, tall)
        y += tall + gap
    y += title - gap
    half = (page - 0.1) / 2 if beside else page - 0.1
    names = 0.2 + 0.05 * of_factor, max(1.15, 0.2 + 0.053 * max(map(len, circuits)) * (len(circuits) > 1))
    first = panel(names[0], y, half - names[0] - 0.1, low[0])
    x, y = (half, y) if beside else (0.0, y + low[0] + legend + title - 0.3 + gap)
    return figure, axes, (first, panel(x + names[1], y, half - names[1] - 0.1, low[-1]))


def _columns(texts: Sequence[str]) -> int:
    """Of the legend above the curve: as many as find room beside each other."""
    room = width_of(2) - 2.2  # inches, behind the names of levels
    for n in (4, 3, 2):
        widths = [max(map(len, part), default=0) for part in np.array_split(np.array(texts, dtype=object), n)]
        if sum(0.4 + 0.058 * letters for letters in widths) <= room:
            return n
    return 1


def _of_threshold(threshold: float) -> str:
    return f"threshold {threshold:g}"


def _short(name: str) -> str:
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - 1]}\u2026" if " (" in name else f"\u2026{name[1 - _LONGEST :]}"


def _shift(i: int, n: int) -> float:
    """How far circuit ``i`` of ``n`` is drawn beside its setting's place."""
    return (i - (n - 1) / 2) * min(0.18, 0.8 / n)


def _below(ax: Axes) -> float:
    """Where a legend under the tick labels of a panel begins, as a fraction of the panel's height."""
    return -0.24 / (ax.get_position().height * ax.figure.get_figheight())


def _legend_below(
    ax: Axes, entries: Sequence[tuple[Artist | tuple[Artist, ...], str]], x: float, *, columns: int
) -> None:
    """A legend under the panel, its middle at ``x`` of the panel's width. Of several symbols each has a part."""
    ax.legend(
        [symbol for symbol, _ in entries],
        [text for _, text in entries],
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0.0)},
        loc="upper center",
        bbox_to_anchor=(x, _below(ax)),
        ncols=columns,
        handlelength=1.2,
        columnspacing=1,
    )


def _curve(
    ax: Axes,
    placed: pd.DataFrame,
    styles: dict[str, Look],
    threshold: float,
    beyond: Sequence[_Beyond],
    *,
    banded: bool,
) -> None:
    """Faithfulness with intervals in every setting; ``banded``: the middle 90 % of random circuits behind it."""
    for height, dash in ((0.0, "-"), (1.0, "-"), (threshold, (0, (4, 2)))):
        ax.axhline(height, color="#555555", lw=0.7, ls=dash, zorder=1)
    if banded:
        band = placed.sort_values("x")
        low, high = (band[end].clip(LOWEST, HIGHEST) for end in ("random_5", "random_95"))
        ax.vlines(band["x"], low, high, color="#d5d5d5", lw=1.6, zorder=1.5)
        ax.plot(
            band["x"], band["random_50"].clip(LOWEST, HIGHEST), ls="", marker="_", ms=2.5, color="#888888", zorder=1.6
        )
    for i, (name, look) in enumerate(styles.items()):
        drawn = placed[placed["circuit"] == name].sort_values("x")
        x, value = drawn["x"] + _shift(i, len(styles)), drawn["value"]
        low, high = (drawn[end].clip(LOWEST, HIGHEST) for end in ("low", "high"))
        ax.vlines(x, low, high, color=look.color, lw=0.7, zorder=2)
        inside = value.between(LOWEST, HIGHEST)
        common = {"ls": "", "color": look.color, "zorder": 3, "mew": 0}
        ax.plot(x[inside], value[inside], marker=look.marker, ms=2.6, **common)
        for edge, symbol, _ in beyond:
            outside = value < edge if edge == LOWEST else value > edge
            ends = np.full(int(outside.sum()), edge)
            ax.plot(x[outside], ends, clip_on=False, **common | _arrow(symbol, look.color))
    others = placed["random_5"].min() if banded else 0.0
    lowest = max(LOWEST, min(placed["low"].fillna(placed["value"]).min(), others, 0.0))
    highest = min(HIGHEST, max(placed["high"].fillna(placed["value"]).max(), 1.0))
    ax.set(ylim=(lowest - 0.05, highest + 0.08), ylabel="Faithfulness")
    handles = [
        Line2D([], [], ls="", marker=look.marker, color=look.color, ms=4, label=_short(name))
        for name, look in styles.items()
    ]
    handles.append(Line2D([], [], color="#555555", lw=0.7, ls=(0, (4, 2)), label=_of_threshold(threshold)))
    if banded:
        handles.append(Patch(color="#d5d5d5", label=BAND))
    color = next(iter(styles.values())).color if len(styles) == 1 else "#444444"
    handles += [Line2D([], [], ls="", label=text, **_arrow(symbol, color)) for _, symbol, text in beyond]
    side = "left" if across(2) == 2 else "right"
    ax.legend(
        handles=handles,
        loc=f"lower {side}",
        bbox_to_anchor=(side == "right", 1),
        ncols=_columns([str(handle.get_label()) for handle in handles]),
        borderaxespad=0.2,
        handlelength=1.6,
    )


def _arrow(symbol: Path, color: str) -> dict[str, Any]:
    """How an arrow is drawn."""
    return {"marker": symbol, "color": color, "mfc": "none", "mew": 1.0, "ms": 5.5}


def _percentiles(ax: Axes, placed: pd.DataFrame, styles: dict[str, Look], threshold: float) -> None:
    """The share of random circuits that each circuit exceeds, and the one from which it is told apart from them."""
    ax.axhline(threshold, color="#555555", lw=0.7, ls=(0, (4, 2)), zorder=1)
    for name, look in styles.items():
        drawn = placed[placed["circuit"] == name].sort_values("x")
        ax.vlines(drawn["x"], drawn["percentile_low"], drawn["percentile_high"], color=look.color, lw=0.6, zorder=2)
        ax.plot(drawn["x"], drawn["percentile"], ls="", marker=look.marker, ms=2.3, mew=0, color=look.color, zorder=3)
    ax.set(ylim=(-0.06, 1.06), ylabel="Above random")
    ax.set_yticks([0, 0.5, threshold], ["0", ".5", short(threshold).removesuffix(".00")])


def _ranks(ax: Axes, wide: pd.DataFrame) -> None:
    """Each circuit's rank in each setting: the strongest is first."""
    ranks = wide.round(6).rank(axis=1, ascending=False, method="min").to_numpy().T
    ax.imshow(ranks, aspect="auto", cmap="gray", vmin=0.5, vmax=len(wide.columns) + 1, interpolation="nearest")
    ax.set_yticks(
        range(len(wide.columns)),
        [f"{_short(name)}{'' if i or across(2) == 1 else STRONG}" for i, name in enumerate(wide.columns)],
    )
    ax.tick_params(left=False, labelsize=6)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)


def _levels(ax: Axes, placed: pd.DataFrame, levels: Sequence[tuple[str, str]]) -> None:
    """A tick where a setting has a level; factors apart by shading, their names on the right."""
    of_one = placed.drop_duplicates("setting")
    factors = list(dict.fromkeys(factor for factor, _ in levels))
    for row, (factor, level) in enumerate(levels):
        x = of_one.loc[of_one[factor] == level, "x"]
        ax.vlines(x, row - 0.36, row + 0.36, color="#222222", lw=min(1.6, 200 / len(of_one)))
    for i, factor in enumerate(factors):
        rows = [row for row, (of, _) in enumerate(levels) if of == factor]
        if i % 2 == 0:
            ax.axhspan(rows[0] - 0.5, rows[-1] + 0.5, color="#eeeeee", lw=0, zorder=0)
        ax.annotate(
            factor, (1, (rows[0] + rows[-1]) / 2), xycoords=("axes fraction", "data"), xytext=(4, 0),
            textcoords="offset points", va="center", fontsize=6.5, annotation_clip=False,
        )  # fmt: skip
    ax.set(ylim=(max(len(levels), 1) - 0.5, -0.5))
    ax.set_yticks(range(len(levels)), [level for _, level in levels])
    ax.tick_params(axis="y", length=0, labelsize=5.8)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)


def _shares(ax: Axes, shares: pd.DataFrame, factors: Sequence[str], styles: dict[str, Look]) -> None:
    """First-order (dark) and total (light) share of each choice, with intervals; Shapley effects as diamonds."""
    ax.set_title("Share of the variance by each choice")
    if shares.empty:
        ax.text(0.5, 0.5, "The settings agree.", ha="center", va="center", transform=ax.transAxes, color="#444444")
        ax.set_axis_off()
        return
    thick = 0.8 / len(styles)
    for i, (name, look) in enumerate(styles.items()):
        for row, factor in enumerate(factors):
            found = shares[(shares["circuit"] == name) & (shares["factor"] == factor)]
            if found.empty:
                continue
            part, y = found.iloc[0], row + (i - (len(styles) - 1) / 2) * thick
            ax.barh(y, np.clip(part["total"], 0, 1), thick * 0.9, color=look.color, alpha=0.3, lw=0)
            ax.barh(y, np.clip(part["first"], 0, 1), thick * 0.9, color=look.color, lw=0)
            ends = np.clip([part["total_low"], part["total_high"]], 0, 1)
            ax.plot(ends, [y, y], color="#222222", lw=0.8, solid_capstyle="butt")
            ax.plot(
                np.clip(part["shapley"], 0, 1),
                y,
                marker="D",
                ms=3,
                mfc="white",
                mec="#222222",
                mew=0.8,
                ls="",
                clip_on=False,
            )
    ax.set(ylim=(len(factors) - 0.5, -0.5), xlim=(0, 1))
    ax.set_yticks(range(len(factors)), factors)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    ax.grid(axis="y", visible=False)
    colors = [look.color for look in styles.values()]
    alone, together = (tuple(Patch(fc=color, alpha=alpha, lw=0) for color in colors) for alpha in (1.0, 0.3))
    shapley = Line2D([], [], ls="", marker="D", ms=3, mfc="white", mec="#222222", mew=0.8)
    entries = [(alone, "alone"), (together, "with interactions"), (shapley, "Shapley")]
    _legend_below(ax, entries, 0.45, columns=3)


def _verdicts(ax: Axes, verdicts: pd.DataFrame, n_settings: int) -> None:
    """In how many settings the claim holds, and the circuit is told apart from random ones."""
    ax.set_title(f"Settings, of {n_settings}, in which")
    bars = []
    for row in verdicts.to_dict("records"):
        name = f"{_short(row['circuit'])}\n" if len(verdicts) > 1 else ""
        bars.append((f"{name}faithfulness \u2265 {row['threshold']:g}", row, ""))
        if not np.isnan(row["random_surely"]):
            above = above_random(row["random_n"], row["random_threshold"]).replace(f"of {row['random_n']} ", "of ")
            bars.append((f"{name}{above}", row, "random_"))
    for y, (_, row, prefix) in enumerate(bars):
        start = 0.0
        for part, _, color, hatch in VERDICTS:
            width = row[f"{prefix}{part}"]
            ax.barh(y, width, 0.6, left=start, color=color, hatch=hatch, ec="#444444", lw=0.5)
            start += width
    ax.set(ylim=(len(bars) - 0.4, -0.6), xlim=(0, n_settings))
    ax.set_yticks(range(len(bars)), [label for label, _, _ in bars])
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.grid(visible=False)
    entries = [(Patch(fc=color, hatch=hatch, ec="#444444", lw=0.5), text) for _, text, color, hatch in VERDICTS]
    _legend_below(ax, entries, 0.2, columns=across(2))
