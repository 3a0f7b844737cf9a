"""The docstring circuit of attn-only-4l (Heimersheim and Janiak 2023), as ACDC and auto-circuit list its edges."""

from __future__ import annotations

from ...suite.model.graph import Graph
from .edges import between, readers, writers

ARGUMENT_MOVERS = [(3, 0), (3, 6)]


def acdc(graph: Graph) -> set[str]:
    """The 24 edges of ACDC (Conmy et al. 2023), without the 13 that join a head's own query, key and value to it."""
    first = writers([(0, 5)])
    found = between(graph, ["input"], readers([(0, 5)], "v"))
    found |= between(graph, ["input", *first], readers([(1, 4)], "v"))
    found |= between(graph, ["input", *first], readers([(1, 2), (2, 0)], "qk"))
    found |= between(graph, writers([(1, 4)]), readers([(2, 0)], "v") + readers(ARGUMENT_MOVERS, "q"))
    found |= between(graph, writers([(2, 0), (1, 2)]), readers(ARGUMENT_MOVERS, "k"))
    found |= between(graph, ["input", *first], readers(ARGUMENT_MOVERS, "v"))
    return found | between(graph, writers(ARGUMENT_MOVERS), ["logits"])
