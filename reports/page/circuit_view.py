"""A circuit to look at: its nodes, its arrows, and what is said of each; as text for a terminal, as SVG for a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from markupsafe import Markup, escape

from ...suite.model.graph import Edge, Graph

# mark: (sign in a terminal, sign where there is no Unicode, in words). Lines differ by dashes, not only by colour.
MARKS = {
    "true": ("●", "*", "true: in every minimal circuit"),
    "optional": ("◐", "~", "optional: in some minimal circuits, or needed only beside another edge"),
    "inert": ("·", ".", "inert, though what is written there can be read"),
    "found": ("●", "*", "true, and found"),
    "missed": ("○", "o", "true, and missed"),
    "added": ("×", "x", "found, and not true"),
    "kept": ("●", "*", "in the circuit"),
}
# stroke, width in pixels, dashes
LINES = {
    "true": ("#1f4e79", 2.2, ""),
    "found": ("#1f4e79", 2.2, ""),
    "kept": ("#1f4e79", 1.6, ""),
    "optional": ("#6a51a3", 1.8, "9 3 2 3"),
    "missed": ("#1b7837", 2.2, "3 3"),
    "added": ("#b35806", 1.6, "10 4"),
    "inert": ("#777777", 1.1, "1 3"),
}
FEW = 12  # more inert edges of one reason are counted in a terminal, not listed


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
        nodes: for each node the variables that it writes, where they are known.
        caption: what is said below the title.
    """

    title: str
    caption: str
    graph: Graph
    arrows: Sequence[Arrow]
    nodes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def layers(self) -> list[tuple[str, list[str]]]:
        """Nodes that an arrow touches, input nodes first, by the name of their row; attention and MLP have each one."""
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


def as_text(view: CircuitView, *, unicode: bool = True, every: bool = False) -> str:
    """The drawing for a terminal: every node with what it writes, and below it what it reads, and why not.

    Args:
        every: a line for each edge; else inert edges of one reason are counted where there are many.
    """
    whole, many = view, {} if every else _many(view)
    view = replace(view, arrows=[arrow for arrow in view.arrows if arrow.mark != "inert" or arrow.why not in many])
    into: dict[str, list[Arrow]] = {}
    for arrow in view.arrows:
        into.setdefault(view.graph.node_of_reader(arrow.edge.reader), []).append(arrow)
    sign = {mark: texts[0 if unicode else 1] for mark, texts in MARKS.items()}
    width = max([len(arrow.edge.writer) for arrow in view.arrows], default=0)
    wide = max([len(", ".join(arrow.carries)) for arrow in view.arrows], default=0)
    lines = [view.title, view.caption, ""]
    previous = None
    for name, row in view.layers:
        if name not in ("inputs", "output", previous):
            lines.append(f"{name}")
        previous = name
        for node in row:
            writes = ", ".join(view.nodes.get(node, ()))
            lines.append(f"  {node:10} {'writes ' + writes if writes else ''}".rstrip())
            for arrow in sorted(into.get(node, []), key=lambda a: (a.edge.reader, list(MARKS).index(a.mark))):
                part = arrow.edge.reader[len(node) :]
                carries = ", ".join(arrow.carries)
                why = arrow.why if arrow.mark not in ("true", "found", "kept") else ""
                lines.append(
                    f"    {sign[arrow.mark]} {part:4}from {arrow.edge.writer:{width}}  {carries:{wide}}  {why}".rstrip()
                )
    if many:
        lines += ["", "not drawn (--all draws them)"]
        lines += [f"  {sign['inert']} {n} edges  {why}" for why, n in many.items()]
    used = [mark for mark in MARKS if whole.count(mark)]
    return "\n".join([*lines, "", *(f"{sign[mark]} {MARKS[mark][2]} ({whole.count(mark)})" for mark in used)])


def _many(view: CircuitView) -> dict[str, int]:
    """The reasons for which more than ``FEW`` edges are inert, and for how many each is."""
    reasons = Counter(arrow.why for arrow in view.arrows if arrow.mark == "inert")
    return {why: n for why, n in reasons.items() if n > FEW}


