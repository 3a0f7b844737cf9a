"""What a circuit file says, and how a circuit moves between graphs with other input nodes: exactly, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..circuit import Circuit, EdgeScores, on_inputs
from ..errors import DataError
from ..model.graph import Graph, InputNodes


@dataclass(frozen=True, eq=False)
class CircuitFile:
    """A circuit read from a file, its scores where every edge has one, and the ``circuitmeter`` key's content."""

    circuit: Circuit
    scores: EdgeScores | None
    meta: Mapping[str, Any]

    @property
    def inputs(self) -> InputNodes:
        """The input nodes of the file's graph."""
        return self.circuit.graph.inputs

    def on(self, graph: Graph) -> CircuitFile:
        """The file's circuit on ``graph``; its scores only where the two graphs are the same.

        Raises:
            DataError: a graph to which the circuit cannot be carried over exactly.
        """
        if self.circuit.graph == graph:
            return self
        return CircuitFile(exactly_on(self.circuit, graph), None, self.meta)


@dataclass(frozen=True)
class EdgeList:
    """A file that names edges and no graph.

    Args:
        tool: whose names the file uses, for messages.
        inputs: the input nodes of that tool's graph.
        edges: the kept edges, by our names.
        scores: of edges, by our names, where the file has any.
        n_layers: of the model, where the file says.
        meta: what ``CircuitFile.meta`` is; such a file has none.
    """

    tool: str
    inputs: InputNodes
    edges: tuple[str, ...]
    scores: Mapping[str, float] = field(default_factory=dict)
    n_layers: int | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def on(self, graph: Graph) -> CircuitFile:
        """The named edges as a circuit of ``graph``.

        Raises:
            DataError: an edge that the graph has not, another number of layers, or input nodes between which the
                circuit cannot be carried over exactly.
        """
        if self.n_layers not in (None, graph.n_layers):
            raise DataError(
                f"the circuit is of another graph ({self.n_layers} layers) than the model's ({graph}); choose its own "
                f"model."
            )
        own = replace(graph, inputs=self.inputs)
        scores = EdgeScores.from_mapping(own, self.scores) if len(self.scores) == own.n_edges else None
        return CircuitFile(Circuit.of(own, self.edges), scores, self.meta).on(graph)


def exactly_on(circuit: Circuit, graph: Graph) -> Circuit:
    """The circuit that cuts on ``graph`` what this one cuts on its own graph.

    A position embedding that is on no edge (``token``) is never cut; one that is added to the token (``sum``) is cut
    with it. So two input nodes can say whatever one can, and the other way only where the circuit allows it.

    Raises:
        DataError: graphs that differ in more than their input nodes, or a circuit for which ``graph`` has no equal;
            the message has the reason.
    """
    old = circuit.graph
    if replace(old, inputs=graph.inputs) != graph:
        raise DataError(f"the circuit is of another graph ({old}) than the model's ({graph}); choose its own model.")
    if old == graph or graph.inputs == "split":
        return on_inputs(circuit, graph.inputs)
    token, position = circuit.edges[0], circuit.edges[len(old.input_nodes) - 1]
    if old.inputs == "split" and graph.inputs == "sum":
        unlike, reason = token != position, "cuts one of token and position embedding and keeps the other"
    elif old.inputs == "split":
        unlike, reason = ~position, "cuts the position embedding, which is on no edge of that graph"
    else:
        both = "the position embedding with the token" if old.inputs == "sum" else "the token embedding alone"
        unlike, reason = ~token, f"cuts {both}, which that graph cannot"
    if unlike.any():
        raise DataError(
            f"the circuit has inputs={old.inputs} and no equal on a graph with inputs={graph.inputs}: it {reason} (on "
            f"{int(unlike.sum())} edges, the first into {graph.readers[int(unlike.nonzero()[0])]}). Choose --inputs "
            f"alike on both sides."
        )
    return on_inputs(circuit, graph.inputs)
