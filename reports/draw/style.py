"""How figures look: sizes, one colour, marker and line style per method, and files that are identical when drawn again.

Colours are Okabe and Ito's, told apart with any common colour blindness; markers and line styles tell methods apart in
grey. Figures are made with matplotlib's objects only: no pyplot, no global state.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from importlib.resources import files
from typing import NamedTuple, ParamSpec

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.text import Text

from ..read.labels import canonical, is_own, ordered_labels

COLUMN, PAGE = 3.3, 6.9
"""Widths of one column and of two, inches."""

FIGURE_FORMATS = ("pdf", "svg", "png")

_NARROW: ContextVar[bool] = ContextVar("narrow", default=False)


@contextmanager
def narrow() -> Iterator[None]:
    """Figures drawn inside the block are as wide as one column, with one panel below the other, for telephones."""
    token = _NARROW.set(True)
    try:
        yield
    finally:
        _NARROW.reset(token)


def width_of(n_panels: int) -> float:
    """Inches: a single panel is as wide as a column of a paper, several fill the page's width."""
    return COLUMN if n_panels == 1 or _NARROW.get() else PAGE


def across(most: int) -> int:
    """How many panels stand side by side at most."""
    return 1 if _NARROW.get() else most


P = ParamSpec("P")


class Look(NamedTuple):
    """How one method is drawn everywhere."""

    color: str
    marker: str
    line: str | tuple[float, tuple[float, ...]]


_DASH, _DOT, _DASHDOT, _LONG = (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2))

KNOWN = {
    "eap": Look("#0072B2", "o", "-"),
    "eap-ig": Look("#D55E00", "s", _DASH),
    "acdc": Look("#009E73", "^", _DASHDOT),
    "exact": Look("#CC79A7", "D", _LONG),
    "eap-gp": Look("#E69F00", "v", "-"),
    "eap-path": Look("#56B4E9", "<", _DASH),
    "hisp": Look("#8C6D1F", ">", _DASHDOT),
    "relp": Look("#7B3294", "p", _LONG),
    "gim": Look("#1B7837", "h", "-"),
    "atp-star": Look("#A6611A", "d", _DASH),
    "ifr": Look("#332288", "^", "-"),
    "cd-t": Look("#AA4499", "v", _DASHDOT),
    "edge-pruning": Look("#B22222", "o", _LONG),
    "subnetwork-probing": Look("#4B3FE4", "s", "-"),
    "ugs": Look("#999933", "D", _DASH),
    "discogp": Look("#F08080", ">", "-"),
    "ibcircuit": Look("#00798C", "<", _DASHDOT),
    "eap-hvp": Look("#5E4FA2", "d", _DASHDOT),
    "gate-aware": Look("#8F2D56", "h", _LONG),
    "peap": Look("#5B7F00", "p", _DASHDOT),
    "truth": Look("#000000", "*", _DOT),
    "magnitude": Look("#666666", "X", _DASH),
    "random": Look("#999999", "P", _DOT),
}
_OTHERS = [
    Look("#DD4477", "v", _DASHDOT),
    Look("#225588", "X", "-"),
    Look("#CC5500", "p", _DASH),
    Look("#117733", "d", _LONG),
    Look("#882255", "<", "-"),
]


def own_first(labels: Iterable[str]) -> list[str]:
    """Labels in the order of legends: methods of your own first, baselines last."""
    return sorted(ordered_labels(labels), key=lambda label: not is_own(label))


_MARKERS, _LINES = "os^Dv<>pPhXd", ("-", _DASH, _DASHDOT, _LONG, _DOT)


def looks(labels: Iterable[str]) -> dict[str, Look]:
    """A look for each label. Known methods always have theirs; others take the remaining ones in the order of their
    names.

    Settings of one method (``eap-ig (steps=5)``, ``eap-ig (steps=30)``) share its colour and differ in marker and line.
    No two labels share both colour and marker while there are markers left: 12 a known method, 60 for all others.
    """
    ordered = ordered_labels(labels)
    unknown = [name for name in dict.fromkeys(map(canonical, ordered)) if name not in KNOWN]
    found: dict[str, Look] = {}
    taken: set[tuple[str, str]] = set()
    for label in ordered:
        method = canonical(label)
        first = KNOWN.get(method) or _OTHERS[unknown.index(method) % len(_OTHERS)]
        variants = [_variant(first, setting) for setting in range(len(_MARKERS))]
        free = [look for look in variants if (look.color, look.marker) not in taken]
        found[label] = (free or variants)[0]
        taken.add((found[label].color, found[label].marker))
    return found


