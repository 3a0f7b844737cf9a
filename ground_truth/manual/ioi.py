"""The indirect-object-identification circuit of GPT-2 small (Wang et al. 2022, arXiv 2211.00593), by three rules.

The paper names 26 heads in 7 classes. Which edges that means, three later works have each decided for themselves.
"""

from __future__ import annotations

from ...suite.model.graph import Graph
from .edges import Head, between, mlps, readers, writers

# Class -> heads, and the position at which they act.
HEADS: dict[str, list[Head]] = {
    "name mover": [(9, 9), (10, 0), (9, 6)],
    "backup name mover": [(10, 10), (10, 6), (10, 2), (10, 1), (11, 2), (9, 7), (9, 0), (11, 9)],
    "negative name mover": [(10, 7), (11, 10)],
    "s2 inhibition": [(7, 3), (7, 9), (8, 6), (8, 10)],
    "induction": [(5, 5), (5, 8), (5, 9), (6, 9)],
    "duplicate token": [(0, 1), (0, 10), (3, 0)],
    "previous token": [(2, 2), (4, 11)],
}
POSITIONS = {
    "name mover": "end",
    "backup name mover": "end",
    "negative name mover": "end",
    "s2 inhibition": "end",
    "induction": "S2",
    "duplicate token": "S2",
    "previous token": "S1+1",
}

_INPUT, _OUTPUT = "input", "output"
# (from, to, which inputs of the heads that are read into): ACDC's and auto-circuit's.
_GROUPS = [
    (_INPUT, "previous token", "qkv"),
    (_INPUT, "duplicate token", "qkv"),
    (_INPUT, "s2 inhibition", "q"),
    (_INPUT, "negative name mover", "kv"),
    (_INPUT, "name mover", "kv"),
    (_INPUT, "backup name mover", "kv"),
    ("previous token", "induction", "kv"),
    ("induction", "s2 inhibition", "kv"),
    ("duplicate token", "s2 inhibition", "kv"),
    ("s2 inhibition", "negative name mover", "q"),
    ("s2 inhibition", "name mover", "q"),
    ("s2 inhibition", "backup name mover", "q"),
    ("negative name mover", _OUTPUT, ""),
    ("name mover", _OUTPUT, ""),
    ("backup name mover", _OUTPUT, ""),
]


def acdc(graph: Graph) -> set[str]:
    """ACDC (Conmy et al. 2023): the groups' edges, and every edge that has no head outside the circuit and does not go
    from the embedding to a head, between heads, or from a head to the logits."""
    heads = [head for listed in HEADS.values() for head in listed]
    every_mlp = mlps(range(graph.n_layers))
    found = between(graph, ["input", *every_mlp], [*every_mlp, "logits"])
    found |= between(graph, every_mlp, readers(heads, "qkv"))
    found |= between(graph, writers(heads), every_mlp)
    for source, target, parts in _GROUPS:
        sources = ["input"] if source == _INPUT else writers(HEADS[source])
        targets = ["logits"] if target == _OUTPUT else readers(HEADS[target], parts)
        found |= between(graph, sources, targets)
    return found


def auto_circuit(graph: Graph) -> set[str]:
    """auto-circuit (Miller et al. 2024) as released: its rules that end in the output take no MLP along."""
    return _auto_circuit(graph, output_layer=0)


def auto_circuit_corrected(graph: Graph) -> set[str]:
    """auto-circuit as it was meant: the output is behind the last layer, so that MLPs lie between."""
    return _auto_circuit(graph, output_layer=graph.n_layers)


def _auto_circuit(graph: Graph, output_layer: int) -> set[str]:
    """The groups' edges; in every group the MLPs from its first layer to before its last are sources and targets, too.

    Args:
        output_layer: what is taken for the layer of the output. The released code takes a token's index there, which is
            0 when positions are not told apart.
    """
    found: set[str] = set()
    for source, target, parts in _GROUPS:
        first = 0 if source == _INPUT else min(layer for layer, _ in HEADS[source])
        last = output_layer if target == _OUTPUT else max(layer for layer, _ in HEADS[target])
        between_them = mlps(range(first, last))
        sources = ["input"] if source == _INPUT else writers(HEADS[source])
        targets = ["logits"] if target == _OUTPUT else readers(HEADS[target], parts)
        found |= between(graph, [*sources, *between_them], [*targets, *between_them])
    return found


def eap_ig(graph: Graph) -> set[str]:
    """EAP-IG (Hanna et al. 2024): heads only, but for m11; duplicate-token heads feed the induction heads."""
    movers = HEADS["name mover"] + HEADS["backup name mover"]
    late = movers + HEADS["negative name mover"]
    induction, inhibition = HEADS["induction"], HEADS["s2 inhibition"]
    early = HEADS["previous token"] + HEADS["duplicate token"]
    found = between(graph, ["input"], readers(early, "qkv") + readers(inhibition, "qkv") + readers(late, "kv"))
    found |= between(graph, writers(HEADS["previous token"]), readers(induction, "q"))
    found |= between(graph, writers(HEADS["duplicate token"]), readers(induction, "kv"))
    found |= between(graph, writers([(5, 5), (5, 8), (5, 9)]), readers([(6, 9)], "q"))
    found |= between(graph, writers(induction), readers(inhibition, "kv"))
    found |= between(graph, writers(inhibition), readers(late, "q"))
    ninth = [head for head in movers if head[0] == 9]
    found |= between(graph, writers(ninth), readers([head for head in movers if head[0] > 9], "q"))
    found |= between(graph, writers(late), ["logits"])
    return found | {"a9.h7->m11", "m11->logits"}
