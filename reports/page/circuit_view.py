"""A drawing of a circuit: its nodes, its arrows, and a text on each of them; also as text for a terminal.

The page draws the same views with the viewer (``viewer.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...suite.model.graph import Edge, Graph
from .table import MINUS, MISSING, number_of_any_size

# mark: (sign in a terminal, sign where there is no Unicode, in words)
MARKS = {
    "true": ("●", "*", "true: in every minimal circuit"),
    "optional": ("◐", "~", "optional: in some minimal circuits, or needed only beside another edge"),
    "inert": ("·", ".", "inert, though what is written there can be read"),
    "found": ("●", "*", "true, and found"),
    "missed": ("○", "o", "true, and missed"),
    "added": ("×", "x", "found, and not true"),
    "kept": ("●", "*", "in the circuit"),
}
IN_CIRCUIT = ("true", "optional", "found", "added", "kept")
NO_PATH = "on no path"
"""What is said of a node that no path of kept edges from an input to the logits goes through."""

FEW = 12  # when more edges are inert for one reason, a terminal shows their number instead of a list


@dataclass(frozen=True)
class Arrow:
    """One edge: how it is marked, the variables it carries, and why it is what it is."""

    edge: Edge
    mark: str
    carries: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class CircuitView:
    """A drawing.

    Args:
        nodes: for each node the variables that it writes, if they are known.
        caption: the text below the title.
        scores: the scores of edges, in the circuit or not, if the circuit was found by scores.
        optional: all edges that are in some minimal circuits only, also those that this circuit leaves out.
        against_truth: whether the marks of arrows say what is true, or only what is in the circuit.
    """

    title: str
    caption: str
    graph: Graph
    arrows: Sequence[Arrow]
    nodes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    optional: Sequence[str] = ()
    against_truth: bool = True

    @property
    def kept(self) -> list[Edge]:
        """The edges that are in the circuit."""
        return [arrow.edge for arrow in self.arrows if arrow.mark in IN_CIRCUIT]

    @property
    def without_path(self) -> set[str]:
        """Nodes of the circuit that lead nowhere, or that nothing leads to: all edges that touch them are dead ends."""
        graph = self.graph

        def touched(edges: np.ndarray) -> set[str]:
            writers, readers = ([*map(int, places)] for places in edges.nonzero())
            return {graph.writers[w] for w in writers} | {graph.node_of_reader(graph.readers[r]) for r in readers}

        kept = graph.array(self.kept)
        return touched(kept) - touched(graph.on_paths(kept))

    @property
    def layers(self) -> list[tuple[str, list[str]]]:
        """Nodes that an arrow touches, input nodes first, by row; attention and MLP of a layer have a row each."""
        graph = self.graph
        touched = {arrow.edge.writer for arrow in self.arrows} | {"logits"}
        touched |= {graph.node_of_reader(arrow.edge.reader) for arrow in self.arrows}
        names = {"input": "inputs", "logits": "output"}
        rows = [(names.get(group.kind, f"layer {group.layer}"), group.nodes) for group in graph.groups]
        kept = [(name, [node for node in row if node in touched]) for name, row in rows]
        return [(name, row) for name, row in kept if row]

    def count(self, mark: str) -> int:
        """How many arrows are marked so."""
        return sum(arrow.mark == mark for arrow in self.arrows)


def _by_part_position_and_mark(arrow: Arrow) -> tuple[str, int, int]:
    """The order of the edges into a node: positions, where readers have them, as numbers and not as texts."""
    reader, _, position = arrow.edge.reader.partition("@")
    return reader, int(position or 0), list(MARKS).index(arrow.mark)


def as_text(view: CircuitView, *, unicode: bool = True, every: bool = False) -> str:
    """The drawing for a terminal: every node with the variables that it writes, and its edges below it.

    An edge has its score and, when it is inert, the reason. Nodes that read nothing here and of which nothing is known
    are left out.

    Args:
        every: whether each edge has a line. Otherwise, when many edges are inert for one reason, only their number is
            shown.
    """
    whole, many = view, {} if every else _many(view)
    view = replace(view, arrows=[arrow for arrow in view.arrows if arrow.mark != "inert" or arrow.why not in many])
    into: dict[str, list[Arrow]] = {}
    for arrow in view.arrows:
        into.setdefault(view.graph.node_of_reader(arrow.edge.reader), []).append(arrow)
    sign = {mark: texts[0 if unicode else 1] for mark, texts in MARKS.items()}
    parts = max([3, *(len(a.edge.reader) - len(view.graph.node_of_reader(a.edge.reader)) for a in view.arrows)]) + 1
    width = max([len(arrow.edge.writer) for arrow in view.arrows], default=0)
    wide = max([len(", ".join(arrow.carries)) for arrow in view.arrows], default=0)
    scored = {edge: number_of_any_size(score) for edge, score in view.scores.items()}
    digits = max(map(len, scored.values()), default=0)
    lines, previous, dead = [view.title, view.caption, ""], None, view.without_path
    for name, row in view.layers:
        row = [node for node in row if node in into or view.nodes.get(node)]
        if row and name not in ("inputs", "output", previous):
            lines.append(f"{name}")
        previous = name if row else previous
        for node in row:
            writes = ", ".join(view.nodes.get(node, ()))
            about = [f"writes {writes}" * bool(writes), NO_PATH * (node in dead)]
            lines.append(f"  {node:10} {'; '.join(filter(None, about))}".rstrip())
            for arrow in sorted(into.get(node, []), key=_by_part_position_and_mark):
                part = arrow.edge.reader[len(node) :]
                carries = ", ".join(arrow.carries)
                why = arrow.why if arrow.mark not in ("true", "found", "kept") else ""
                score = f"{scored.get(str(arrow.edge), ''):>{digits}}  " * bool(digits)
                text = f"    {sign[arrow.mark]} {part:{parts}}from {arrow.edge.writer:{width}}  "
                lines.append(f"{text}{score}{carries:{wide}}  {why}".rstrip())
    if many:
        lines += ["", "not drawn (--all draws them)"]
        lines += [f"  {sign['inert']} {n} edges  {why}" for why, n in many.items()]
    used = [mark for mark in MARKS if whole.count(mark)]
    text = "\n".join([*lines, "", *(f"{sign[mark]} {MARKS[mark][2]} ({whole.count(mark)})" for mark in used)])
    return text if unicode else text.replace(MINUS, "-").replace(MISSING, "-")


def _many(view: CircuitView) -> dict[str, int]:
    """The reasons for which more than ``FEW`` edges are inert, and for how many each is."""
    reasons = Counter(arrow.why for arrow in view.arrows if arrow.mark == "inert")
    return {why: n for why, n in reasons.items() if n > FEW}
