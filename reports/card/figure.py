"""The sensitivity card: a circuit's faithfulness in every setting, what moves it, and what is left of the claim.

A specification curve (Simonsohn, Simmons and Nelson, 2020): settings from worst to best, and below them what each is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..draw.panels import empty_figure
from ..draw.style import Look, across, looks, styled, width_of

LOWEST, HIGHEST = -1.0, 2.0
"""Faithfulness beyond these is drawn as an arrow at the edge: one setting must not flatten all others."""

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
    upper = {"curve": 1.8, "percentile": 0.75 * random, "ranks": 0.15 * len(names) * ranked}
    upper |= {"levels": _ROW * max(len(levels), 1)}
    lower = 0.26 * len(factors), 0.42 * len(verdicts) * (1 + random)
    figure, axes, (left, right) = _layout({k: v for k, v in upper.items() if v}, lower, names, levels)
    placed = values.assign(x=values["setting"].map({setting: x for x, setting in enumerate(order)}))
    _curve(axes["curve"], placed, styles, float(verdicts["threshold"].iloc[0]))
    if random:
        _percentiles(axes["percentile"], placed, styles)
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
    _verdicts(right, verdicts)
    return figure


def _layout(
    upper: dict[str, float], lower: tuple[float, float], circuits: Sequence[str], levels: Sequence[tuple[str, str]]
) -> tuple[Figure, dict[str, Axes], tuple[Axes, Axes]]:
    """The figure, its upper panels by name one below the other, and two panels below them, side by side if wide.

    Placed in inches: the rows of levels must stay readable however many there are.

    Args:
        upper: heights of the upper panels, in order.
        lower: heights of the lower ones at least.
    """
    circuits = [_short(name) for name in circuits]
    ranked = [f"{name}{STRONG * (across(2) == 2)}" for name in circuits] if "ranks" in upper else []
    labels = max(map(len, [*(level for _, level in levels), *ranked, "Faithful"]))
    of_factor = max([len(factor) for factor, _ in levels], default=0)
    margin, right = 0.25 + 0.047 * labels, 0.1 + 0.055 * of_factor
    page, beside = width_of(2), across(2) == 2
    gap, top, title, legend = 0.07, 0.1 + 0.16 * -(-(len(circuits) + 2) // _columns()), 0.55, 0.66 if beside else 0.98
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


def _columns() -> int:
    """Of the legend above the curve."""
    return 4 if across(2) == 2 else 1


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


def _legend_below(ax: Axes, handles: Sequence[Artist], x: float, *, columns: int) -> None:
    """A legend under the panel, its middle at ``x`` of the panel's width."""
    ax.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(x, _below(ax)),
        ncols=columns,
        handlelength=1.2,
        columnspacing=1,
    )


def _curve(ax: Axes, placed: pd.DataFrame, styles: dict[str, Look], threshold: float) -> None:
    """Faithfulness with intervals in every setting; the middle 90 % of random circuits where there is one circuit."""
    for height, dash in ((0.0, "-"), (1.0, "-"), (threshold, (0, (4, 2)))):
        ax.axhline(height, color="#555555", lw=0.7, ls=dash, zorder=1)
    banded = len(styles) == 1 and placed["random_50"].notna().any()
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
        for outside, edge, marker in ((value < LOWEST, LOWEST, "v"), (value > HIGHEST, HIGHEST, "^")):
            ax.plot(x[outside], np.full(int(outside.sum()), edge), marker=marker, ms=4, clip_on=False, **common)
    others = placed["random_5"].min() if banded else 0.0
    lowest = max(LOWEST, min(placed["low"].min(), others, 0.0))
    highest = min(HIGHEST, max(placed["high"].max(), 1.0))
    ax.set(ylim=(lowest - 0.05, highest + 0.08), ylabel="Faithfulness")
    handles = [
        Line2D([], [], ls="", marker=look.marker, color=look.color, ms=4, label=_short(name))
        for name, look in styles.items()
    ]
    handles.append(Line2D([], [], color="#555555", lw=0.7, ls=(0, (4, 2)), label=f"threshold {threshold:g}"))
    if banded:
        handles.append(Patch(color="#d5d5d5", label="90 % of random circuits"))
    side = "left" if across(2) == 2 else "right"
    ax.legend(
        handles=handles,
        loc=f"lower {side}",
        bbox_to_anchor=(side == "right", 1),
        ncols=_columns(),
        borderaxespad=0.2,
        handlelength=1.6,
    )


def _percentiles(ax: Axes, placed: pd.DataFrame, styles: dict[str, Look]) -> None:
    """The share of random circuits that each circuit exceeds."""
    ax.axhline(0.95, color="#555555", lw=0.7, ls=(0, (4, 2)), zorder=1)
    for name, look in styles.items():
        drawn = placed[placed["circuit"] == name].sort_values("x")
        ax.vlines(drawn["x"], drawn["percentile_low"], drawn["percentile_high"], color=look.color, lw=0.6, zorder=2)
        ax.plot(drawn["x"], drawn["percentile"], ls="", marker=look.marker, ms=2.3, mew=0, color=look.color, zorder=3)
    ax.set(ylim=(-0.06, 1.06), ylabel="Above random")
    ax.set_yticks([0, 0.5, 0.95], ["0", ".5", ".95"])


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
    handles = [
        Patch(color="#444444", label="alone"),
        Patch(color="#444444", alpha=0.3, label="with interactions"),
        Line2D([], [], ls="", marker="D", ms=3, mfc="white", mec="#222222", mew=0.8, label="Shapley"),
    ]
    _legend_below(ax, handles, 0.45, columns=3)


def _verdicts(ax: Axes, verdicts: pd.DataFrame) -> None:
    """In what share of the settings the claim holds, and the circuit is told apart from random ones."""
    ax.set_title("Share of the settings in which")
    bars = []
    for row in verdicts.to_dict("records"):
        name = f"{_short(row['circuit'])}\n" if len(verdicts) > 1 else ""
        bars.append((f"{name}faithfulness \u2265 {row['threshold']:g}", row, ""))
        if not np.isnan(row["random_surely"]):
            bars.append((f"{name}above 95 % of random", row, "random_"))
    for y, (_, row, prefix) in enumerate(bars):
        start = 0.0
        for part, _, color, hatch in VERDICTS:
            width = row[f"{prefix}{part}"]
            ax.barh(y, width, 0.6, left=start, color=color, hatch=hatch, ec="#444444", lw=0.5)
            start += width
    ax.set(ylim=(len(bars) - 0.4, -0.6), xlim=(0, 1))
    ax.set_yticks(range(len(bars)), [label for label, _, _ in bars])
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    ax.grid(visible=False)
    handles = [Patch(fc=color, hatch=hatch, ec="#444444", lw=0.5, label=label) for _, label, color, hatch in VERDICTS]
    _legend_below(ax, handles, 0.2, columns=across(2))
