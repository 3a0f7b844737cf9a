"""Edge scores, and the circuits made from them."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import DataError, MethodError, NotFinite, unknown
from .model.graph import Graph, InputNodes


@dataclass(frozen=True, eq=False)
class EdgeScores:
    """How much each edge matters; bigger absolute value = more.

    Args:
        graph: the graph that the scores are of.
        values: float [n_writers, n_readers]; NaN where no edge exists, which is filled in.

    Raises:
        MethodError: a shape that is not the graph's.
        NotFinite: an existing edge whose score is NaN or infinite.
    """

    graph: Graph
    values: Tensor

    def __post_init__(self) -> None:
        exists = self.graph.exists
        if self.values.shape != exists.shape:
            turned = " Transpose them." if self.values.shape == exists.T.shape else ""
            raise MethodError(
                f"scores have shape {tuple(self.values.shape)}; this graph's are {tuple(exists.shape)}: rows are "
                f"writers (graph.writers), columns are readers (graph.readers).{turned}"
            )
        values = self.values.detach().cpu().double().masked_fill(~exists, float("nan"))
        bad = self.graph.named(exists & ~values.isfinite())
        if bad:
            raise NotFinite(f"{len(bad)} of {self.graph.n_edges} scores are NaN or infinite, the first is {bad[0]}'s.")
        object.__setattr__(self, "values", values)

    @classmethod
    def from_mapping(cls, graph: Graph, scores: Mapping[str, float]) -> EdgeScores:
        """Scores by edge name; edges not named score 0. Raises MethodError for an edge that the graph does not have."""
        values = torch.zeros(graph.exists.shape, dtype=torch.float64)
        for edge, score in scores.items():
            try:
                values[graph.index(edge)] = float(score)
            except (DataError, TypeError, ValueError) as error:
                raise MethodError(f"scores[{edge!r}] = {score!r}: {error}") from None
        return cls(graph, values)

    def flat(self) -> np.ndarray:
        """Scores of the existing edges in ``graph.edges`` order: float64 [n_edges]."""
        return self.values[self.graph.exists].numpy()


@dataclass(frozen=True, eq=False)
class NodeScores:
    """How much each node matters; bigger absolute value = more. For methods that score nodes and not edges.

    Args:
        graph: the graph that the scores are of.
        values: float [n_writers], one for each node that writes, in the order of ``graph.writers``.

    Raises:
        MethodError: a shape that is not the graph's.
        NotFinite: a score that is NaN or infinite.
    """

    graph: Graph
    values: Tensor

    def __post_init__(self) -> None:
        writers = self.graph.writers
        if tuple(self.values.shape) != (len(writers),):
            raise MethodError(
                f"node scores have shape {tuple(self.values.shape)}; this graph's are ({len(writers)},), one for each "
                f"of graph.writers, {writers[0]} first."
            )
        values = self.values.detach().cpu().double()
        if bad := [name for name, finite in zip(writers, values.isfinite().tolist(), strict=True) if not finite]:
            raise NotFinite(f"{len(bad)} of {len(writers)} node scores are NaN or infinite, the first is {bad[0]}'s.")
        object.__setattr__(self, "values", values)

    @classmethod
    def from_mapping(cls, graph: Graph, scores: Mapping[str, float]) -> NodeScores:
        """Scores by node name; nodes not named score 0. Raises MethodError for a node that does not write."""
        place = {name: i for i, name in enumerate(graph.writers)}
        values = torch.zeros(len(place), dtype=torch.float64)
        for node, score in scores.items():
            if node not in place:
                shown = (*graph.writers[:3], "...", graph.writers[-1])
                raise MethodError(unknown("node", str(node), place, shown=shown))
            try:
                values[place[node]] = float(score)
            except (TypeError, ValueError) as error:
                raise MethodError(f"scores[{node!r}] = {score!r}: {error}") from None
        return cls(graph, values)

    def edges(self) -> EdgeScores:
        """The scores spread to edges: an edge has the score of that of its two nodes whose absolute score is smaller.

        The logits have no score and count as the larger one. So the edges of a threshold are those between its nodes,
        and a node's best edge scores what the node does: recovery of nodes is that of the scores as given.
        """
        place = {name: i for i, name in enumerate(self.graph.writers)}
        owner = torch.tensor([place.get(self.graph.node_of_reader(reader), -1) for reader in self.graph.readers])
        written = self.values[:, None].expand(-1, len(owner))
        read = self.values[owner.clamp_min(0)].expand(len(place), -1)
        smaller = (owner >= 0) & (read.abs() < written.abs())
        return EdgeScores(self.graph, torch.where(smaller, read, written).clone())


@dataclass(frozen=True, eq=False)
class Circuit:
    """A set of edges of a graph: bool [n_writers, n_readers]. Never changed in place."""

    graph: Graph
    edges: Tensor

    def __post_init__(self) -> None:
        if self.edges.shape != self.graph.exists.shape or self.edges.dtype != torch.bool:
            raise DataError(f"a circuit of this graph is a bool matrix {tuple(self.graph.exists.shape)}.")
        object.__setattr__(self, "edges", (self.edges & self.graph.exists).clone())

    @classmethod
    def of(cls, graph: Graph, names) -> Circuit:
        """The circuit of the named edges. Raises DataError for an edge that the graph does not have."""
        return cls(graph, graph.matrix(names))

    @cached_property
    def n_edges(self) -> int:
        return int(self.edges.sum())

    @property
    def names(self) -> list[str]:
        """Edge names, in index order."""
        return self.graph.named(self.edges)

    def pruned(self) -> Circuit:
        """Without the edges that are on no path of kept edges from an input node to the logits."""
        return Circuit(self.graph, torch.from_numpy(self.graph.on_paths(self.edges.numpy())))


def on_inputs(circuit: Circuit, inputs: InputNodes) -> Circuit:
    """The circuit on the same graph with another choice of input nodes.

    Edges of other nodes stay. A position embedding that was on no edge (``token``) is never cut, so that where it has
    edges of its own they are all kept. A node that was one and becomes two gives both its edges; two that become one
    are kept where either was; where positions leave the graph, the token's edges stay.
    """
    old = circuit.graph
    if inputs == old.inputs:
        return circuit
    new, rest = replace(old, inputs=inputs), circuit.edges[len(old.input_nodes) :]
    token, position = circuit.edges[0], circuit.edges[len(old.input_nodes) - 1]
    if inputs == "split":
        rows = torch.stack([token, torch.ones_like(token) if old.inputs == "token" else token])
    else:
        rows = (token | position if inputs == "sum" else token)[None]
    return Circuit(new, torch.cat([rows, rest]))


def ranking(scores: EdgeScores, absolute: bool = True) -> np.ndarray:
    """Positions in ``graph.edges``, best first; ties in index order, so the order is the same everywhere."""
    flat = scores.flat()
    return np.argsort(-(np.abs(flat) if absolute else flat), kind="stable")


def top_n(scores: EdgeScores, n: int, absolute: bool = True) -> Circuit:
    """The ``n`` edges of largest (absolute) score; ties go to the edge of lower index.

    Raises:
        DataError: ``n`` outside 0 .. n_edges.
    """
    graph = scores.graph
    if not 0 <= n <= graph.n_edges:
        raise DataError(f"a circuit of {n} edges was asked for; this graph has 0 to {graph.n_edges:,}.")
    chosen = np.zeros(graph.n_edges, dtype=bool)
    chosen[ranking(scores, absolute)[:n]] = True
    edges = torch.zeros_like(graph.exists)
    edges[graph.exists] = torch.from_numpy(chosen)
    return Circuit(graph, edges)


def threshold(scores: EdgeScores, t: float, absolute: bool = True) -> Circuit:
    """The edges whose (absolute) score is at least ``t``."""
    values = scores.values.abs() if absolute else scores.values
    return Circuit(scores.graph, (values >= t) & scores.graph.exists)


def greedy(scores: EdgeScores, n: int, absolute: bool = True) -> Circuit:
    """Grown back from the logits: ``n`` times, the best edge into a node already in the circuit (EAP-IG, section 6).

    Fewer than ``n`` edges come back only when every edge has been taken.
    """
    return grown(scores, (n,), absolute)[0]


def grown(scores: EdgeScores, sizes: Sequence[int], absolute: bool = True) -> tuple[Circuit, ...]:
    """``greedy`` circuits of several sizes from one growth: each is the beginning of the larger ones."""
    graph = scores.graph
    values = (scores.values.abs() if absolute else scores.values).numpy()
    exists = graph.exists.numpy()
    edges, frontier, taken = np.zeros_like(exists), [], set()

    def reach(readers: Sequence[int]) -> None:
        for r in set(readers) - taken:
            taken.add(r)
            for w in exists[:, r].nonzero()[0].tolist():
                heapq.heappush(frontier, (-float(values[w, r]), w, r))

    reach(graph.nodes[-1].readers)
    found: dict[int, Circuit] = {}
    for n in range(max(sizes) + 1):
        if n in sizes:
            found[n] = Circuit(graph, torch.from_numpy(edges))
        if not frontier:
            break
        _, w, r = heapq.heappop(frontier)
        edges[w, r] = True
        reach(graph.readers_behind(w, r))
    return tuple(found.get(n) or Circuit(graph, torch.from_numpy(edges)) for n in sizes)


@dataclass(frozen=True, eq=False)
class NativeCircuit:
    """A circuit that a method returned itself, with what tells it apart: a threshold, a target sparsity."""

    label: Mapping[str, float]
    circuit: Circuit


@dataclass(frozen=True, eq=False)
class Discovery:
    """What a method returns: scores, any circuits of its own, and diagnostics that can be written as JSON."""

    scores: EdgeScores
    circuits: tuple[NativeCircuit, ...] = ()
    diagnostics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Reference:
    """What recovery is scored against: a certified truth under one ablation, or a published circuit.

    Args:
        name: for reports.
        graph: whose edges these are.
        core: bool [n_writers, n_readers], the positives.
        optional: edges in some minimal circuits and not in others; left out of every score.
        structural: edges whose read and write subspaces meet (the hard negatives among them), where known.
        certified: false for published circuits, which are references and not truths.
        minimal: every minimal circuit, where all of them were enumerated.
        missed: true edges that this graph has no edge for, by the name of their writer: a truth about other features.
            They count as true edges of score zero that no circuit has.
    """

    name: str
    graph: Graph
    core: Tensor
    optional: Tensor
    structural: Tensor | None = None
    certified: bool = True
    minimal: tuple[Circuit, ...] | None = None
    missed: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """How many true edges there are."""
        return int(self.core.sum()) + len(self.missed)
