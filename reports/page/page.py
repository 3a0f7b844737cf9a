"""One self-contained HTML page. It opens from disk, asks the network for nothing, and runs a few lines of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from jinja2 import Environment, FunctionLoader
from markupsafe import Markup, escape

from .table import Table


@dataclass(frozen=True)
class Picture:
    """A figure in the page: its file name without ending, a title, a caption that explains it, and its SVG.

    ``narrow`` is the SVG for narrow windows, in which panels stand one below the other.
    """

    name: str
    title: str
    caption: str
    svg: bytes
    narrow: bytes


@dataclass(frozen=True)
class Section:
    """A part of the page. ``text`` are its opening paragraphs; ``viewer`` is what the circuit viewer shows in it."""

    name: str
    title: str
    text: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = field(default=())
    viewer: str = ""

    @property
    def empty(self) -> bool:
        return not (self.text or self.pictures or self.tables or self.viewer)


def page(title: str, facts: Sequence[str], sections: Sequence[Section], *, brief: bool = False) -> str:
    """The page's HTML. All text is escaped: a name with markup in it is shown, not run.

    Args:
        facts: short statements under the title (how many cells, programs, methods).
        sections: in order; the first should be the summary. One of them at most has a viewer.
        brief: set in small type, for two printed pages, without a list of sections.
    """
    folder = files(__package__).joinpath("templates")
    loader = FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8"))
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"inline": inline_svg, "code": code}
    template = environment.get_template("report.html.j2")
    return template.render(title=title, facts=facts, sections=sections, brief=brief)


def code(text: str) -> Markup:
    """Escaped text in which what stands between backticks is set as code.

    >>> code("`report` <b>")
    Markup('<code>report</code> &lt;b&gt;')
    """
    return Markup(re.sub(r"`([^`\n]+)`", r"<code>\1</code>", str(escape(text))))


def inline_svg(picture: Picture) -> Markup:
    """Both SVG elements, of which the page shows one: the figure as in print, and the one for narrow windows.

    A figure whose panels are already one below the other has one SVG element only.
    """
    wide = _element(picture.svg, picture.name, picture.title)
    if picture.narrow == picture.svg:
        return Markup(wide)
    narrow = _element(picture.narrow, f"{picture.name}-narrow", picture.title)
    return Markup(f'<div class="wide">{wide}</div><div class="narrow">{narrow}</div>')


def _element(svg: bytes, prefix: str, title: str) -> str:
    """The SVG element alone, scaling with the page, with ids that no other figure of the page has.

    White becomes the page's own colour for figures, so that they are no white boxes where the page is dark.
    """
    text = svg.decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\sid=")', rf"\g<1>{prefix}-", text)
    text = re.sub(r'((?:xlink:href|href)="#|url\(#)', rf"\g<1>{prefix}-", text)
    text = text.replace("fill: #ffffff", "fill: var(--blank)").replace("stroke: #ffffff", "stroke: var(--blank)")
    opening, rest = text.split(">", 1)
    stated = re.search(r'width="([\d.]+)pt"', opening)
    width = float(stated[1]) / 72 if stated else 0.0
    opening = re.sub(r'\s(width|height)="[^"]*"', "", opening)
    # At most a third larger than in print, so that letters are no larger than the page's own.
    return f'{opening} role="img" aria-label="{escape(title)}" style="max-width:{width * 1.35:.2f}in">{rest}'
