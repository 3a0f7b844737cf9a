"""Circuits to be looked at: what the page's viewer draws, of a store or of single circuits, as JSON.

For every task and ablation: the true edges, and each method's edges by rank. The page itself draws them
(``templates/viewer.js``), at any size: edges found, missed and wrongly added.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ...ground_truth.certificate import Claim
from ...suite.errors import StoreError
from ...suite.model.graph import Graph
from ..read.stores import Stores
from .circuit_view import IN_CIRCUIT, MARKS, CircuitView
from .table import MISSING, number_of_any_size

BUDGET = 1_500_000
"""Bytes of a page's circuits: more would make it slow to open. What is over is left out, and the page says so."""

_SMALLEST, TIMES = 60, 3
"""A method's best edges are kept: so many, or so many times the true ones."""

START = 100
"""Edges of a large circuit that are drawn at first: of thousands, nothing could be told apart."""

MOST_EDGES = 4000
"""Edges of a single circuit's scores that the slider goes through at most."""


class ViewerData(NamedTuple):
    """The viewer's JSON, how many views it holds, and how many there are."""

    json: str
    shown: int
    of: int


def circuits_of(store: Stores, recovery: pd.DataFrame, budget: int = BUDGET) -> ViewerData:
    """The circuits of every finished cell, one view a task and ablation, until the budget is spent.

    Args:
        recovery: ``tables.recovery_table`` of the store. If there are several seeds, the first one's circuit is shown.
        budget: bytes of JSON.
    """
    own = recovery[recovery["own"].astype(bool)] if len(recovery) else recovery
    views, graphs, spent = [], {}, 0
    groups = list(own.groupby(["task", "ablation"], sort=True)) if len(own) else []
    for (task, ablation), cells in groups:
        truth = store.truth(cells["certificate"].iloc[0])
        graph = truth.graph.build()
        view = {"task": task, "ablation": ablation, "graph": graph.hash, **_truth(graph, truth.ablations[ablation])}
        view["methods"] = list(_methods(store, graph, cells, len(view["core"])))
        size = len(_dumped(view))
        if spent + size > budget:
            break
        graphs[graph.hash] = described(graph)
        views.append(view)
        spent += size
    return ViewerData(_page(graphs, views), len(views), len(groups))


def described(graph: Graph) -> dict[str, Any]:
    """A graph as the page needs it: names in order, and the rows in which its nodes stand, the inputs first.

    Nodes of a layer that see the same writers have one row: all heads, a component's features and its error node.
    """
    alike = groupby(graph.groups, key=lambda group: (group.layer, group.sees.stop))
    return {
        "writers": list(graph.writers),
        "readers": list(graph.readers),
        "rows": [[node for group in groups for node in group.nodes] for _, groups in alike],
        "edges": graph.n_edges,
    }


def views_json(views: Sequence[CircuitView]) -> str:
    """The JSON of circuits that are drawn one by one, for the viewer."""
    graphs = {view.graph.hash: described(view.graph) for view in views}
    return _page(graphs, [_view(view) for view in views])


def _view(view: CircuitView) -> dict[str, Any]:
    """One circuit: its edges first, by the size of their scores, then those that it leaves out."""
    graph, width = view.graph, len(view.graph.readers)

    def place(edge: str) -> int:
        writer, reader = graph.index(edge)
        return writer * width + reader

    def by_score(edges: Iterable[str]) -> list[str]:
        return sorted(edges, key=lambda edge: -abs(view.scores.get(edge, 0.0)))

    kept = by_score(str(arrow.edge) for arrow in view.arrows if arrow.mark in IN_CIRCUIT)
    among_kept = set(kept)
    others = by_score(edge for edge, score in view.scores.items() if score and edge not in among_kept)
    ranked = [*kept, *others][: max(MOST_EDGES, len(kept))]
    marked = {mark: [place(str(a.edge)) for a in view.arrows if a.mark == mark] for mark in MARKS}
    scored = all(edge in view.scores for edge in kept) and bool(view.scores)
    found: dict[str, Any] = {"task": view.title, "title": view.title, "graph": graph.hash, "size": len(kept)}
    found |= {"core": None, "optional": None, "inert": None}
    if view.against_truth:
        core = [*marked["true"], *marked["found"], *marked["missed"]]
        found |= {"core": core, "optional": [*map(place, view.optional)]}
        found["inert"] = marked["inert"]
    notes = {place(str(a.edge)): _note(a.carries, a.why) for a in view.arrows if a.carries or a.why}
    writes = {node: ", ".join(names) for node, names in view.nodes.items() if names}
    method: dict[str, Any] = {"label": "circuit", "edges": [place(edge) for edge in ranked]}
    if scored:
        method |= _scores(view.scores[edge] for edge in ranked)
        found["start"] = min(START, len(kept)) if not view.against_truth else len(kept)
    return found | {"notes": notes, "writes": writes, "methods": [method]}


def _note(carries: Sequence[str], why: str) -> str:
    return "; ".join(filter(None, (f"carries {', '.join(carries)}" * bool(carries), why)))


def _truth(graph: Graph, truth: Claim) -> dict[str, list[int]]:
    names = {"core": truth.core, "optional": truth.optional}
    width = len(graph.readers)
    return {
        name: sorted(w * width + r for w, r in (graph.index(edge) for edge in edges)) for name, edges in names.items()
    }


def _methods(store: Stores, graph: Graph, cells: pd.DataFrame, true_size: int) -> Iterator[dict[str, Any]]:
    """Each method's best edges, ``writer * n_readers + reader``, with their scores, in the order of circuits."""
    keep = min(graph.n_edges, max(_SMALLEST, TIMES * true_size))
    for label, runs in cells.groupby("label", sort=False):
        scores = store.scores(runs["key"].iloc[0])
        if scores.shape != tuple(graph.existing.shape):
            raise StoreError(f"the scores of cell {runs['key'].iloc[0]} are not those of the graph it is judged on.")
        flat = scores.reshape(-1)
        known = np.flatnonzero(~np.isnan(flat))
        order = known[np.argsort(-np.abs(flat[known]), kind="stable")][:keep]
        yield {"label": label, "edges": order.tolist(), **_scores(flat[order].tolist())}


def _scores(scores: Iterable[float]) -> dict[str, Any]:
    """The scores of edges: as numbers, by which the page draws lines, and as the text that it shows."""
    values = list(scores)
    return {"scores": [float(f"{value:.2g}") for value in values], "texts": list(map(number_of_any_size, values))}


def _page(graphs: dict[str, Any], views: list[dict[str, Any]]) -> str:
    return _dumped({"missing": MISSING, "graphs": graphs, "views": views})


def _dumped(value: Any) -> str:
    """JSON that can stand inside a script element: no name in it ends the element."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
