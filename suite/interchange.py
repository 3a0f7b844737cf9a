"""Circuit files: the EAP-IG / MIB graph JSON, with a key of our own that other tools ignore. Nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from .circuit import Circuit, EdgeScores
from .errors import DataError
from .model.graph import Edge, Graph

FORMAT = 1


@dataclass(frozen=True, eq=False)
class CircuitFile:
    """A circuit read from a file, its scores where every edge has one, and the ``circuitmeter`` key's content."""

    circuit: Circuit
    scores: EdgeScores | None
    meta: Mapping[str, Any]


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
        "circuitmeter": {"format": FORMAT, "graph": {**asdict(graph), "hash": graph.hash}, **meta},
    }


def from_json(content: Mapping[str, Any], source: str = "this file") -> CircuitFile:
    """Reads the content of a circuit file of ours, of EAP-IG or of MIB.

    Raises:
        DataError: content that is not such a file, or edges that do not fit the graph it states.
    """
    try:
        cfg, edges = content["cfg"], content["edges"]
        graph = _graph(cfg, edges, content.get("circuitmeter", {}))
        kept = graph.matrix(name for name, edge in edges.items() if edge["in_graph"])
        scores = {name: edge["score"] for name, edge in edges.items() if edge.get("score") is not None}
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{source} is not a circuit in the EAP-IG / MIB JSON format (problem at {error}); it needs 'cfg' with "
            f"n_layers and n_heads, and 'edges' that map names to 'in_graph' and perhaps 'score'."
        ) from None
    complete = len(scores) == graph.n_edges
    meta = content.get("circuitmeter", {})
    return CircuitFile(Circuit(graph, kept), EdgeScores.from_mapping(graph, scores) if complete else None, meta)


def _graph(cfg: Mapping[str, Any], edges: Mapping[str, Any], meta: Mapping[str, Any]) -> Graph:
    stated = meta.get("graph")
    if stated:
        return Graph(**{key: value for key, value in stated.items() if key != "hash"})
    has_mlps = any(name.startswith("m0->") for name in edges)
    split = any(name.startswith("tok_embed->") for name in edges)
    parallel = bool(cfg.get("parallel_attn_mlp", False))
    return Graph(cfg["n_layers"], cfg["n_heads"], "split" if split else "token", mlps=has_mlps, parallel=parallel)


def save(
    path: str | Path, circuit: Circuit, scores: EdgeScores | None, *, d_model: int, meta: Mapping[str, Any]
) -> None:
    """Writes a circuit file. Raises DataError when the folder cannot be written."""
    try:
        Path(path).write_text(json.dumps(to_json(circuit, scores, d_model, meta), indent=1) + "\n")
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}.") from None


def load(path: str | Path) -> CircuitFile:
    """Reads a circuit file.

    Raises:
        DataError: no such file, a pickle, or JSON that is not a circuit.
    """
    path = Path(path)
    if path.suffix in {".pt", ".pkl", ".pickle", ".pth"}:
        raise DataError(f"{path} is a pickle, which can run code when read; save the graph as JSON instead (to_json).")
    try:
        return from_json(json.loads(path.read_text()), str(path))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}.") from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}.") from None


def mask_of(circuit: Circuit) -> torch.Tensor:
    """The circuit as one engine mask: float [1, n_writers, n_readers]."""
    return circuit.edges[None].float()
