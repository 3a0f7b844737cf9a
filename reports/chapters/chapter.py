"""What a chapter of the report is, and the registry of those that there are.

A chapter is a class in a file of its own: its tables, its figures and its words, all of them made from ``Results``. The
report goes through the registry in order; whatever a chapter gives is in the page and in the files. A chapter in this
folder is registered when it is imported; another package adds one through the entry-point group
``circuitmeter.chapters``, and ``foreign.py`` asks it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from ...suite.registry import Registry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..page.table import Table
    from ..read.results import Results


class Plot(NamedTuple):
    """A figure that is yet to be drawn: its file name without ending, a title, and the caption that explains it.

    ``draw`` returns the matplotlib figure; it takes no arguments and may run in another process.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[], Figure]


class Chapter:
    """A chapter. One that gives nothing is left out of the page.

    ``order``: chapters come in this order; those of the same by name. ``title`` is its heading. ``of_circuits``:
    whether its tables are about circuits, so that they warn where a model hardly does a task. ``leads``: whether its
    summary comes first, and whole, in the short report, and its tables are left to the long one.
    """

    name: str
    title: str
    order: int
    of_circuits: bool = True
    leads: bool = False

    def tables(self, results: Results) -> Sequence[Table]:
        """The tables to be read; each is written as Markdown and LaTeX, and its ``data`` as CSV. Empty ones are not."""
        return ()

    def figures(self, results: Results) -> Sequence[Plot]:
        """The figures, in order."""
        return ()

    def words(self, results: Results) -> Sequence[str]:
        """Paragraphs under the heading."""
        return ()

    def summary(self, results: Results) -> Sequence[str]:
        """Paragraphs in the summary at the top of the page: what somebody reads who reads nothing else."""
        return ()

    def statistics(self, results: Results) -> Sequence[str]:
        """Sentences for a paper's methods: how the chapter's numbers are summed up and compared."""
        return ()

    def data(self, results: Results) -> Mapping[str, pd.DataFrame]:
        """Tidy tables by name that are written as CSV beside those of ``tables``."""
        return {}

    def viewer(self, results: Results) -> str:
        """What the page's circuit viewer shows (``page/viewer.py``), as JSON; empty without circuits."""
        return ""


CHAPTERS: Registry[type[Chapter]] = Registry("chapter", "circuitmeter.chapters", required=False)


def chapter(kind: type[Chapter]) -> type[Chapter]:
    """Decorator that registers a chapter. Raises SpecError when another has its name."""
    return CHAPTERS.add(kind.name, kind)


def is_own_chapter(kind: type[Chapter]) -> bool:
    """Whether a chapter is this package's and not another's."""
    return kind.__module__.startswith(f"{__package__}.")


def chapters() -> list[Chapter]:
    """One of each chapter of this package, in order."""
    package = import_module(__package__)
    for module in iter_modules(package.__path__):
        import_module(f"{__package__}.{module.name}")
    kinds = [kind for kind in map(CHAPTERS.get, CHAPTERS) if is_own_chapter(kind)]
    return sorted((kind() for kind in kinds), key=by_order)


def by_order(part: Chapter) -> tuple[int, str]:
    """What chapters are sorted by."""
    return part.order, part.name
