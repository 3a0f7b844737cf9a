"""The Greater-Than circuit of GPT-2 small (Hanna et al. 2023, arXiv 2305.00586), by two rules."""

from __future__ import annotations

from ...suite.model.graph import Graph
from .edges import Head, between, mlps, readers, writers

FIRST: list[Head] = [(0, 1)]
_OTHERS: list[Head] = [(0, 3), (0, 5)]
EARLY_MLPS, LATE_MLPS = (0, 1, 2, 3), (8, 9, 10, 11)
# The heads between, in ACDC's list; EAP-IG's has two more that the paper's code has and ACDC's lacks.
ACDC_HEADS: list[Head] = [(5, 5), (6, 1), (6, 9), (7, 10), (8, 11), (9, 1)]
EAP_IG_HEADS: list[Head] = [*ACDC_HEADS, (5, 1), (8, 8)]
_CLEAN_QUERIES_BELOW = 9  # the layer below which all MLPs feed each other, in ACDC's rule


def eap_ig(graph: Graph) -> set[str]:
    """EAP-IG (Hanna et al. 2024)."""
    return _groups(graph, EAP_IG_HEADS)


def acdc(graph: Graph) -> set[str]:
    """ACDC (Conmy et al. 2023) and auto-circuit: the paper left the queries' inputs whole, so MLPs feed them, too."""
    found = _groups(graph, ACDC_HEADS)
    below = mlps(range(_CLEAN_QUERIES_BELOW))
    return found | between(graph, below, below) | between(graph, below, readers(ACDC_HEADS, "q"))


def _groups(graph: Graph, heads: list[Head]) -> set[str]:
    """The paper's groups, all of one joined with all of the next."""
    early, late = mlps(EARLY_MLPS), mlps(LATE_MLPS)
    into_heads = readers(heads, "qkv")
    found = between(graph, ["input"], [*readers(FIRST + _OTHERS, "qkv"), *early])
    found |= between(graph, writers(FIRST), early)
    found |= between(graph, [*writers(FIRST + _OTHERS), *early], into_heads)
    found |= between(graph, early, early) | between(graph, late, late)
    found |= between(graph, writers(heads), late)
    return found | between(graph, [*writers(heads), *late], ["logits"])
