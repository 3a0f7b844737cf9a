"""The sensitivity card of a store: whether a method's circuits are called faithful, in every setting evaluated.

The same card as that of one circuit (``circuitmeter sensitivity``), with programs in place of prompts: values are
medians over programs, and intervals come from resampling programs, all settings together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ...suite.scoring.sensitivity.card_model import CircuitVerdict, Settings, SettingValue, Verdicts
from ...suite.scoring.sensitivity.design import Design
from ...suite.scoring.sensitivity.shares import partition
from ...suite.scoring.sensitivity.spread import flips, spread_of_faithfulness
from .labels import BASELINES, method_of, ordered_ablations
from .sensitivity_grid import ProgramGrid, comparable, factor_of, grids

THRESHOLD = 0.8
"""The faithfulness from which somebody would call a circuit faithful; the same as the command's."""

_RESAMPLES = 500
MOST_CIRCUITS = 4
"""Methods in one figure: more cannot be told apart at one setting."""

_COLUMNS = ["label", "ablation", "n_programs", "n_settings", "worst_setting", "worst", "worst_low", "worst_high"]
_COLUMNS += ["best_setting", "best", "best_low", "best_high", "range", "range_low", "range_high"]
_COLUMNS += ["hold", "surely", "surely_not", "factor", "share", "share_low", "share_high"]
_NO_RANDOM: dict[str, Any] = dict.fromkeys(
    ("percentile", "percentile_low", "percentile_high", "random_5", "random_50", "random_95"), float("nan")
)


@dataclass(frozen=True)
class MethodVerdict:
    """What is said of the circuits that a method found under one ablation.

    Args:
        label, ablation: the method, and the ablation under which it searched.
        programs: how many the medians are over.
        verdict: the verdict on these circuits, whose values are medians over programs.
        worst, best: the settings that speak most against the circuits, and most for them.
        range: the difference between the two, with the ends of its interval.
    """

    label: str
    ablation: str
    programs: int
    verdict: CircuitVerdict
    worst: SettingValue
    best: SettingValue
    range: tuple[float, float, float]


class Sensitivity(NamedTuple):
    """What the report shows: a row per method and discovery ablation, the card of the leading methods, the size.

    card: None when no circuit was evaluated in two settings. subject: whose circuits the card is about, in words.
    most_moved: the worst and the best setting of the circuits of the card whose faithfulness differs most.
    """

    table: pd.DataFrame
    card: Verdicts | None
    size: str
    subject: str = ""
    most_moved: tuple[SettingValue, SettingValue] | None = None


def sensitivity(evaluated: pd.DataFrame, seed: int = 0) -> Sensitivity:
    """How much the verdict on each method's circuits depends on the evaluation.

    Args:
        evaluated: ``evaluations.evaluation_table``. Of several sizes the true one counts, or else the smallest.
    """
    factors, rows, size = comparable(evaluated)
    found = [_entry(grid, factors, seed) for grid in grids(rows, factors)] if factors else []
    table = pd.DataFrame([_row(entry) for entry in found], columns=_COLUMNS)
    chosen, subject = _leading(found)
    if not chosen:
        return Sensitivity(table, None, size)
    moved = max(chosen, key=lambda each: each.range[0])
    return Sensitivity(table, _card(chosen, factors), size, subject, (moved.worst, moved.best))


