"""The sensitivity card of a store in plain words; every number is the card's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..card.words import exact
from ..read.labels import BASELINES, method_of
from .sensitivity import THRESHOLD, Sensitivity


def in_words(found: Sensitivity) -> tuple[str, ...]:
    """What the numbers mean, for somebody who reads nothing else; empty where nothing was evaluated twice."""
    table = found.table[~found.table["label"].map(method_of).isin(BASELINES)]
    if table.empty or found.card is None:
        return ()
    which = "the true size" if found.size == "true" else f"{100 * float(found.size):g} % of the edges"
    contested = table[(table["surely"] > 0) & (table["surely_not"] > 0)]
    agreed = table[(table["surely"] > 1 - 1e-9) | (table["surely_not"] > 1 - 1e-9)]
    first = (
        f"Would this circuit be called faithful? Say that it is from {THRESHOLD:g} on (1: the full model, 0: "
        f"everything cut; the median over programs, circuits of {which}). Of {len(table)} pairs of method and "
        f"discovery ablation, the settings of the evaluation contradict each other beyond their 95 % intervals in "
        f"{len(contested)}: surely faithful in one, surely not in another. All settings surely agree in {len(agreed)}."
    )
    circuits = found.card["circuits"]
    parts = [f"{_holds(entry)} ({entry['name']})" for entry in circuits]
    n, leader = len(circuits[0]["values"]), max(circuits, key=lambda entry: entry["spread"]["mean"])
    second = (
        f"Drawn below: {found.card['subject']}. Settings, of {n}, in which the circuits are faithful: "
        f"{', '.join(parts)}. The widest range among them is that from {_said(_most_moved(circuits)['worst'])} to "
        f"{_said(_most_moved(circuits)['best'])}."
    )
    sources = [part for part in exact(leader)["factors"] if "shapley" in part]
    if len(sources) > 1 and exact(leader)["beyond_noise"]:
        main = max(sources, key=lambda part: part["shapley"])
        second += (
            f" Of the variance between the settings of {leader['name']} {100 * main['shapley']:.0f} % is due to the "
            f"choice of {main['factor']} (95 % interval {100 * main['shapley_low']:.0f} to "
            f"{100 * main['shapley_high']:.0f} %)."
        )
    return first, second


def _most_moved(circuits: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The circuits whose faithfulness depends most on the setting."""
    return max(circuits, key=lambda entry: entry["range"][0])


def _holds(entry: dict[str, Any]) -> int:
    return sum(value["value"] >= THRESHOLD for value in entry["values"])


def _said(value: dict[str, Any]) -> str:
    return f"{value['value']:.2f} [{value['low']:.2f}, {value['high']:.2f}] ({value['setting']})"
