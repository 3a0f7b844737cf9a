"""A self-contained HTML page of circuits: the viewer, the content of every arrow, and the reasons for inert edges."""

from __future__ import annotations

from collections.abc import Sequence

from .circuit_view import MARKS, CircuitView
from .page import Section, page
from .table import Table, TableCell, number_cell, number_of_any_size, text_cell
from .viewer import views_json


def circuit_page(title: str, facts: Sequence[str], views: Sequence[CircuitView]) -> str:
    """The page's HTML. It asks the network for nothing and runs the viewer only; all text is escaped."""
    words = tuple(f"{view.title}: {view.caption}." if view.caption else view.title for view in views)
    sections = [Section("circuits", "Circuits", words, viewer=views_json(views))]
    edges = tuple(_edges(view, i) for i, view in enumerate(views) if view.arrows)
    return page(title, facts, [*sections, Section("edges", "Edges", tables=edges)])


def _edges(view: CircuitView, number: int) -> Table:
    """Every arrow of a drawing, as a list, those of large scores first. Columns of which nothing is known are left out.

    What an edge is says nothing in a circuit without a truth, where all are in the circuit.
    """
    arrows = sorted(view.arrows, key=lambda arrow: -abs(view.scores.get(str(arrow.edge), 0.0)))
    texts = {
        "What it is": [MARKS[arrow.mark][2] if view.against_truth else "" for arrow in arrows],
        "Carries": [", ".join(arrow.carries) for arrow in arrows],
        "Why": [arrow.why for arrow in arrows],
    }
    columns = [[text_cell(str(arrow.edge)) for arrow in arrows]]
    columns += [[TableCell(text, text) for text in column] for column in texts.values() if any(column)]
    headings = ["Edge", *(heading for heading, column in texts.items() if any(column))]
    if view.scores:
        scores = [view.scores.get(str(arrow.edge)) for arrow in arrows]
        columns.append([number_cell(number_of_any_size(score), score) for score in scores])
        headings.append("Score")
    numeric = tuple(heading == "Score" for heading in headings)
    rows = tuple(zip(*columns, strict=True))
    return Table(f"edges-{number}", view.title, view.caption, tuple(headings), numeric, rows)
