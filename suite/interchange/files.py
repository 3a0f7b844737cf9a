"""Reading and writing circuit files of every format, told apart by their content."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..circuit import Circuit, EdgeScores
from ..errors import DataError, SpecError, unknown
from ..model.graph import Edge, Graph, InputNodes
from ..model.position_graph import PositionGraph
from ..reading import decoded, parse_json, read_bytes, reading, shown
from . import acdc, auto_circuit, eap_ig
from .circuit_file import CircuitFile, EdgeList, Shape, are_one, exactly_on, names_an_mlp
from .origin import Origin

CIRCUIT_FORMATS = ("eap-ig", "auto-circuit", "acdc", "mib")  # mib's is eap-ig's
_PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".bin"}
_PICKLED = (b"\x80", b"PK\x03\x04")  # a pickle, and the archive that torch.save makes of one


def read(path: str | Path) -> EdgeList:
    """What a circuit file says. ``read(path).on(graph)`` is its circuit on a model's graph, whatever the format.

    Raises:
        DataError: no such file, a pickle, or a file that is not a circuit.
    """
    path = Path(path)
    with reading(path):
        content = read_bytes(path)
        if path.suffix in _PICKLES or content.startswith(_PICKLED):
            raise DataError(
                f"{path} is a pickle, which can run code when read; export the circuit as JSON where it was made: "
                f"to_json() in EAP-IG and MIB, a list of edge names in auto-circuit and ACDC."
            )
        text = decoded(content)
        return acdc.from_drawing(text, str(path)) if acdc.is_drawing(text) else parsed(parse_json(text), str(path))


def parsed(content: Any, source: str = "this file") -> EdgeList:
    """What the parsed JSON of a circuit file says. Raises DataError for content of no known format."""
    if isinstance(content, dict) and isinstance(content.get("edges"), list):
        ours, found = eap_ig.our_key_in(content, source), _edge_list(content["edges"], source)
        found = replace(found, scores=ours.scores or {}, origin=ours.origin)
        if ours.graph is None:
            return found
        return replace(
            found,
            inputs=ours.graph.inputs,
            shape=Shape.stated(ours.graph),
            n_positions=ours.graph.n_positions,
            causal=ours.graph.causal is not False,
        )
    if isinstance(content, list) or (isinstance(content, dict) and content and all(map(_is_edge_name, content))):
        return _edge_list(content, source)
    return eap_ig.from_json(content if isinstance(content, dict) else {}, source)


def load(path: str | Path, graph: Graph | None = None) -> CircuitFile:
    """Reads a circuit file, onto ``graph`` where it is given.

    Raises:
        DataError: as ``read``; a circuit that does not fit ``graph``; a list of edges and no ``graph``.
    """
    found = read(path)
    return found.alone() if graph is None else found.on(graph)


def save(
    path: str | Path,
    circuit: Circuit,
    scores: EdgeScores | None,
    *,
    d_model: int,
    origin: Origin,
    format: str = "eap-ig",
) -> None:
    """Writes a circuit file.

    Args:
        format: ``eap-ig`` or ``mib``: the graph JSON of both. ``auto-circuit`` and ``acdc``: JSON with the kept edges
            as that tool names them under ``edges``; the circuit is carried over to the tool's input nodes
            (``inputs_of``), exactly, and the scores are in our key where that graph has the same edges.

    Raises:
        SpecError: an unknown format.
        DataError: a circuit that the tool's graph cannot say, or a folder that cannot be written.
    """
    text = json.dumps(content(circuit, scores, d_model, origin, format), indent=1) + "\n"
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}.") from None


def content(circuit: Circuit, scores: EdgeScores | None, d_model: int, origin: Origin, format: str) -> dict[str, Any]:
    """What ``save`` writes. Raises as it does."""
    if format not in CIRCUIT_FORMATS:
        raise SpecError(unknown("circuit file format", format, CIRCUIT_FORMATS))
    refuse_positions(format, circuit.graph)
    if format in ("eap-ig", "mib"):
        return eap_ig.to_json(circuit, scores, d_model, origin)
    learned = origin.learned_positions
    inputs = inputs_of(format, circuit.graph, learned)
    theirs = exactly_on(circuit, replace(circuit.graph, inputs=inputs), learned_positions=learned)
    edges = acdc.to_items(theirs) if format == "acdc" else auto_circuit.to_names(theirs)
    if scores is not None and says_all(format, circuit.graph, learned):
        more = {"scores": dict(zip(map(str, theirs.graph.edges), scores.flat().tolist(), strict=True))}
    else:
        more = {}
    return {"edges": edges, "circuitmeter": eap_ig.our_key(theirs.graph, origin, **more).as_json()}


def refuse_positions(format: str, graph: Graph) -> None:
    """Raises DataError for a format that has no names for edges at single positions, and a graph of such edges."""
    if isinstance(graph, PositionGraph) and format in ("auto-circuit", "acdc"):
        raise DataError(
            f"the circuit has edges at single positions of {graph.n_positions}, for which {format} has no names; "
            f"choose --to eap-ig."
        )


def inputs_of(format: str, graph: Graph, learned_positions: bool) -> InputNodes:
    """The input nodes that a format has for circuits of a graph. ACDC's graph may have token and position embedding
    apart, which says whatever a graph of tokens does; auto-circuit's has their sum alone."""
    if format in ("eap-ig", "mib"):
        return graph.inputs
    apart = graph.inputs == "split" or (graph.inputs == "token" and learned_positions)
    return "split" if format == "acdc" and apart else "sum"


def says_all(format: str, graph: Graph, learned_positions: bool) -> bool:
    """Whether a format can say every circuit of a graph, and its scores."""
    return are_one({graph.inputs, inputs_of(format, graph, learned_positions)}, learned_positions)


def _edge_list(edges: list | dict[str, Any], source: str) -> EdgeList:
    if not edges:
        raise DataError(f"{source} lists no edges.")
    first = next(iter(edges))
    if isinstance(edges, list) and acdc.is_edge(first):
        return acdc.from_items(edges, source)
    for name in edges:
        if not _is_edge_name(name):
            raise DataError(
                f"{source}: {shown(name)} is not an edge; name edges as ours, 'a0.h1->a2.h3<q>', as auto-circuit's, "
                f"'A0.1->A2.3.Q', or as ACDC's, [child hook, index, parent hook, index]."
            )
    if isinstance(edges, dict):
        for name, value in edges.items():
            if not isinstance(value, bool | int | float):
                raise DataError(f"{source}: {shown(name)} is {shown(value)}; give its score, or true or false.")
    elif len(set(edges)) < len(edges):
        raise DataError(f"{source} lists an edge twice; list each once.")
    if auto_circuit.is_name(first):
        return auto_circuit.from_names(edges, source)
    values = edges if isinstance(edges, dict) else dict.fromkeys(edges, True)
    scores = {name: float(value) for name, value in values.items() if not isinstance(value, bool)}
    split = any(Edge.parse(name).writer in ("tok_embed", "pos_embed") for name in values)
    kept = tuple(name for name, value in values.items() if value)
    shape = Shape(mlps=True if any(map(names_an_mlp, values)) else None)
    return EdgeList("EAP-IG", "split" if split else "token", kept, scores, shape, source=source)


def _is_edge_name(name: Any) -> bool:
    return isinstance(name, str) and "->" in name
