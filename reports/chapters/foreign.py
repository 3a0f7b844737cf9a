"""Chapters of other packages, asked so that what is wrong with one of them costs the report nothing else.

A report is drawn after hours of computing. An error in a chapter of this package is a bug, and ends the report. An
error in another package's chapter leaves out what the chapter was asked for, and the report says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import pandas as pd

from ...suite.errors import SpecError
from ...suite.users_line import raised
from ..page import markup
from ..page.page import Section, page
from ..page.table import Table
from .chapter import CHAPTERS, Chapter, Plot, is_own_chapter

if TYPE_CHECKING:
    from ..read.results import Results

LAST = 10_000
"""The order of a chapter that states none."""
_FILE_NAME = re.compile(r"\w[\w.-]*")
_Part = TypeVar("_Part")
_Item = TypeVar("_Item")


class ForeignChapter(Chapter):
    """A chapter of another package. What it cannot give is left out.

    Args:
        name: the name under which the chapter is registered.
        package: the top-level package that it is from.
        make: returns the chapter; usually its class.

    Attributes:
        faults: a sentence for each part that is left out, by the part, such as ``tables`` or ``figure 'sky'``.
    """

    def __init__(self, name: str, package: str, make: Callable[[], Chapter]) -> None:
        self.name, self._package = name, package
        self.faults: dict[str, str] = {}
        self._chapter = self._tried("content", make, Chapter())
        self.title = str(getattr(self._chapter, "title", name))
        order = getattr(self._chapter, "order", LAST)
        self.order = order if isinstance(order, int) else LAST

    def leave_out(self, part: str, reason: str) -> None:
        """Notes in ``faults`` that a part of the chapter is not in the report.

        Args:
            reason: a clause in one line, without a full stop.
        """
        self.faults[part] = (
            f"The {part} of the chapter {self.name!r}, package {self._package!r}, is left out: {reason}."
        )

    def tables(self, results: Results) -> Sequence[Table]:
        return self._tried("tables", lambda: self._written(self._chapter.tables(results)), ())

    def figures(self, results: Results) -> Sequence[Plot]:
        return self._tried("figures", lambda: _files(self._chapter.figures(results), Plot), ())

    def words(self, results: Results) -> Sequence[str]:
        return self._tried("words", lambda: _items(self._chapter.words(results), str), ())

    def summary(self, results: Results) -> Sequence[str]:
        return self._tried("summary", lambda: _items(self._chapter.summary(results), str), ())

    def statistics(self, results: Results) -> Sequence[str]:
        return self._tried("statistics", lambda: _items(self._chapter.statistics(results), str), ())

    def data(self, results: Results) -> Mapping[str, pd.DataFrame]:
        return self._tried("data", lambda: _frames(self._chapter.data(results)), {})

    def viewer(self, results: Results) -> str:
        return self._tried("viewer", lambda: _is(self._chapter.viewer(results), str), "")

    def _tried(self, part: str, give: Callable[[], _Part], otherwise: _Part) -> _Part:
        """What ``give`` returns; where it raises, ``otherwise``, and the part is left out."""
        try:
            return give()
        except Exception as problem:  # another package's code may raise anything
            self.leave_out(part, raised(problem))
            return otherwise

    def _written(self, given: object) -> tuple[Table, ...]:
        """The tables, once each was written in every format: a row that is no row is noticed when it is written."""
        tables = _files(given, Table)
        for table in tables:
            markup.markdown(table)
            markup.latex(table)
        _frames({table.name: table.data for table in tables if table.data is not None})
        page("", (), [Section(self.name, self.title, tables=tables)])
        return tables


def foreign_chapters() -> list[ForeignChapter]:
    """The chapters of other packages, those that cannot be imported among them."""
    kinds = {name: CHAPTERS.get(name) for name in CHAPTERS}
    found = [
        ForeignChapter(name, kind.__module__.partition(".")[0], kind)
        for name, kind in kinds.items()
        if not is_own_chapter(kind)
    ]
    for name, (package, error) in CHAPTERS.unimportable().items():
        found.append(ForeignChapter(name, package, _raising(error)))
    return found


def _raising(error: SpecError) -> Callable[[], Chapter]:
    def make() -> Chapter:
        raise error

    return make


def _is(given: object, kind: type[_Item]) -> _Item:
    if not isinstance(given, kind):
        raise TypeError(f"{kind.__name__} is needed and {type(given).__name__} was given")
    return given


def _items(given: object, kind: type[_Item]) -> tuple[_Item, ...]:
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise TypeError(f"a sequence of {kind.__name__} is needed and {type(given).__name__} was given")
    return tuple(_is(item, kind) for item in given)


def _files(given: object, kind: type[_Item]) -> tuple[_Item, ...]:
    """Items whose names are those of files."""
    items = _items(given, kind)
    for item in items:
        _check_name(getattr(item, "name", ""))
    return items


def _frames(given: object) -> dict[str, pd.DataFrame]:
    if not isinstance(given, Mapping):
        raise TypeError(f"a mapping of names to DataFrames is needed and {type(given).__name__} was given")
    for name in given:
        _check_name(name)
    return {name: _is(table, pd.DataFrame) for name, table in given.items()}


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not _FILE_NAME.fullmatch(name):
        raise ValueError(f"the name {name!r} is no file's name: letters, digits, '_', '.' and '-'")
