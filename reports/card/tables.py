"""A sensitivity card as tables, to draw and to print. What it holds: ``suite/scoring/sensitivity/card_model.py``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from ...suite.scoring.sensitivity.card_model import CircuitVerdict, FactorShare, GridVerdicts, SettingCounts, Verdicts
from ..page.table import MISSING, number_of_any_size, percent
from .words import faithfulness_text, variance_share


def value_table(card: Verdicts) -> pd.DataFrame:
    """One row a circuit and setting: ``circuit``, ``setting``, the varying factors' levels, and the card's numbers."""
    factors = card.settings.varying
    rows = [
        {"circuit": circuit.name, **entry.model_dump(exclude={"levels"}, exclude_unset=True)}
        | {factor: entry.levels[factor] for factor in factors}
        for circuit in card.circuits
        for entry in circuit.values
    ]
    return pd.DataFrame(rows)


def share_table(card: Verdicts) -> pd.DataFrame:
    """One row a circuit and factor: its shares of the variance over settings, with interval ends; empty without any.

    First-order and total shares are those of the complete part of the grid, NaN where it does not vary by more than
    noise; Shapley shares are those of the whole grid.
    """
    rows = []
    for circuit in card.circuits:
        found = circuit.exact
        by_factor = {part.factor: part for part in found.factors if found.beyond_noise}
        for part in circuit.variance.factors:
            if not part.measured:
                continue
            of_part = by_factor.get(part.factor, FactorShare(factor=part.factor, levels=part.levels))
            row: dict[str, Any] = {"circuit": circuit.name, "factor": part.factor}
            for kind, source in (("first", of_part), ("total", of_part), ("shapley", part)):
                row |= dict(zip((kind, f"{kind}_low", f"{kind}_high"), source.interval(kind), strict=True))
            rows.append(row)
    return pd.DataFrame(rows)


def verdict_table(card: Verdicts) -> pd.DataFrame:
    """One row a circuit: in how many settings its faithfulness surely, perhaps, hardly and surely not reaches the
    threshold, and the same of its percentile among ``random_n`` random circuits and ``random_threshold``
    (``random_...``; NaN without)."""
    rows = []
    for circuit in card.circuits:
        against = circuit.random
        row: dict[str, Any] = {"circuit": circuit.name, "threshold": circuit.flips.threshold}
        row |= {"random_n": against.n if against else 0}
        row |= {"random_threshold": against.above.threshold if against else float("nan")}
        for prefix, found in (("", circuit.counted), ("random_", circuit.counted_above_random)):
            parts = ("surely", "perhaps", "hardly", "surely_not")
            row |= {
                f"{prefix}{part}": value
                for part, value in zip(parts, _parts(found) if found else [float("nan")] * 4, strict=True)
            }
        rows.append(row)
    return pd.DataFrame(rows)


def _parts(found: SettingCounts) -> list[int]:
    """Surely, perhaps, hardly and surely not: they add up to the settings."""
    surely, reached, surely_not = found.surely, found.reached, found.surely_not
    return [surely, max(reached - surely, 0), max(found.settings - reached - surely_not, 0), surely_not]


def card_tables(card: GridVerdicts) -> Iterable[tuple[str, list[str], list[list[str]]]]:
    """The card as tables for a terminal: (title, columns, rows of text) each."""
    names = [circuit.name for circuit in card.circuits]
    yield from _settings_table(card, names)
    for circuit in card.circuits:
        yield from _circuit_tables(circuit)
    if card.comparison:
        columns = ["circuits", "settings: first better", "second better", "reversals: raw", "significant"]
        columns += ["simultaneous", "of"]
        rows = [
            [f"{pair.first}, {pair.second}", *map(str, pair.counted_better)]
            + [str(pair.reversals_raw), str(pair.reversals_significant), str(pair.reversals_simultaneous)]
            + [str(pair.setting_pairs)]
            for pair in card.comparison.pairs
        ]
        yield "rank reversals between settings", columns, rows
    if card.undefined:
        rows = [[str(part.n), part.settings[0], part.reason] for part in card.undefined]
        yield "settings without a meaning here", ["settings", "such as", "because"], rows


def _settings_table(card: GridVerdicts, names: list[str]) -> Iterable[tuple[str, list[str], list[list[str]]]]:
    """Every setting from worst to best."""
    factors, many = card.settings.varying, len(names) > 1
    random = any(circuit.random for circuit in card.circuits)
    ranks = card.comparison.ranks if card.comparison else {}
    entries = list(zip(*(circuit.values for circuit in card.circuits), strict=True))
    rows = []
    for d, of_circuits in enumerate(entries):
        row = [of_circuits[0].levels[factor] for factor in factors]
        for name, entry in zip(names, of_circuits, strict=True):
            row += [faithfulness_text(entry), *([percent(entry.percentile)] if random else [])]
            row += [f"{ranks[name][d]:g}"] if many else []
        rows.append((sum(entry.value for entry in of_circuits), row))
    columns = list(factors)
    for name in names:
        columns += [f"{name} [95 %]" if many else "faithfulness [95 %]"]
        columns += ["above random"] * random + ["rank"] * many
    rows.sort(key=lambda pair: pair[0])
    yield f"{len(rows)} settings, from worst to best", columns, [row for _, row in rows]


def _circuit_tables(circuit: CircuitVerdict) -> Iterable[tuple[str, list[str], list[list[str]]]]:
    """The shares of the variance of one circuit."""
    of_part, variance = {part.factor: part for part in circuit.exact.factors if part.measured}, circuit.variance
    rows = [
        [part.factor, str(part.levels)]
        + [
            variance_share(of_part[part.factor], kind) if part.factor in of_part else MISSING
            for kind in ("first", "total")
        ]
        + [variance_share(part, "shapley")]
        for part in variance.factors
        if part.measured
    ]
    if not rows:
        yield f"{circuit.name}: the settings agree", [], []
        return
    title = f"{circuit.name}: variance over settings {number_of_any_size(variance.variance)}"
    title += f", less {number_of_any_size(variance.noise)} of noise"
    if circuit.variance_of_complete_part:
        title += f"; alone and with interactions: of the {circuit.exact.n_settings} that are a complete factorial"
    yield title, ["choice", "levels", "alone", "with interactions", "Shapley, all settings"], rows
    interactions = [part for part in circuit.exact.interactions or () if part.share >= 0.01][:5]
    if interactions:
        rows = [[" x ".join(part.factors), percent(part.share)] for part in interactions]
        yield f"{circuit.name}: largest interactions", ["choices", "share"], rows
