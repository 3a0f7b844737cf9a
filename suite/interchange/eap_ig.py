"""The graph JSON of EAP-IG and MIB: every edge with its score and whether it is in the circuit.

Ours is the same file with one more key, ``circuitmeter``, which other tools ignore.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

from ..circuit import Circuit, EdgeScores
from ..errors import DataError
from ..model.graph import Edge, Graph
from ..model.stated_graph import StatedGraph
from ..reading import checked, shown
from .circuit_file import EdgeList, Shape, names_an_mlp
from .origin import KEY_FORMAT, Origin, OurKey, Score


def _flag(value: Any) -> bool:
    """true or false; 1 and 0 are what some tools write for them."""
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise ValueError(f"is {shown(value)}; write true or false")


def _node(value: Any) -> Any:
    """A node's entry; the documentation of EAP-IG has true or false in its place."""
    return value if isinstance(value, dict) else {"in_graph": value}


_Flag = Annotated[bool, BeforeValidator(_flag)]


class _Shape(BaseModel):
    """``cfg``: what the file says of its model."""

    n_layers: int = Field(ge=1, strict=True)
    n_heads: int = Field(ge=1, strict=True)
    parallel_attn_mlp: _Flag = False
    d_model: int | None = Field(default=None, ge=1, strict=True)


class _Edge(BaseModel):
    in_graph: _Flag
    score: Score | None = None


class _Node(BaseModel):
    in_graph: _Flag = True
    neurons: list[_Flag] | None = None
    neurons_in_graph: list[_Flag] | None = None


_Neurons = dict[str, list[_Flag]] | list[list[_Flag]]  # by node, or in the order of the nodes


class _File(BaseModel):
    cfg: _Shape
    edges: dict[str, _Edge]
    nodes: dict[str, Annotated[_Node, BeforeValidator(_node)]] = {}
    neurons: _Neurons | None = None
    neurons_in_graph: _Neurons | None = None  # as EAP-IG calls them in its graphs and its torch files


def to_json(circuit: Circuit, scores: EdgeScores | None, d_model: int, origin: Origin) -> dict[str, Any]:
    """The file's content. Nodes are in the graph when a kept edge touches them; logits always are."""
    graph = circuit.graph
    touched = {"logits"}
    for edge in map(Edge.parse, circuit.names):
        touched |= {edge.writer, graph.node_of_reader(edge.reader)}
    kept = circuit.edges[graph.exists].tolist()
    values = [None] * graph.n_edges if scores is None else scores.flat().tolist()
    return {
        "cfg": {
            "n_layers": graph.n_layers,
            "n_heads": graph.n_heads,
            "parallel_attn_mlp": graph.parallel,
            "d_model": d_model,
        },
        "nodes": {node: {"in_graph": node in touched} for node in (*graph.writers, "logits")},
        "edges": {
            str(edge): {"in_graph": keep} if value is None else {"score": value, "in_graph": keep}
            for edge, keep, value in zip(graph.edges, kept, values, strict=True)
        },
        "circuitmeter": our_key(graph, origin).as_json(),
    }


def our_key(graph: Graph, origin: Origin, **more: Any) -> OurKey:
    """What we add to a file of any format: the graph, in full, and what is known about the circuit."""
    known = origin.model_dump(exclude_unset=True)
    return OurKey(**{"format": KEY_FORMAT, "graph": StatedGraph.of(graph), **known, **more})


def our_key_in(content: Mapping[str, Any], source: str) -> OurKey:
    """Our key in a file's content, checked. Raises DataError for one that is damaged, or of a newer version."""
    return checked(OurKey, content.get("circuitmeter", {}), f"{source}, key 'circuitmeter'")


def from_json(content: Mapping[str, Any], source: str = "this file") -> EdgeList:
    """Reads the content of a circuit file of ours, of EAP-IG or of MIB.

    Raises:
        DataError: content that is not such a file, edges that do not fit the graph it states, or a circuit of neurons.
    """
    if not isinstance(content.get("cfg"), dict) or not isinstance(content.get("edges"), dict):
        raise DataError(
            f"{source} is not a circuit in the EAP-IG / MIB JSON format; it needs 'cfg' with n_layers and n_heads, and "
            f"'edges' that map names to 'in_graph' and perhaps 'score'."
        )
    file, ours = checked(_File, content, source), our_key_in(content, source)
    stated = ours.graph
    kept = tuple(name for name, edge in file.edges.items() if edge.in_graph)
    _refuse_neurons(file, kept, source)
    return EdgeList(
        "EAP-IG",
        stated.inputs if stated else "split" if any(n.startswith("tok_embed->") for n in file.edges) else "token",
        kept,
        {name: edge.score for name, edge in file.edges.items() if edge.score is not None},
        Shape.stated(stated) if stated else _shape(file),
        ours.origin,
        d_model=file.cfg.d_model,
        source=source,
        sites=tuple(site.nodes for site in stated.sites) if stated else (),
        n_positions=stated.n_positions if stated else None,
        causal=stated is None or stated.causal is not False,
    )


def _shape(file: _File) -> Shape:
    """What a file without our key says. One that lists kept edges only does not say whether there are MLPs."""
    cfg = file.cfg
    nodes, attention = 1 + cfg.n_layers * cfg.n_heads, 3 * cfg.n_heads * cfg.n_layers
    of_attention = attention + attention * cfg.n_heads * (cfg.n_layers - 1) // 2 + nodes
    mlps = any(map(names_an_mlp, file.edges)) or any(name.startswith("m") for name in file.nodes)
    return Shape(
        cfg.n_layers,
        cfg.n_heads,
        True if mlps else False if len(file.edges) == of_attention else None,
        cfg.parallel_attn_mlp,
    )


def _refuse_neurons(file: _File, kept: tuple[str, ...], source: str) -> None:
    """Raises DataError for a node that is in the circuit with some of its neurons, or with none of them."""
    listed: list[tuple[str | int, list[bool]]] = []
    for name, entry in file.nodes.items():
        listed += [(name, neurons) for neurons in (entry.neurons, entry.neurons_in_graph) if neurons is not None]
    for of_all in (file.neurons, file.neurons_in_graph):
        listed += of_all.items() if isinstance(of_all, dict) else enumerate(of_all or ())
    for node, neurons in listed:
        if any(neurons) and not all(neurons):
            raise DataError(
                f"{source} keeps some neurons of {node} and cuts others; circuits here consist of whole edges. Apply "
                f"the scores at the level of edges in the tool that wrote it."
            )
        if neurons and not any(neurons) and any(edge.startswith(f"{node}->") for edge in kept):
            raise DataError(
                f"{source} keeps edges out of {node} and none of its neurons; leave the edges out, or keep the neurons."
            )
