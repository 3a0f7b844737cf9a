"""What a circuit file says, and how a circuit moves between graphs with other input nodes: exactly, or not at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..circuit import Circuit, EdgeScores, on_inputs
from ..errors import DataError, MethodError
from ..model.features.graph import FeatureGraph, SiteNodes
from ..model.graph import Graph, InputNodes
from ..model.position_graph import PositionGraph
from ..model.stated_graph import StatedGraph
from .origin import Origin

LARGEST_GRAPH = 1 << 27  # writers times readers; a model of 70 billion parameters has 80 million
_MLP = re.compile(r"m[0-9]+")


@dataclass(frozen=True, eq=False)
class CircuitFile:
    """A circuit read from a file, its scores where every edge has one, and where it comes from.

    ``notes`` are sentences on how the file was read, for whoever gave it.
    """

    circuit: Circuit
    scores: EdgeScores | None
    origin: Origin
    notes: tuple[str, ...] = ()

    @property
    def inputs(self) -> InputNodes:
        """The input nodes of the file's graph."""
        return self.circuit.graph.inputs

    def on(self, graph: Graph, *, learned_positions: bool = True) -> CircuitFile:
        """The file's circuit on ``graph``; its scores only where the two graphs have the same edges.

        Args:
            learned_positions: whether the model adds position embeddings to the residual stream (see ``exactly_on``).

        Raises:
            DataError: a graph to which the circuit cannot be carried over exactly.
        """
        if self.circuit.graph == graph:
            return self
        circuit = exactly_on(self.circuit, graph, learned_positions=learned_positions)
        scores = None
        if self.scores is not None and are_one({self.inputs, graph.inputs}, learned_positions):
            scores = EdgeScores(graph, self.scores.values)
        return CircuitFile(circuit, scores, self.origin, self.notes)

    def at_every_position(self, graph: PositionGraph, source: str) -> CircuitFile:
        """The file's edges, and their scores, at every position of a graph that tells edges apart by position."""
        circuit = Circuit(graph, graph.at_every_position(self.circuit.edges))
        scores = None if self.scores is None else EdgeScores(graph, graph.at_every_position(self.scores.values))
        note = f"{source} names no positions: each edge is taken at all {graph.n_positions} of them."
        return CircuitFile(circuit, scores, self.origin, (*self.notes, note))


@dataclass(frozen=True)
class Shape:
    """What a file says of its graph; None where it says nothing."""

    n_layers: int | None = None
    n_heads: int | None = None
    mlps: bool | None = None
    parallel: bool | None = None

    @classmethod
    def of(cls, graph: Graph) -> Shape:
        return cls(graph.n_layers, graph.n_heads, graph.mlps, graph.parallel)

    @classmethod
    def stated(cls, graph: StatedGraph) -> Shape:
        return cls(graph.n_layers, graph.n_heads, graph.mlps, graph.parallel)

    def differs(self, graph: Graph) -> bool:
        """Whether the graph is another than the file's."""
        return any(value not in (None, getattr(graph, name)) for name, value in vars(self).items())

    def __str__(self) -> str:
        heads = "" if self.n_heads is None else f" x {self.n_heads:,} heads"
        block = {True: ", parallel blocks", False: ", sequential blocks", None: ""}[self.parallel]
        return f"{self.n_layers or 0:,} layers{heads}{', attention only' if self.mlps is False else block}"


