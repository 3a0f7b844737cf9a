"""``circuitmeter compare``: what circuit files have in common. Needs no model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, SpecError
from .arguments import add_json

if TYPE_CHECKING:
    from ..interchange import CircuitFile
    from ..interchange.circuit_file import EdgeList

NAME = "compare"
HELP = "Say how much circuit files have in common: edges, and the ranks of their scores, at each size."
EPILOG = (
    "Of a pair, precision is the share of the second's edges that the first has, recall the share of the first's that "
    "the second has; ranks are of absolute scores over all edges. Circuits whose graphs have other input nodes are "
    "compared with token and position apart."
)
_COLUMNS = (
    "first",
    "second",
    "edges",
    "edges of second",
    "common",
    "IoU",
    "precision",
    "recall",
    "Spearman",
    "Kendall",
)
SIZE_COLUMNS = ("fraction", "edges", "common", "IoU")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "circuits", metavar="CIRCUIT.json", nargs="+", type=Path, help="two circuit files or more, of any format"
    )
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    from .output import note, print_json, print_table, refuse_missing

    if len(options.circuits) < 2:
        raise SpecError("compare takes two circuit files or more; one was given.")
    refuse_missing(*options.circuits)
    files = on_one_graph(options.circuits)
    for text in dict.fromkeys(text for file in files for text in file.notes):
        note(text)
    pairs = [
        comparison_of(options.circuits[i], options.circuits[j], files[i], files[j])
        for i, j in combinations(range(len(files)), 2)
    ]
    if options.json:
        print_json({"n_edges": files[0].circuit.graph.n_edges, "pairs": pairs})
        return 0
    rows = [[pair["first"], pair["second"], *pair["overlap"].values(), *pair["ranks"].values()] for pair in pairs]
    print_table(_COLUMNS, rows)
    for pair in pairs:
        if pair["by_size"]:
            print(f"\ntop edges of {pair['first']} and {pair['second']}")
            print_table(
                SIZE_COLUMNS, [[at["fraction"], at["first"], at["common"], at["iou"]] for at in pair["by_size"]]
            )
    if not all(pair["by_size"] for pair in pairs):
        note("Ranks are of files with a score for every edge, on graphs with the same input nodes.")
    return 0


def on_one_graph(paths: Sequence[Path]) -> list[CircuitFile]:
    """The circuits of files on one graph: their own, or with token and position apart where their inputs differ.

    Raises:
        DataError: files of which none states its graph, or of different models.
    """
    from ..interchange import read

    read_files = [read(path) for path in paths]
    stated = next((file for file in read_files if file.shape.n_layers and file.shape.n_heads), None)
    if stated is None:
        raise DataError(f"none of {', '.join(map(str, paths))} says of which graph it is; give one that does, as ours.")
    graph = stated.alone().circuit.graph
    inputs = {file.inputs for file in read_files}
    graph = replace(graph, inputs=inputs.pop() if len(inputs) == 1 else "split")
    found = [file.on(graph, beside=stated.source) for file in read_files]
    if graph.inputs == "split" and any(file.inputs != "split" for file in read_files):
        note = _counted_apart(read_files, found)
        found[0] = replace(found[0], notes=(*found[0].notes, note))
    return found


def _counted_apart(files: Sequence[EdgeList], found: Sequence[CircuitFile]) -> str:
    """On which graph edges are counted where input nodes differ, and how many those of each file are there."""
    counts = [
        f"the {len(set(file.edges)):,} of {file.source} (inputs={file.inputs}) are {there.circuit.n_edges:,}"
        for file, there in zip(files, found, strict=True)
    ]
    return (
        f"Input nodes differ, so edges are counted on the graph with token and position embedding apart "
        f"(inputs=split): {', '.join(counts)}."
    )


def comparison_of(first: Path, second: Path, a: CircuitFile, b: CircuitFile) -> dict[str, Any]:
    """What two files share, as JSON has it; ranks and sizes are None where one has no scores."""
    from dataclasses import asdict

    from ..scoring.overlap import by_size, overlap, rank_correlation

    ranks: dict[str, float | None] = {"spearman": None, "kendall": None}
    sizes = None
    if a.scores is not None and b.scores is not None:
        ranks = rank_correlation(a.scores, b.scores)
        sizes = [asdict(at) for at in by_size(a.scores, b.scores)]
    return {
        "first": str(first),
        "second": str(second),
        "overlap": asdict(overlap(a.circuit, b.circuit)),
        "ranks": ranks,
        "by_size": sizes,
    }