def _variant(look: Look, setting: int) -> Look:
    """The look of another setting of a method: its colour, another marker, another line."""
    if not setting:
        return look
    # Five and twelve have no common divisor: every marker is reached.
    marker = _MARKERS[(_MARKERS.find(look.marker) + 5 * setting) % len(_MARKERS)]
    return Look(look.color, marker, _LINES[(_LINES.index(look.line) + setting) % len(_LINES)])


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorator of figure functions: they draw in the project's style and leave matplotlib's settings as they were."""

    @wraps(draw)
    def in_style(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with _style():
            figure = draw(*args, **kwargs)
            # The layout is solved once, here: solving it again for each file format takes most of the time.
            engine = figure.get_layout_engine()
            if engine is not None:
                engine.execute(figure)
                figure.set_layout_engine("none")
            _fit_titles(figure)
            return figure

    return in_style


_SMALLEST_TITLE = 6.0
"""Points."""


def _fit_titles(figure: Figure) -> None:
    """Makes titles of panels end before the next panel's begins: smaller, or without what all of them end in.

    A single panel's title that is too long for that all the same begins further to the left.
    """
    titled = [ax for ax in figure.axes if ax.get_visible() and ax.get_title(loc="left")]
    if not titled:
        return
    wide = figure.get_figwidth()
    rooms = [_room_of_title(ax, titled) * wide for ax in titled]

    def needed(text: str, size: float) -> float:  # bold letters are 0.6 times as wide as high on average
        return max(map(len, text.splitlines())) * 0.6 * size / 72

    texts = [ax.get_title(loc="left") for ax in titled]
    sizes = [
        next(
            child.get_fontsize() for child in ax.get_children() if isinstance(child, Text) and child.get_text() == text
        )
        for ax, text in zip(titled, texts, strict=True)
    ]
    scale = min(room / needed(text, size) for room, text, size in zip(rooms, texts, sizes, strict=True))
    if scale < 0.9 and all(text.endswith(" ablation") for text in texts):
        texts = [text.removesuffix(" ablation") for text in texts]
        scale = min(room / needed(text, size) for room, text, size in zip(rooms, texts, sizes, strict=True))
    for ax, text, size, room in zip(titled, texts, sizes, rooms, strict=True):
        size = min(size, max(_SMALLEST_TITLE, size * scale))
        missing = needed(text, size) - room
        x = -missing / (wide * ax.get_position().width) if missing > 0 and len(titled) == 1 else 0.0
        ax.set_title(text, loc="left", fontsize=size, x=x)


def _room_of_title(ax: Axes, titled: Sequence[Axes]) -> float:
    """From where a panel's title begins to the next panel's in its row, or the edge: a fraction of the figure."""
    place = ax.get_position()
    others = [other.get_position() for other in titled]
    right = [each.x0 for each in others if each.x0 > place.x0 + 0.01 and abs(each.y1 - place.y1) < 0.02]
    return min(right, default=1.0) - place.x0 - 0.005


def render(figure: Figure, file_format: str) -> bytes:
    """The figure as a file's content, identical bytes whenever the same figure is drawn on one machine.

    Args:
        file_format: ``pdf``, ``svg`` or ``png``.
    """
    written, before = io.BytesIO(), figure.dpi
    # The canvas' own method, because ``savefig`` draws every figure twice, the first time for a layout it has already.
    with _style():
        match file_format:
            case "pdf":
                FigureCanvasPdf(figure).print_pdf(written, metadata={"CreationDate": None})
            case "svg":
                FigureCanvasSVG(figure).print_svg(written, metadata={"Date": None})
            case "png":
                figure.dpi = matplotlib.rcParams["savefig.dpi"]
                FigureCanvasAgg(figure).print_png(written, metadata={"Software": None})
    figure.dpi = before
    return written.getvalue()


def _style():
    return matplotlib.rc_context(fname=str(files(__package__).joinpath("circuitmeter.mplstyle")))
