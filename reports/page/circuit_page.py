"""A self-contained HTML page of circuits: drawings, what every arrow carries, and why the others are inert."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment
from markupsafe import Markup

from .circuit_view import LINES, MARKS, CircuitView, as_svg


def circuit_page(title: str, facts: Sequence[str], views: Sequence[CircuitView]) -> str:
    """The page's HTML. It asks the network for nothing and runs nothing; all text is escaped."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"svg": as_svg, "legend": _legend}
    template = files(__package__).joinpath("templates/circuit.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(title=title, facts=facts, views=views)


def _legend(view: CircuitView) -> list[tuple[str, Markup]]:
    """For each mark of the drawing, in words with its count, a sample of its line."""
    samples = []
    for mark, (_, _, words) in MARKS.items():
        if view.count(mark):
            stroke, thick, dashes = LINES[mark]
            dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
            line = f'<line x1="0" y1="5" x2="46" y2="5" stroke="{stroke}" stroke-width="{thick}"{dashed}/>'
            samples.append((f"{words} ({view.count(mark)})", Markup(f'<svg viewBox="0 0 46 10">{line}</svg>')))
    return samples
