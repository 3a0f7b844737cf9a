"""What the rules of published circuits are written with."""

from __future__ import annotations

from collections.abc import Iterable

from ...suite.model.graph import Graph

Head = tuple[int, int]  # (layer, head)


def writers(heads: Iterable[Head]) -> list[str]:
    """Node names of heads."""
    return [f"a{layer}.h{head}" for layer, head in heads]


def readers(heads: Iterable[Head], parts: str) -> list[str]:
    """Readers of heads: ``parts`` is of the letters q, k and v."""
    return [f"a{layer}.h{head}<{part}>" for layer, head in heads for part in parts]


def mlps(layers: Iterable[int]) -> list[str]:
    """Node names of MLPs, which are their readers, too."""
    return [f"m{layer}" for layer in layers]


def between(graph: Graph, sources: Iterable[str], targets: Iterable[str]) -> set[str]:
    """The edges from every source to every target that the graph has."""
    row = {name: i for i, name in enumerate(graph.writers)}
    column = {name: i for i, name in enumerate(graph.readers)}
    targets = list(targets)
    return {
        f"{source}->{target}" for source in sources for target in targets if graph.exists[row[source], column[target]]
    }