@dataclass(frozen=True)
class EdgeList:
    """The edges that a file names, checked and not yet built: a file may claim a graph of any size.

    Args:
        tool: whose names the file uses, for messages.
        inputs: the input nodes of that tool's graph.
        edges: the kept edges, by our names.
        scores: of edges, by our names, where the file has any.
        shape: what the file says of its graph.
        origin: where the circuit comes from, where the file says.
        notes: sentences on how the file was read, for whoever gave it.
        d_model: the model's width, where the file says.
        source: the file, for messages.
        sites: where features of dictionaries are nodes.
        n_positions: the length of the prompts, where the file tells edges apart by position.
        causal: whether queries see no later position, in such a file.
    """

    tool: str
    inputs: InputNodes
    edges: tuple[str, ...]
    scores: Mapping[str, float] = field(default_factory=dict)
    shape: Shape = Shape()
    origin: Origin = Origin()
    notes: tuple[str, ...] = ()
    d_model: int | None = None
    source: str = "this file"
    sites: tuple[SiteNodes, ...] = ()
    n_positions: int | None = None
    causal: bool = True

    def on(self, graph: Graph, *, learned_positions: bool = True, beside: str | None = None) -> CircuitFile:
        """The named edges as a circuit of ``graph``, compared with what the file says before anything is built.

        Args:
            learned_positions: as in ``exactly_on``.
            beside: the circuit file whose graph it is, for messages; None where it is a model's.

        Raises:
            DataError: an edge that the graph does not have, another graph, or input nodes between which the circuit
                cannot be carried over exactly.
        """
        if self.shape.differs(graph):
            raise self._of_another_graph(graph, beside)
        if isinstance(graph, PositionGraph) and self.n_positions is None:
            found = self.on(graph.whole, learned_positions=learned_positions, beside=beside)
            return found.at_every_position(graph, self.source)
        positions = graph.n_positions if isinstance(graph, PositionGraph) else None
        if self.n_positions != positions:
            theirs = "no positions" if positions is None else f"{positions} positions"
            raise DataError(
                f"{self.source}: the circuit has edges at single positions of {self.n_positions}, and the graph has "
                f"{theirs}; give it prompts, or circuits, of {self.n_positions} tokens."
            )
        return self._built(replace(graph, inputs=self.inputs)).on(graph, learned_positions=learned_positions)

    def _of_another_graph(self, graph: Graph, beside: str | None) -> DataError:
        """What is said where ``graph`` is not the file's: whose it is, and which model to choose."""
        if beside is not None:
            whose, then = f"{beside}'s", "circuits of one graph can be compared"
        elif self.origin.model:
            whose, then = "the model's", f"its file says that it was found in {self.origin.model}: choose that model"
        else:
            whose, then = "the model's", "choose its own model"
        return DataError(
            f"{self.source}: the circuit is of another graph ({self.shape}) than {whose} ({graph}); {then}."
        )

    def alone(self) -> CircuitFile:
        """The named edges as a circuit of the graph that the file itself states.

        Raises:
            DataError: the file states no graph, one that is too large to be built, or an edge that this graph
                does not have.
        """
        shape = self.shape
        if shape.n_layers is None or shape.n_heads is None:
            raise DataError(
                f"{self.source} lists edges of {self.tool} and does not say of which graph; give the model's graph "
                f"(--model NAME|DIR)."
            )
        size = shape.n_layers**2 * (shape.n_heads + 1) * (3 * shape.n_heads + 1) * (self.n_positions or 1)
        if size > LARGEST_GRAPH:
            raise DataError(
                f"{self.source}: a graph of {shape} is larger than any that can be built here; does 'cfg' say what the "
                f"model is?"
            )
        fields = (shape.n_layers, shape.n_heads, self.inputs, bool(shape.mlps), bool(shape.parallel))
        if self.n_positions is not None:
            return self._built(PositionGraph(*fields, self.n_positions, self.causal))
        return self._built(FeatureGraph(*fields, self.sites) if self.sites else Graph(*fields))

    def _built(self, graph: Graph) -> CircuitFile:
        circuit = Circuit.of(graph, self.edges)
        try:
            scores = EdgeScores.from_mapping(graph, self.scores) if len(self.scores) == graph.n_edges else None
        except MethodError as error:  # of a method's scores there; of a file's here
            raise DataError(f"{self.source}: {error}") from None
        return CircuitFile(circuit, scores, self.origin, self.notes)


def names_an_mlp(edge: str) -> bool:
    """Whether an edge leads from or to an MLP, so that its graph has them."""
    writer, _, reader = edge.partition("->")
    return bool(_MLP.fullmatch(writer) or _MLP.fullmatch(reader))


def are_one(inputs: set[InputNodes], learned_positions: bool) -> bool:
    """Whether choices of input nodes give one graph: token and sum do where no position embedding is added."""
    return len(inputs) == 1 or (not learned_positions and inputs <= {"token", "sum"})


def exactly_on(circuit: Circuit, graph: Graph, *, learned_positions: bool = True) -> Circuit:
    """The circuit that cuts on ``graph`` what this one cuts on its own graph.

    A position embedding that is on no edge (``token``) is never cut; one that is added to the token (``sum``) is cut
    with it. So two input nodes can say whatever one can, and the other way only where the circuit allows it.

    Args:
        learned_positions: whether the model adds position embeddings to the residual stream. Where it does not (rotary
            positions, or none), ``token`` and ``sum`` are the same graph, and every circuit moves between them.

    Raises:
        DataError: graphs that differ in more than their input nodes, or a circuit for which ``graph`` has no equal;
            the message has the reason.
    """
    old = circuit.graph
    if replace(old, inputs=graph.inputs) != graph:
        raise DataError(f"the circuit is of another graph ({old}) than the model's ({graph}); choose its own model.")
    if old == graph or graph.inputs == "split" or are_one({old.inputs, graph.inputs}, learned_positions):
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
            f"{int(unlike.sum())} edges, the first into {graph.readers[int(unlike.nonzero()[0])]}). A circuit "
            f"that `discover --inputs {graph.inputs}` finds is of that graph; keep this one "
            f"on inputs={old.inputs}{'' if old.inputs == 'split' else ' or split'}."
        )
    return on_inputs(circuit, graph.inputs)
