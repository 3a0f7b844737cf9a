"""Circuits to be looked at: what the page's viewer draws of a store, small enough to stand in the page.

For every task and ablation: the true edges, and each method's edges by rank. The page itself draws them
(``templates/viewer.js``), at any size: edges found, missed and wrongly added.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ...suite.errors import StoreError
from ...suite.model.graph import Graph
from ..read.stores import Stores

BUDGET = 1_500_000
"""Bytes of a page's circuits: more would make it slow to open. What is over is left out, and the page says so."""

SMALLEST, TIMES = 60, 3
"""A method's best edges are kept: so many, or so many times the true ones."""


class Circuits(NamedTuple):
    """The viewer's JSON, and how many of the views there are it holds."""

    json: str
    shown: int
    of: int


def circuits_of(store: Stores, recovery: pd.DataFrame, budget: int = BUDGET) -> Circuits:
    """The circuits of every finished cell, one view a task and ablation, until the budget is spent.

    Args:
        recovery: ``tables.recovery_table`` of the store; where seeds are several the first one's circuit is shown.
        budget: bytes of JSON.
    """
    own = recovery[recovery["own"].astype(bool)] if len(recovery) else recovery
    views, graphs, spent = [], {}, 0
    groups = list(own.groupby(["task", "ablation"], sort=True)) if len(own) else []
    for (task, ablation), cells in groups:
        truth = store.truth(cells["certificate"].iloc[0])
        graph = Graph(**{name: value for name, value in truth["graph"].items() if name in Graph.__dataclass_fields__})
        view = {"task": task, "ablation": ablation, "graph": graph.hash, **_truth(graph, truth["ablations"][ablation])}
        view["methods"] = list(_methods(store, graph, cells, len(view["core"])))
        size = len(_dumped(view))
        if spent + size > budget:
            break
        graphs[graph.hash] = described(graph)
        views.append(view)
        spent += size
    return Circuits(_dumped({"graphs": graphs, "views": views}), len(views), len(groups))


def described(graph: Graph) -> dict[str, Any]:
    """What the page needs to know of a graph: names in order, and where nodes stand."""
    return {
        "writers": list(graph.writers),
        "readers": list(graph.readers),
        "inputs": len(graph.input_nodes),
        "layers": graph.n_layers,
        "heads": graph.n_heads,
        "mlps": graph.mlps,
        "parallel": graph.parallel,
        "edges": graph.n_edges,
    }


def _truth(graph: Graph, truth: Mapping[str, Any]) -> dict[str, list[int]]:
    names = {"core": truth["core"], "optional": truth.get("optional", ())}
    width = len(graph.readers)
    return {
        name: sorted(w * width + r for w, r in (graph.index(edge) for edge in edges)) for name, edges in names.items()
    }


def _methods(store: Stores, graph: Graph, cells: pd.DataFrame, true_size: int) -> Iterator[dict[str, Any]]:
    """Each method's best edges, ``writer * n_readers + reader``, with their scores, in the order of circuits."""
    keep = min(graph.n_edges, max(SMALLEST, TIMES * true_size))
    for label, runs in cells.groupby("label", sort=False):
        scores = store.scores(runs["key"].iloc[0])
        if scores.shape != tuple(graph.exists.shape):
            raise StoreError(f"the scores of cell {runs['key'].iloc[0]} are not those of the graph it is judged on.")
        flat = scores.reshape(-1)
        known = np.flatnonzero(~np.isnan(flat))
        order = known[np.argsort(-np.abs(flat[known]), kind="stable")][:keep]
        yield {"label": label, "edges": order.tolist(), "scores": [float(f"{flat[i]:.3g}") for i in order]}


def _dumped(value: Any) -> str:
    """JSON that can stand inside a script element: no name in it ends the element."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
