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
    """Every arrow of a drawing, as a list."""
    rows = []
    for arrow in view.arrows:
        score = view.scores.get(str(arrow.edge))
        about = (MARKS[arrow.mark][2], ", ".join(arrow.carries), arrow.why)
        cells = [text_cell(str(arrow.edge)), *(TableCell(text, text) for text in about)]
        rows.append((*cells, number_cell(number_of_any_size(score), score)) if view.scores else tuple(cells))
    scored = ("Score",) * bool(view.scores)
    headings = ("Edge", "What it is", "Carries", "Why", *scored)
    numeric = (False, False, False, False, *(True for _ in scored))
    return Table(f"edges-{number}", view.title, view.caption, headings, numeric, tuple(rows))
