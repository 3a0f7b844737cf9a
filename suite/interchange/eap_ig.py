"""The graph JSON of EAP-IG and MIB: every edge with its score and whether it is in the circuit.

Ours is the same file with one more key, ``circuitmeter``, which other tools ignore.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..circuit import Circuit, EdgeScores
from ..errors import DataError
from ..model.graph import Edge, Graph
from .circuit_file import CircuitFile

FORMAT = 1


def to_json(circuit: Circuit, scores: EdgeScores | None, d_model: int, meta: Mapping[str, Any]) -> dict[str, Any]:
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
        "circuitmeter": our_key(graph, meta),
    }


def our_key(graph: Graph, meta: Mapping[str, Any]) -> dict[str, Any]:
    """What we add to a file of any format: the graph, in full, and what is known about the circuit."""
    return {"format": FORMAT, "graph": {**asdict(graph), "hash": graph.hash}, **meta}


def stated_graph(meta: Mapping[str, Any]) -> Graph | None:
    """The graph that our key states; None where it states none. Raises DataError for one that is none."""
    try:
        stated = meta.get("graph")
        return Graph(**{key: value for key, value in stated.items() if key != "hash"}) if stated else None
    except (TypeError, AttributeError) as error:
        raise DataError(f"the file's key 'circuitmeter' states no graph ({error}); write the circuit again.") from None


def from_json(content: Mapping[str, Any], source: str = "this file") -> CircuitFile:
    """Reads the content of a circuit file of ours, of EAP-IG or of MIB.

    Raises:
        DataError: content that is not such a file, edges that do not fit the graph it states, or a circuit of neurons.
    """
    try:
        cfg, edges, meta = content["cfg"], content["edges"], content.get("circuitmeter", {})
        graph = stated_graph(meta) or _graph(cfg, edges)
        kept = graph.matrix(name for name, edge in edges.items() if edge["in_graph"])
        scores = {name: edge["score"] for name, edge in edges.items() if edge.get("score") is not None}
        partial = [name for name, node in content.get("nodes", {}).items() if _some_neurons(node)]
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{source} is not a circuit in the EAP-IG / MIB JSON format (problem at {error}); it needs 'cfg' with "
            f"n_layers and n_heads, and 'edges' that map names to 'in_graph' and perhaps 'score'."
        ) from None
    if partial:
        raise DataError(
            f"{source} keeps some neurons of {partial[0]} and cuts others; circuits here consist of whole edges. Apply "
            f"the scores at the level of edges in the tool that wrote it."
        )
    complete = len(scores) == graph.n_edges
    return CircuitFile(Circuit(graph, kept), EdgeScores.from_mapping(graph, scores) if complete else None, meta)


def _graph(cfg: Mapping[str, Any], edges: Mapping[str, Any]) -> Graph:
    has_mlps = any(name.startswith("m0->") for name in edges)
    split = any(name.startswith("tok_embed->") for name in edges)
    parallel = bool(cfg.get("parallel_attn_mlp", False))
    return Graph(cfg["n_layers"], cfg["n_heads"], "split" if split else "token", mlps=has_mlps, parallel=parallel)


def _some_neurons(node: Any) -> bool:
    """Whether a node is in the circuit with some of its neurons only."""
    neurons = node.get("neurons") if isinstance(node, Mapping) else None
    return bool(neurons) and any(neurons) and not all(neurons)
