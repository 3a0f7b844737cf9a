"""Which structures a method misses: model by model, whether what it ranks first is a circuit that suffices.

A structure is a gate, or what the models of a family have in common. It counts as found when the edges ranked first, as
many as its smallest minimal circuit has, are a minimal circuit. A tie across that border counts as missed, so that
edges which all score zero are not found by the order in which they happen to be listed. The method that is given the
answer takes no part: where several circuits suffice, what it is given is the edges in all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .labels import BASELINES, ORACLE, method_of, ordered_ablations
from .stores import Stores
from .tables import CELL_COLUMNS, cell_columns

if TYPE_CHECKING:
    from ...suite.model.graph import Graph
    from ...suite.store.record import Record

_GATES_PREFIX = "gates/"
_NAMES_OF_FAMILIES = {"tracr-rotated/": "random basis", "trained/": "trained"}
NORMS = "trained, norms"
_TIE = 1e-6  # of the largest score: nearer than this, two scores are equal


def finds(scores: np.ndarray, graph: Graph, circuits: Sequence[Sequence[str]]) -> bool:
    """Whether the best-ranked edges are a minimal circuit.

    Args:
        scores: float [n_edges] in ``graph.edges`` order, or [n_writers, n_readers]; the bigger the absolute value, the
            better.
        circuits: the minimal circuits, by edge names.
    """
    size = min(map(len, circuits))
    strength = np.abs(scores[graph.existing] if scores.ndim == 2 else scores)
    order = np.argsort(-strength, kind="stable")
    if size < len(order) and strength[order[size - 1]] - strength[order[size]] <= _TIE * strength.max():
        return False
    names = [str(edge) for edge in graph.edges]
    return {names[i] for i in order[:size]} in [set(circuit) for circuit in circuits]


def structure_of(task: str) -> str | None:
    """The structure that a task stands for; None for one that is made to show none."""
    if task.startswith(_GATES_PREFIX):
        return task.removeprefix(_GATES_PREFIX)
    family = next((name for prefix, name in _NAMES_OF_FAMILIES.items() if task.startswith(prefix)), None)
    return NORMS if family == "trained" and "-norm" in task else family


def structure_table(store: Stores, records: Sequence[Record]) -> pd.DataFrame:
    """One row a finished cell on a structure: its name, method, ablation and objective, and whether it was found."""

    rows = []
    for record, columns in zip(records, cell_columns(records), strict=True):
        identity = record.identity
        structure = structure_of(identity.task)
        if not record.done or identity.truth is None or identity.method == ORACLE or structure is None:
            continue
        certificate = store.truth(identity.truth)
        claim = certificate.ablations.get(identity.ablation)
        circuits = None if claim is None else claim.known_circuits
        if circuits is None:
            continue
        found = finds(store.scores(record.key), certificate.graph.build(), circuits)
        rows.append({**columns._asdict(), "structure": structure, "found": found})
    return pd.DataFrame(rows, columns=[*CELL_COLUMNS, "structure", "found"])


def structures_found(table: pd.DataFrame) -> pd.DataFrame:
    """One row a label, ablation and structure: ``found``, the fraction of ``n_cells`` in which it was found, which are
    seeds and the programs of a family.

    Methods that find most first, baselines last; ``place`` orders the structures: gates before families, and of each
    those that most methods find first.
    """
    if table.empty:
        return pd.DataFrame(columns=["label", "ablation", "structure", "found", "n_cells", "place"])
    shares = table.groupby(["label", "ablation", "structure"])["found"].agg(["mean", "size"]).reset_index()
    shares = shares.rename(columns={"mean": "found", "size": "n_cells"})
    by_label, by_structure = (shares.groupby(name)["found"].mean().round(9) for name in ("label", "structure"))
    place = {name: i for i, name in enumerate(ordered_ablations(shares["ablation"]))}
    keys: dict[str, dict[str, Any]] = {
        "label": {name: (method_of(name) in BASELINES, -share, name) for name, share in by_label.items()},
        "structure": {
            name: (name in (*_NAMES_OF_FAMILIES.values(), NORMS), -share, name) for name, share in by_structure.items()
        },
        "ablation": place,
    }
    ranks = {
        column: {name: i for i, name in enumerate(sorted(order, key=order.__getitem__))}
        for column, order in keys.items()
    }
    order = shares.assign(**{column: shares[column].map(rank) for column, rank in ranks.items()})
    shares["place"] = order["structure"]
    return shares.loc[order.sort_values(["label", "ablation", "structure"]).index].reset_index(drop=True)
