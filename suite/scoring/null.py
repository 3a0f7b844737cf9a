"""Random circuits of a given size, to compare a circuit with: unions of random walks from an input to the logits.

A random set of edges is easy to beat: hardly any of its edges lie on a path, so that it does nothing. These circuits
are connected: each edge is on a path of kept edges from an input node to the logits, as in the random circuits of Shi
et al. (2024, arXiv:2410.13032, section 4).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..circuit import Circuit
from ..errors import DataError
from ..intervention.levels import Component
from ..model.graph import Graph

_UNITS = {"edge": "edges", "node": "nodes", "head-qkv": "heads' queries, keys and values"}

_PATIENCE = 20
"""Walks in a row that brought nothing new, or too much: then edges between the nodes that are in fill up the rest."""

_ATTEMPTS = 200
"""Circuits begun anew before giving up on a size."""


def size_of(circuit: Circuit, component: Component = "edge") -> int:
    """The size of a circuit when it is cut as ``component``: the number of its edges, of the nodes that write to one of
    them, or of the queries, keys and values of heads that read from one."""
    return _count(circuit.edges.numpy(), component, _is_head(circuit.graph))


def random_circuits(graph: Graph, size: int, n: int, *, component: Component = "edge", seed: int = 0) -> list[Circuit]:
    """``n`` random connected circuits of exactly ``size``.

    Args:
        graph: the graph whose edges are drawn.
        size: the size of each circuit, in the units of ``size_of``. A circuit that is cut by nodes keeps all edges out
            of every node it touches, so there it must be compared with circuits of as many nodes, not edges.
        n: how many circuits; small sizes may repeat one.
        component: what is counted.
        seed: of the walks; circuit i does not depend on ``n``.

    Raises:
        DataError: a size that no connected circuit of this graph has (0, or more than there are).
    """
    most = _count(graph.exists.numpy(), component, _is_head(graph))
    if not 1 <= size <= most:
        raise DataError(f"a random circuit of {size} {_UNITS[component]} was asked for; this graph has 1 to {most:,}.")
    walker = _Walker(graph, size, component)
    return [walker.circuit(np.random.default_rng((seed, i))) for i in range(n)]


def inflated_circuits(circuit: Circuit, n: int, *, seed: int = 0) -> list[Circuit]:
    """``n`` circuits, each this one with a random walk that has a new edge, as in Shi et al.'s test of minimality.

    Args:
        seed: of the walks; circuit i does not depend on ``n``.

    Raises:
        DataError: no random walk adds an edge to the circuit.
    """
    if circuit.n_edges == circuit.graph.n_edges:
        raise DataError("the circuit is the whole graph; there is nothing to add to it.")
    walker, grown = _Walker(circuit.graph, 0, "edge"), []
    for i in range(n):
        generator, edges = np.random.default_rng((seed, i)), circuit.edges.numpy().copy()
        while (edges == circuit.edges.numpy()).all():
            edges[walker._walk(generator)] = True
        grown.append(Circuit(circuit.graph, torch.from_numpy(edges)))
    return grown


def _count(edges: np.ndarray, component: Component, is_head: np.ndarray) -> int:
    match component:
        case "node":
            return int(edges.any(1).sum())
        case "head-qkv":
            return int(edges[:, is_head].any(0).sum())
    return int(edges.sum())


def _is_head(graph: Graph) -> np.ndarray:
    is_head = np.zeros(len(graph.readers), dtype=bool)
    for group in graph.groups:
        is_head[group.readers] = group.kind == "head"
    return is_head


class _Walker:
    """Grows circuits of one graph and size."""

    def __init__(self, graph: Graph, size: int, component: Component) -> None:
        self.graph, self.size, self.component = graph, size, component
        self.exists = graph.exists.numpy()
        self.leaving = [np.flatnonzero(row) for row in self.exists]  # the readers that each writer has an edge to
        self.owner = np.array(graph.owners)
        self.n_inputs = len(graph.group["input", 0].nodes)
        self.is_head = _is_head(graph)

    def circuit(self, generator: np.random.Generator) -> Circuit:
        for _ in range(_ATTEMPTS):
            kept = self._grown(generator)
            if kept is not None:
                return Circuit(self.graph, torch.from_numpy(kept))
        raise DataError(
            f"no connected circuit of {self.size} {_UNITS[self.component]} was found in this graph ({self.graph}); "
            f"compare with no random circuits."
        )

    def _walk(self, generator: np.random.Generator) -> tuple[list[int], list[int]]:
        """Writers and readers of a path from a random input node, each step to a random reader, up to the logits."""
        writer, writers, readers = int(generator.integers(self.n_inputs)), [], []
        while writer >= 0:
            reader = int(self.leaving[writer][generator.integers(len(self.leaving[writer]))])
            writers.append(writer)
            readers.append(reader)
            writer = int(self.owner[reader])
        return writers, readers

    def _gain(self, kept: np.ndarray, edges: tuple[Sequence[int], Sequence[int]]) -> int:
        """By how much the circuit grows when distinct ``edges`` are added."""
        if self.component == "edge":
            return int((~kept[edges]).sum())
        grown = kept.copy()
        grown[edges] = True
        return self._count(grown) - self._count(kept)

    def _count(self, kept: np.ndarray) -> int:
        return _count(kept, self.component, self.is_head)

    def _grown(self, generator: np.random.Generator) -> np.ndarray | None:
        """A connected circuit of the size: bool [n_writers, n_readers]; None when it cannot grow to that size."""
        kept, left = np.zeros_like(self.exists), self.size
        while left:
            idle = 0
            while left and idle < _PATIENCE:
                path = self._walk(generator)
                gain = self._gain(kept, path)
                fits = 0 < gain <= left
                if fits:
                    kept[path] = True
                    left -= gain
                idle = 0 if fits else idle + 1
            if left:
                edges = self._fill(kept, left, generator)
                if edges is None:
                    return None
                left -= self._gain(kept, edges)
                kept[edges] = True
        return kept

    def _fill(
        self, kept: np.ndarray, left: int, generator: np.random.Generator
    ) -> tuple[Sequence[int], Sequence[int]] | None:
        """Edges to add: as many between the circuit's nodes as fit, or a detour through another node; else None."""
        fed = kept.any(1)
        leads_on = np.where(self.owner >= 0, fed[self.owner], True)
        fed[: self.n_inputs] = True
        free = generator.permutation(np.argwhere(self.exists & ~kept & fed[:, None]))
        if self.component == "edge":
            between = free[leads_on[free[:, 1]]][:left]
            if len(between):
                return tuple(between.T)
        for writer, reader in free.tolist():
            writers, readers = [writer], [reader]
            if not leads_on[reader]:
                node = self.owner[reader]
                writers.append(int(node))
                readers.append(int(generator.choice(np.flatnonzero(self.exists[node] & leads_on))))
            if 0 < self._gain(kept, (writers, readers)) <= left:
                return writers, readers
        return None
