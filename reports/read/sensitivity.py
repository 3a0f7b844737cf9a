"""The sensitivity card of a store: whether a method's circuits are called faithful, in every setting evaluated.

The same card as that of one circuit (``circuitmeter sensitivity``), with programs in place of prompts: values are
medians over programs, and intervals come from resampling programs, all settings together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ...suite.scoring.sensitivity.design import Design
from ...suite.scoring.sensitivity.shares import partition
from ...suite.scoring.sensitivity.spread import flips, spread
from ..card.words import Card
from .labels import BASELINES, method_of, ordered_ablations
from .sensitivity_grid import Grid, comparable, factor_of, grids

THRESHOLD = 0.8
"""The faithfulness from which somebody would call a circuit faithful; the same as the command's."""

RESAMPLES = 500
MOST_CIRCUITS = 4
"""Methods in one figure: more cannot be told apart at one setting."""

COLUMNS = ["label", "ablation", "n_programs", "n_settings", "worst_setting", "worst", "worst_low", "worst_high"]
COLUMNS += ["best_setting", "best", "best_low", "best_high", "range", "range_low", "range_high"]
COLUMNS += ["hold", "surely", "surely_not", "factor", "share", "share_low", "share_high"]
_NO_RANDOM = dict.fromkeys(
    ("percentile", "percentile_low", "percentile_high", "random_5", "random_50", "random_95"), float("nan")
)


class Sensitivity(NamedTuple):
    """What the report shows: a row per method and discovery ablation, the card of the leading methods, the size."""

    table: pd.DataFrame
    card: Card | None
    size: str


def sensitivity(evaluated: pd.DataFrame, seed: int = 0) -> Sensitivity:
    """How much the verdict on each method's circuits depends on the evaluation.

    Args:
        evaluated: ``evaluations.evaluation_table``. Of several sizes the true one counts, or else the smallest.
    """
    factors, rows, size = comparable(evaluated)
    found = [_entry(grid, factors, seed) for grid in grids(rows, factors)] if factors else []
    table = pd.DataFrame([_row(entry) for entry in found], columns=COLUMNS)
    return Sensitivity(table, _card(found, factors), size)


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


def _entry(grid: Grid, factors: Sequence[str], seed: int) -> dict[str, Any]:
    """What the card says of one method's circuits."""
    n = len(grid.values)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
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
    entries = [
        {"setting": " / ".join(setting), "levels": dict(zip(names, setting, strict=True)), **_NO_RANDOM}
        | {"value": float(value[d]), "low": float(low[d]), "high": float(high[d])}
        for d, setting in enumerate(grid.settings)
    ]
    return {
        "name": grid.label,
        "ablation": grid.ablation,
        "programs": n,
        "values": entries,
        "worst": entries[worst],
        "best": entries[best],
        "range": (float(value[best] - value[worst]), float(ends[0]), float(ends[1])),
        "spread": spread(value, design.weights)._asdict(),
        "flips": flips(value, low, high, design.weights, THRESHOLD)._asdict(),
        "variance": partition(design, value, whole),
        "variance_of_complete_part": complete,
        "random": None,
    }


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    row = {"label": entry["name"], "ablation": entry["ablation"], "n_programs": entry["programs"]}
    row["n_settings"] = len(entry["values"])
    for end in ("worst", "best"):
        row |= {f"{end}_setting": entry[end]["setting"], end: entry[end]["value"]}
        row |= {f"{end}_low": entry[end]["low"], f"{end}_high": entry[end]["high"]}
    row |= dict(zip(("range", "range_low", "range_high"), entry["range"], strict=True))
    row |= {name: entry["flips"][name] for name in ("hold", "surely", "surely_not")}
    parts = [part for part in entry["variance"]["factors"] if "shapley" in part and entry["variance"]["beyond_noise"]]
    if parts:
        first = max(parts, key=lambda part: part["shapley"])
        row |= {"factor": first["factor"], "share": first["shapley"]}
        row |= {"share_low": first["shapley_low"], "share_high": first["shapley_high"]}
    return row


def _card(found: Sequence[dict[str, Any]], factors: Sequence[str]) -> Card | None:
    """The card of the method whose circuits hold best on average: what it found under each ablation, compared.

    Where all were found under one ablation, of the methods whose circuits hold best.
    """
    rivals = [entry for entry in found if method_of(entry["name"]) not in BASELINES]
    if not rivals:
        return None
    # Means over fewer settings, programs or discovery ablations are other measures.
    most = max(len(entry["values"]) for entry in rivals)
    programs = max(entry["programs"] for entry in rivals)
    rivals = [entry for entry in rivals if (len(entry["values"]), entry["programs"]) == (most, programs)] or rivals
    of_label: dict[str, list[dict[str, Any]]] = {}
    for entry in rivals:
        of_label.setdefault(entry["name"], []).append(entry)
    widest = max(map(len, of_label.values()))
    means = {
        label: round(float(np.mean([entry["spread"]["mean"] for entry in entries])), 9)  # rounding breaks no tie
        for label, entries in of_label.items()
        if len(entries) == widest
    }
    leaders = sorted(means, key=lambda label: -means[label])
    if widest > 1:
        by_ablation = {entry["ablation"]: entry for entry in of_label[leaders[0]]}
        chosen = [by_ablation[name] | {"name": f"found by {name}"} for name in ordered_ablations(by_ablation)]
    else:
        chosen = [of_label[label][0] for label in leaders[:MOST_CIRCUITS]]
    settings = [value["setting"] for value in chosen[0]["values"]]
    chosen = [entry for entry in chosen if [value["setting"] for value in entry["values"]] == settings]
    levels = {
        name: list(dict.fromkeys(value["levels"][name] for value in chosen[0]["values"]))
        for name in map(factor_of, factors)
    }
    subject = (
        f"{leaders[0]}, found by cutting with each ablation" if widest > 1 else f"methods, found under {_names(chosen)}"
    )
    return {"settings": {"n": len(settings), "levels": levels}, "circuits": chosen, "subject": subject}


def _names(entries: Sequence[dict[str, Any]]) -> str:
    """The discovery ablations of entries, in words."""
    return " and ".join(ordered_ablations(entry["ablation"] for entry in entries))