_BOX, _GAP, _HIGH, _ROW = 168, 22, 40, 92  # pixels: a node's width, between nodes, its height, from row to row
_MARGIN, _LANE = 190, 9  # pixels: beside the nodes, for the arrows that pass them; between two such arrows


def as_svg(view: CircuitView) -> Markup:
    """The drawing as one SVG element: inputs at the bottom, logits at the top; every arrow says what it is on hover."""
    rows = [row for _, row in view.layers]
    width = max(len(row) for row in rows) * (_BOX + _GAP) + 2 * _MARGIN
    height = len(rows) * _ROW + 10
    place = {}
    for i, row in enumerate(rows):
        left = (width - len(row) * (_BOX + _GAP) + _GAP) / 2
        for j, node in enumerate(row):
            place[node] = (left + j * (_BOX + _GAP), height - 50 - i * _ROW)
    # The faintest first, so that what matters lies on top.
    arrows = sorted(enumerate(view.arrows), key=lambda item: -list(LINES).index(item[1].mark))
    shapes = [_arrow(arrow, view.graph, place, lane) for lane, arrow in arrows]
    shapes += [_node(node, view.nodes.get(node, ()), x, y) for node, (x, y) in place.items()]
    label = escape(f"{view.title}. {view.caption}")
    return Markup(
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{label}" '
        f'style="max-width:{width:.0f}px">{"".join(shapes)}</svg>'
    )


def _node(name: str, writes: Sequence[str], x: float, y: float) -> str:
    text = ", ".join(writes)
    short = text if len(text) <= 27 else text[:26] + "…"
    below = f'<text x="{x + _BOX / 2:.0f}" y="{y + 31:.0f}" class="writes">{escape(short)}</text>' if text else ""
    return (
        f'<g class="node"><title>{escape(f"{name} writes {text}" if text else name)}</title>'
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{_BOX}" height="{_HIGH}" rx="6"/>'
        f'<text x="{x + _BOX / 2:.0f}" y="{y + 16:.0f}" class="name">{escape(name)}</text>{below}</g>'
    )


def _arrow(arrow: Arrow, graph: Graph, place: Mapping[str, tuple[float, float]], lane: int) -> str:
    node = graph.node_of_reader(arrow.edge.reader)
    part = arrow.edge.reader[len(node) :].strip("<>")
    x1, y1 = place[arrow.edge.writer][0] + _BOX / 2, place[arrow.edge.writer][1]
    x2 = place[node][0] + _BOX * {"q": 0.2, "k": 0.5, "v": 0.8}.get(part, 0.5)
    y2 = place[node][1] + _HIGH
    between = [x for x, y in place.values() if y2 < y < y1]
    if between:  # passes nodes: on their left into queries and from the tokens, else on their right
        leftwards = part == "q" or (part != "v" and arrow.edge.writer in ("input", "tok_embed"))
        apart = 14 + _LANE * (lane % 12)
        beside = min(between) - apart if leftwards else max(between) + _BOX + apart
        # A cubic reaches three quarters of the way to its handles.
        handles = [x + (beside - x) / 0.75 for x in ((x1 + x2) / 2,) * 2]
        bend = (y1 - y2) / 4
    else:
        handles, bend = [x1, x2], (y1 - y2) / 2
    stroke, thick, dashes = LINES[arrow.mark]
    words = f"{arrow.edge}: {MARKS[arrow.mark][2]}"
    words += f"; carries {', '.join(arrow.carries)}" if arrow.carries else ""
    words += f"; {arrow.why}" if arrow.why else ""
    path = f"M{x1:.1f},{y1:.1f} C{handles[0]:.1f},{y1 - bend:.1f} {handles[1]:.1f},{y2 + bend:.1f} {x2:.1f},{y2:.1f}"
    port = f'<text x="{x2 + 5:.0f}" y="{y2 + 11:.0f}" class="port">{part}</text>' if part else ""
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<g class="arrow {arrow.mark}"><title>{escape(words)}</title>'
        f'<path d="{path}" fill="none" stroke="{stroke}" stroke-width="{thick}"{dashed}/>'
        f'<circle cx="{x2:.1f}" cy="{y2:.1f}" r="2.6" fill="{stroke}"/>{port}</g>'
    )