def medians(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The median over programs in each resample, float64 [n_resamples, n_settings]; NaN with no number drawn.

    Args:
        values: float64 [n_programs, n_settings]; NaN are left out.
        counts: int [n_resamples, n_programs], how often each program was drawn.
    """
    found = np.full((len(counts), values.shape[1]), np.nan)
    for d, column in enumerate(values.T):
        order = np.argsort(column)[: np.count_nonzero(~np.isnan(column))]
        reached = np.cumsum(counts[:, order], axis=1)
        total = reached[:, -1:]
        below = np.argmax(reached > (total - 1) // 2, axis=1)
        above = np.argmax(reached > total // 2, axis=1)
        middle = (column[order][below] + column[order][above]) / 2
        found[:, d] = np.where(total[:, 0] > 0, middle, np.nan)
    return found


def _entry(grid: ProgramGrid, factors: Sequence[str], seed: int) -> MethodVerdict:
    n = len(grid.values)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=_RESAMPLES)
    value = medians(grid.values, np.ones((1, n), dtype=int))[0]
    draws = medians(grid.values, counts)
    low, high = np.nanquantile(draws, [0.025, 0.975], axis=0)
    names = [factor_of(name) for name in factors]
    design = Design.of(names, grid.settings)
    whole = draws[~np.isnan(draws).any(axis=1)]
    part = design.complete_part()
    complete = None if design.complete else partition(design.select(part), value[part], whole[:, part])
    worst, best = int(np.argmin(value)), int(np.argmax(value))
    ends = np.nanquantile(draws[:, best] - draws[:, worst], [0.025, 0.975])
    values = tuple(
        SettingValue(
            setting=" / ".join(setting),
            levels=dict(zip(names, setting, strict=True)),
            value=float(value[d]),
            low=float(low[d]),
            high=float(high[d]),
            **_NO_RANDOM,
        )
        for d, setting in enumerate(grid.settings)
    )
    verdict = CircuitVerdict(
        name=grid.label,
        values=values,
        spread=spread_of_faithfulness(value, design.weights),
        flips=flips(value, low, high, design.weights, THRESHOLD),
        variance=partition(design, value, whole),
        variance_of_complete_part=complete,
    )
    span = (float(value[best] - value[worst]), float(ends[0]), float(ends[1]))
    return MethodVerdict(grid.label, grid.ablation, n, verdict, values[worst], values[best], span)


def _row(entry: MethodVerdict) -> dict[str, Any]:
    verdict = entry.verdict
    row: dict[str, Any] = {"label": entry.label, "ablation": entry.ablation, "n_programs": entry.programs}
    row["n_settings"] = len(verdict.values)
    for end, at in (("worst", entry.worst), ("best", entry.best)):
        row |= {f"{end}_setting": at.setting, end: at.value, f"{end}_low": at.low, f"{end}_high": at.high}
    row |= dict(zip(("range", "range_low", "range_high"), entry.range, strict=True))
    counts = verdict.counted
    reached = {"hold": counts.reached, "surely": counts.surely, "surely_not": counts.surely_not}
    row |= {name: n / counts.settings for name, n in reached.items()}
    parts = [part for part in verdict.variance.factors if part.measured and verdict.variance.beyond_noise]
    if parts:
        main = max(parts, key=lambda part: part.shapley)
        row |= {"factor": main.factor, "share": main.shapley}
        row |= {"share_low": main.shapley_low, "share_high": main.shapley_high}
    return row


def _leading(found: Sequence[MethodVerdict]) -> tuple[list[MethodVerdict], str]:
    """The method whose circuits are most faithful on average, by the ablation of its search; and this in words.

    If all circuits were found under one ablation, it is the methods with the most faithful circuits. Empty if there are
    only baselines.
    """
    rivals = [entry for entry in found if method_of(entry.label) not in BASELINES]
    if not rivals:
        return [], ""
    # Means over fewer settings, programs or discovery ablations are other measures.
    most = max(len(entry.verdict.values) for entry in rivals)
    programs = max(entry.programs for entry in rivals)
    rivals = [entry for entry in rivals if (len(entry.verdict.values), entry.programs) == (most, programs)] or rivals
    of_label: dict[str, list[MethodVerdict]] = {}
    for entry in rivals:
        of_label.setdefault(entry.label, []).append(entry)
    widest = max(map(len, of_label.values()))
    means = {
        label: round(float(np.mean([entry.verdict.spread.mean for entry in entries])), 9)  # no tie is broken
        for label, entries in of_label.items()
        if len(entries) == widest
    }
    leaders = sorted(means, key=lambda label: -means[label])
    if widest > 1:
        by_ablation = {entry.ablation: entry for entry in of_label[leaders[0]]}
        chosen = [_renamed(by_ablation[name], f"found by {name}") for name in ordered_ablations(by_ablation)]
    else:
        chosen = [of_label[label][0] for label in leaders[:MOST_CIRCUITS]]
    settings = [value.setting for value in chosen[0].verdict.values]
    chosen = [entry for entry in chosen if [value.setting for value in entry.verdict.values] == settings]
    if widest > 1:
        return chosen, f"{leaders[0]}, found by cutting with each ablation"
    ablations = " and ".join(ordered_ablations(entry.ablation for entry in chosen))
    return chosen, f"methods, found under {ablations}"


def _renamed(entry: MethodVerdict, name: str) -> MethodVerdict:
    return replace(entry, verdict=entry.verdict.model_copy(update={"name": name}))


def _card(chosen: Sequence[MethodVerdict], factors: Sequence[str]) -> Verdicts:
    """The card of circuits that were evaluated in the same settings."""
    circuits = tuple(entry.verdict for entry in chosen)
    values = circuits[0].values
    levels = {name: tuple(dict.fromkeys(value.levels[name] for value in values)) for name in map(factor_of, factors)}
    return Verdicts(settings=Settings(n=len(values), levels=levels), circuits=circuits)
