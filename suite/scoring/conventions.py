"""Edges and nodes as papers count them, so that an area or a size is set beside one of the same things.

A paper's unit stands for one or several edges of ours. It is true when one of them is; it is left out when its edges
are optional and none is true; its score is the largest absolute score of its edges that are not optional, because a
circuit holds the unit as soon as it holds one of them.

``acdc-edges``         every edge, and for each query, key and value the way from it into its head, which a circuit
                       holds when something reaches it ("direct computation")
``acdc-nodes``         what writes, the logits, and two nodes for each query, key and value: what it reads and what it
                       is. An MLP is one node, held when it is read
``auto-circuit``       both embeddings are one input; queries, keys and values stay apart
``interpbench``        both embeddings are one input; a head's query, key and value are the head; the input's edge to
                       the logits is no edge. InterpBench's truth is also the product of all nodes of two steps of a
                       program; here a step is one node, and there is nothing to multiply

Conmy et al. 2023 (arXiv 2304.14997); Miller et al. 2024 (arXiv 2407.08734); Gupta et al. 2024 (arXiv 2407.14494).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import NamedTuple

import numpy as np

from ..model.graph import Graph
from ..rounding import floor
from . import ranking
from .published import pessimistic_auc

Units = Iterator[tuple[Hashable, int, int]]
"""(unit, writer, reader): a unit and one of the edges that it stands for."""


class Counted(NamedTuple):
    """The units of a convention that are not left out.

    Args:
        labels: bool [n_units], which are true.
        values: float64 [n_units], their scores.
    """

    labels: np.ndarray
    values: np.ndarray

    def measures(self) -> dict[str, float]:
        """``auroc``, ACDC's ``pessimistic_auc``, ``true_size`` and ``units``, the number of units; NaN if undefined."""
        areas = {
            "auroc": ranking.auroc(self.labels, self.values),
            "pessimistic_auc": pessimistic_auc(*ranking.roc_curve(self.labels, self.values)),
        }
        return {**areas, "true_size": float(self.labels.sum()), "units": float(len(self.labels))}


def counted(convention: str, graph: Graph, scores: np.ndarray, core: np.ndarray, optional: np.ndarray) -> Counted:
    """A ranking of edges against a truth, in the units of a paper.

    Args:
        convention: a name of ``CONVENTIONS``.
        scores: float [n_writers, n_readers], NaN for pairs without an edge. Units are ranked by absolute size, as in
            ``recovery``.
        core, optional: bool [n_writers, n_readers], the true edges, and the edges that are left out.
    """
    sizes = np.abs(floor(np.nan_to_num(scores)))
    places: dict[Hashable, int] = {}
    members = np.array([(places.setdefault(unit, len(places)), w, r) for unit, w, r in CONVENTIONS[convention](graph)])
    unit, edges = members[:, 0], (members[:, 1], members[:, 2])
    true, without = np.zeros(len(places), dtype=bool), np.zeros(len(places), dtype=bool)
    np.logical_or.at(true, unit, core[edges])
    np.logical_or.at(without, unit, optional[edges])
    values = np.zeros(len(places))
    np.maximum.at(values, unit, np.where(optional[edges], 0.0, sizes[edges]))
    kept = true | ~without
    return Counted(true[kept], values[kept])


def _edges(graph: Graph) -> Iterator[tuple[int, int]]:
    yield from np.argwhere(graph.existing).tolist()


def _is_part(graph: Graph, reader: int) -> bool:
    """Whether a reader is a head's query, key or value."""
    name = graph.readers[reader]
    return graph.node_of_reader(name) != name


def _acdc_edges(graph: Graph) -> Units:
    for w, r in _edges(graph):
        yield ("edge", w, r), w, r
        if _is_part(graph, r):
            yield ("direct", r), w, r


def _acdc_nodes(graph: Graph) -> Units:
    for w, r in _edges(graph):
        yield ("writes", w), w, r
        if _is_part(graph, r):
            yield ("read", r), w, r
            yield ("part", r), w, r
            yield ("writes", graph.owners[r]), w, r  # an input in the circuit reaches its head's output
        elif graph.owners[r] < 0:
            yield ("logits",), w, r


def _auto_circuit(graph: Graph) -> Units:
    n_inputs = len(graph.input_nodes)
    for w, r in _edges(graph):
        yield (max(w - n_inputs + 1, 0), r), w, r


def _interpbench(graph: Graph) -> Units:
    n_inputs = len(graph.input_nodes)
    for w, r in _edges(graph):
        if w >= n_inputs or graph.owners[r] >= 0:
            yield (max(w - n_inputs + 1, 0), graph.owners[r]), w, r


CONVENTIONS: dict[str, Callable[[Graph], Units]] = {
    "acdc-edges": _acdc_edges,
    "acdc-nodes": _acdc_nodes,
    "auto-circuit": _auto_circuit,
    "interpbench": _interpbench,
}
"""Name -> the units of a graph."""
