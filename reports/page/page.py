"""One self-contained HTML page: opens from disk, asks the network for nothing, runs its own few lines only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from jinja2 import Environment, FunctionLoader
from markupsafe import Markup

from ..chapters.present import Table


@dataclass(frozen=True)
class Picture:
    """A figure in the page: its file name without ending, a title, a caption that explains it, and its SVG."""

    name: str
    title: str
    caption: str
    svg: bytes


@dataclass(frozen=True)
class Section:
    """A part of the page. ``text`` are its opening paragraphs."""

    name: str
    title: str
    text: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = field(default=())


def page(title: str, facts: Sequence[str], sections: Sequence[Section], circuits: str = "") -> str:
    """The page's HTML. All text is escaped: a name with markup in it is shown, not run.

    Args:
        facts: short statements under the title (how many cells, programs, methods).
        sections: in order; the first should be the summary. The viewer stands in the one called ``circuits``.
        circuits: what the viewer draws, as ``viewer.circuits_of`` makes it.
    """
    folder = files(__package__).joinpath("templates")
    loader = FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8"))
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["inline"] = inline_svg
    template = environment.get_template("report.html.j2")
    return template.render(title=title, facts=facts, sections=sections, circuits=circuits)


def inline_svg(picture: Picture) -> Markup:
    """The SVG element alone, scaling with the page, with ids that no other figure of the page has."""
    text = picture.svg.decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\sid=")', rf"\g<1>{picture.name}-", text)
    text = re.sub(r'((?:xlink:href|href)="#|url\(#)', rf"\g<1>{picture.name}-", text)
    opening, rest = text.split(">", 1)
    width = float(re.search(r'width="([\d.]+)pt"', opening).group(1)) / 72
    opening = re.sub(r'\s(width|height)="[^"]*"', "", opening)
    # At most a third larger than in print, and not so small that its letters cannot be read: narrow screens scroll it.
    label = Markup.escape(picture.title)
    size = f"min-width:{width * 0.85:.2f}in;max-width:{width * 1.35:.2f}in"
    return Markup(f'{opening} role="img" aria-label="{label}" style="{size}">{rest}')
