"""A large circuit in a few lines for a terminal: its strongest edges, and the nodes by what flows through them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from .circuit_view import NO_PATH, CircuitView
from .plain_text import text_table
from .table import MINUS, MISSING, number_of_any_size

LARGE = 60
"""Edges beyond which a circuit is shown in short: a line for each would not fit a terminal."""

_EDGES, _NODES = 30, 20  # that are shown


def circuit_summary(view: CircuitView, facts: Sequence[str], *, unicode: bool = True) -> str:
    """A circuit in short.

    What flows through a node is the sum of the absolute scores of its edges that are in the circuit; where edges have
    no scores, nodes are in the order of how many edges they have.

    Args:
        facts: where the circuit comes from and how large it is, a line each.
        unicode: whether more than ASCII can be shown.

    Returns:
        The text, without a line end.
    """
    edges = [(str(edge), view.scores.get(str(edge))) for edge in view.kept]
    parts = ["\n".join([view.title, *facts])]
    if all(score is not None for _, score in edges):
        strongest = sorted(edges, key=lambda edge: -abs(edge[1] or 0.0))[:_EDGES]
        rows = [[name, number_of_any_size(score)] for name, score in strongest]
        parts.append(f"the {len(rows)} strongest edges\n{text_table(('edge', 'score'), rows, (False, True))}")
    nodes = _nodes(view)
    what = "through which most flows" if view.scores else "with the most edges"
    headings = ["node", "edges in", "edges out", *(["|score| in", "|score| out"] if view.scores else []), ""]
    to_the_right = [False, *(True for _ in headings[2:]), False]
    shown = nodes[:_NODES]
    parts.append(f"the {len(shown)} nodes {what}, of {len(nodes):,}\n{text_table(headings, shown, to_the_right)}")
    parts.append(f"All {len(edges):,} edges: --all; a page with a drawing: --out FILE.html.")
    text = "\n\n".join(parts)
    return text if unicode else text.replace(MINUS, "-").replace(MISSING, "-")


def _nodes(view: CircuitView) -> list[list[str]]:
    """The nodes of the circuit, a row each, those first through which most flows."""
    into: Counter[str] = Counter()
    out: Counter[str] = Counter()
    read: dict[str, float] = defaultdict(float)
    written: dict[str, float] = defaultdict(float)
    for edge in view.kept:
        node, score = view.graph.node_of_reader(edge.reader), abs(view.scores.get(str(edge), 0.0))
        into[node] += 1
        out[edge.writer] += 1
        read[node] += score
        written[edge.writer] += score
    dead = view.without_path
    names = sorted({**into, **out}, key=lambda name: (-read[name] - written[name], -into[name] - out[name]))
    rows = []
    for name in names:
        flows = [number_of_any_size(read[name]), number_of_any_size(written[name])] if view.scores else []
        rows.append([name, f"{into[name]:,}", f"{out[name]:,}", *flows, NO_PATH * (name in dead)])
    return rows
