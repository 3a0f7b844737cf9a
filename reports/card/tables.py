"""A sensitivity card as tables, to draw and to print. What the numbers are: ``suite/scoring/sensitivity/card.py``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from ..page.table import MISSING, measure, percent
from .words import Card, exact, share, varying, with_interval


def value_table(card: Card) -> pd.DataFrame:
    """One row a circuit and setting: ``circuit``, ``setting``, the varying factors' levels, and the card's numbers."""
    factors = varying(card)
    rows = [
        {"circuit": circuit["name"], **{k: v for k, v in entry.items() if k != "levels"}}
        | {factor: entry["levels"][factor] for factor in factors}
        for circuit in card["circuits"]
        for entry in circuit["values"]
    ]
    return pd.DataFrame(rows)


def share_table(card: Card) -> pd.DataFrame:
    """One row a circuit and factor: its shares of the variance over settings, with interval ends; empty without any.

    First-order and total shares are those of the complete part of the grid, NaN where it does not vary by more than
    noise; Shapley shares are those of the whole grid.
    """
    rows = []
    for circuit in card["circuits"]:
        found = exact(circuit)
        by_factor = {part["factor"]: part for part in found["factors"] if found["beyond_noise"]}
        for part in circuit["variance"]["factors"]:
            if "shapley" not in part:
                continue
            of_part = by_factor.get(part["factor"], {})
            columns = [f"{kind}{end}" for kind in ("first", "total") for end in ("", "_low", "_high")]
            rows.append(
                {"circuit": circuit["name"], "factor": part["factor"]}
                | {column: of_part.get(column, float("nan")) for column in columns}
                | {f"shapley{end}": part[f"shapley{end}"] for end in ("", "_low", "_high")}
            )
    return pd.DataFrame(rows)


def verdict_table(card: Card) -> pd.DataFrame:
    """One row a circuit: in what share of the settings its faithfulness surely, perhaps, hardly and surely not reaches
    the threshold, and the same of the 95th percentile of random circuits (``random_...``; NaN without)."""
    rows = []
    for circuit in card["circuits"]:
        row: dict[str, Any] = {"circuit": circuit["name"], "threshold": circuit["flips"]["threshold"]}
        against = circuit["random"]
        for prefix, found in (("", circuit["flips"]), ("random_", against and against["above"])):
            parts = ("surely", "perhaps", "hardly", "surely_not")
            row |= {
                f"{prefix}{part}": value
                for part, value in zip(parts, _parts(found) if found else [float("nan")] * 4, strict=True)
            }
        rows.append(row)
    return pd.DataFrame(rows)


def _parts(found: Mapping[str, float]) -> list[float]:
    surely, hold, surely_not = found["surely"], found["hold"], found["surely_not"]
    return [surely, max(hold - surely, 0.0), max(1 - hold - surely_not, 0.0), surely_not]


def card_tables(card: Card) -> Iterable[tuple[str, list[str], list[list[str]]]]:
    """The card as tables for a terminal: (title, columns, rows of text) each."""
    names = [circuit["name"] for circuit in card["circuits"]]
    yield from _settings_table(card, names)
    for circuit in card["circuits"]:
        yield from _circuit_tables(circuit)
    if card["comparison"]:
        pairs = card["comparison"]["pairs"]
        columns = ["circuits", "first better", "second better", "reversals: raw", "significant", "simultaneous", "of"]
        kinds = ("reversals_raw", "reversals_significant", "reversals_simultaneous", "setting_pairs")
        rows = [
            [f"{pair['first']}, {pair['second']}", percent(pair["first_better"]), percent(pair["second_better"])]
            + [str(pair[kind]) for kind in kinds]
            for pair in pairs
        ]
        yield "rank reversals between settings", columns, rows
    if card["undefined"]:
        rows = [[str(part["n"]), part["settings"][0], part["reason"]] for part in card["undefined"]]
        yield "settings without a meaning here", ["settings", "such as", "because"], rows


def _settings_table(card: Card, names: list[str]) -> Iterable[tuple[str, list[str], list[list[str]]]]:
    """Every setting from worst to best."""
    factors, many = varying(card), len(names) > 1
    ranks = card["comparison"]["ranks"] if many else {}
    entries = list(zip(*(circuit["values"] for circuit in card["circuits"]), strict=True))
    rows = []
    for d, of_circuits in enumerate(entries):
        row = [of_circuits[0]["levels"][factor] for factor in factors]
        for name, entry in zip(names, of_circuits, strict=True):
            row += [with_interval(entry), percent(entry["percentile"])]
            row += [f"{ranks[name][d]:g}"] if many else []
        rows.append((sum(entry["value"] for entry in of_circuits), row))
    columns = list(factors)
    for name in names:
        columns += [f"{name} [95 %]" if many else "faithfulness [95 %]", "above random", *(["rank"] if many else [])]
    rows.sort(key=lambda pair: pair[0])
    yield f"{len(rows)} settings, from worst to best", columns, [row for _, row in rows]


def _circuit_tables(circuit: Mapping[str, Any]) -> Iterable[tuple[str, list[str], list[list[str]]]]:
    """The shares of the variance of one circuit."""
    of_part = {part["factor"]: part for part in exact(circuit)["factors"]}
    rows = [
        [part["factor"], str(part["levels"])]
        + [
            share(of_part[part["factor"]], kind) if kind in of_part.get(part["factor"], {}) else MISSING
            for kind in ("first", "total")
        ]
        + [share(part, "shapley")]
        for part in circuit["variance"]["factors"]
        if "shapley" in part
    ]
    variance = circuit["variance"]
    if not rows:
        yield f"{circuit['name']}: the settings agree", [], []
        return
    title = f"{circuit['name']}: variance over settings {measure(variance['variance'])}"
    title += f", less {measure(variance['noise'])} of noise"
    if circuit["variance_of_complete_part"]:
        title += f"; alone and with interactions: of the {exact(circuit)['n_settings']} that are a complete factorial"
    yield title, ["choice", "levels", "alone", "with interactions", "Shapley, all settings"], rows
    interactions = [part for part in exact(circuit)["interactions"] or [] if part["share"] >= 0.01][:5]
    if interactions:
        rows = [[" x ".join(part["factors"]), percent(part["share"])] for part in interactions]
        yield f"{circuit['name']}: largest interactions", ["choices", "share"], rows
