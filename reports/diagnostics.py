"""Which structures a method misses: gate by gate, whether what it ranks first is a circuit that suffices.

A gate counts as found when the edges ranked first, as many as its smallest minimal circuit has, are a minimal circuit.
A tie across that border tells nothing apart and counts as missed, so that edges which all score zero are not found by
the order in which they happen to be listed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..suite.harness.store import Store
from ..suite.model.graph import Graph
from .tables import cell_columns

FAMILY = "gates/"
TIE = 1e-6  # of the largest score: nearer than this, two scores are equal


def finds(scores: np.ndarray, graph: Graph, circuits: Sequence[Sequence[str]]) -> bool:
    """Whether the best-ranked edges are a minimal circuit.

    Args:
        scores: float [n_edges] in ``graph.edges`` order, or [n_writers, n_readers]; the bigger the absolute value, the
            better.
        circuits: the minimal circuits, by edge names.
    """
    size = min(map(len, circuits))
    strength = np.abs(scores[graph.exists.numpy()] if scores.ndim == 2 else scores)
    order = np.argsort(-strength, kind="stable")
    if size < len(order) and strength[order[size - 1]] - strength[order[size]] <= TIE * strength.max():
        return False
    names = [str(edge) for edge in graph.edges]
    return {names[i] for i in order[:size]} in [set(circuit) for circuit in circuits]


def structure_table(store: Store, records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a finished cell on a gate: its structure, method, ablation and objective, and whether it found it."""
    chosen = [
        record for record in records if record["status"] == "done" and record["identity"]["task"].startswith(FAMILY)
    ]
    rows = []
    for record, columns in zip(chosen, cell_columns(chosen), strict=True):
        certificate = store.truth(record["identity"]["truth"])
        claim = certificate["ablations"].get(record["identity"]["ablation"])
        if claim is None or "circuits" not in claim:
            continue
        graph = Graph(**{key: value for key, value in certificate["graph"].items() if key != "hash"})
        found = finds(store.scores(record["key"]), graph, claim["circuits"])
        rows.append({**columns, "structure": columns["task"].removeprefix(FAMILY), "found": found})
    return pd.DataFrame(rows)


def structures(table: pd.DataFrame) -> pd.DataFrame:
    """Methods by structure, under each ablation: the fraction of cells (seeds, objectives) in which it was found."""
    if table.empty:
        return table
    return table.pivot_table(index=["ablation", "label"], columns="structure", values="found", aggfunc="mean")
