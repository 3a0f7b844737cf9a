"""A table to be read, and the one place where a number becomes text.

Everything that prints a number (tables, the sensitivity card, pages, figures, the terminal) takes it from here, so that
a missing value, a minus sign and 99.99 % look the same everywhere. Files for programs (CSV, JSON) hold numbers in full.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

MISSING = "\N{EN DASH}"
"""What stands where there is no number."""

MINUS = "\N{MINUS SIGN}"
LONG, WIDE = 70, 14
"""Rows and columns beyond which a table is for the screen: on paper it would fill pages, or be cut at the right."""


@dataclass(frozen=True)
class TableCell:
    """One entry of a table.

    Args:
        sort: the value by which it is sorted; None: always last.
        best: whether it is the best, or no interval sets it apart from the best: bold everywhere.
        shaded: whether it stands out on the page for another reason, which the caption says.
        below: what the page has below it in smaller letters.
        details: (heading, text) of what the page has below that, folded up.
    """

    text: str
    sort: float | str | None = None
    best: bool = False
    shaded: bool = False
    below: str = ""
    details: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Table:
    """A table to be read.

    Args:
        name: the name of its files, and of its place in the page.
        numeric: which columns are aligned right and sorted as numbers.
        data: the tidy numbers that the table shows, in full; written as CSV.
        by: the column that says which rows belong together; None when all do.
    """

    name: str
    title: str
    caption: str
    headings: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[TableCell, ...], ...] = field(default=())
    data: pd.DataFrame | None = field(default=None, compare=False)
    by: int | None = None

    @property
    def long(self) -> bool:
        """Whether the table is for the screen only."""
        return len(self.rows) > LONG or len(self.headings) > WIDE

    def folded(self, below: Collection[str], details: Collection[str]) -> Table:
        """The table for the page with columns of long texts in its first cells, so that the others fit a window.

        Args:
            below, details: headings of the columns whose texts stand below the first cell's, seen or folded up.
        """
        headings = self.headings
        kept = [i for i, heading in enumerate(headings) if heading not in {*below, *details}]
        rows = []
        for row in self.rows:
            of = dict(zip(headings, (cell.text for cell in row), strict=True))
            first = replace(
                row[0],
                below="; ".join(filter(None, (of[name] for name in below))),
                details=tuple((name, of[name]) for name in details if of[name]),
            )
            rows.append((first, *(row[i] for i in kept if i)))
        return replace(
            self,
            headings=tuple(headings[i] for i in kept),
            numeric=tuple(self.numeric[i] for i in kept),
            rows=tuple(rows),
        )

    def shortened(self, most: int, named: Mapping[str, str] | None = None) -> Table:
        """The table with the first rows of each group that belongs together, ``most`` in all; its caption says so.

        Args:
            named: text of a cell, such as the label of a method of the reader's or of a rival -> whose it is. These
                rows come first, up to twice ``most``: the first of everybody's in each group, then the second ones.
                They leave at least one other row to each group.
        """
        if len(self.rows) <= most:
            return self
        seen: dict[tuple[str, str], int] = {}
        of_named, others = [], []
        for place, row in enumerate(self.rows):
            group = "" if self.by is None else row[self.by].text
            whose = next((named[cell.text] for cell in row if cell.text in named), "") if named else ""
            rank = seen[group, whose] = seen.get((group, whose), -1) + 1
            (of_named if whose else others).append((rank, place))
        kept = [place for _, place in sorted(of_named)[: 2 * most]]
        groups = len({group for group, _ in seen})
        kept += [place for _, place in sorted(others)[: max(most - len(kept), groups)]]
        if len(kept) == len(self.rows):
            return self
        first = "The first rows" if self.by is None else f"The first rows of each {self.headings[self.by].lower()}"
        first += ", and those of your own methods and of their rivals" * bool(of_named)
        caption = f"{self.caption} {first}; {count(len(self.rows) - len(kept))} more are in the report."
        return replace(self, caption=caption, rows=tuple(self.rows[place] for place in sorted(kept)))


def is_missing(value: Any) -> bool:
    """Whether there is no number: None, NaN, or pandas' NA."""
    return value is None or bool(pd.isna(value))


def number(value: Any, digits: int = 2, *, sign: bool = False) -> str:
    """A number with ``digits`` decimals: ``0.87``, ``\N{MINUS SIGN}0.50``; ``sign`` puts a plus before positive ones.

    >>> number(-0.001), number(float("nan"))
    ('0.00', '–')
    """
    if is_missing(value):
        return MISSING
    text = f"{value:.{digits}f}"
    text = text.removeprefix("-") if float(text) == 0 else text
    return ("+" if sign and float(text) > 0 else "") + text.replace("-", MINUS)


def numbers_alike(values: Sequence[Any]) -> list[str]:
    """Numbers of one unit, with the same decimals: two, or where all are too small for these as many as give the
    largest two digits. Below a ten thousandth each is a ``number_of_any_size``, as are those of 1 and more.

    >>> numbers_alike([0.54, 0.049]), numbers_alike([0.01, 0.049])
    (['0.54', '0.05'], ['0.010', '0.049'])
    """
    largest = max((abs(value) for value in values if not is_missing(value)), default=0.0)
    if largest < 1e-4:
        return [number_of_any_size(value) for value in values]
    if largest < 0.095:
        return [number(value, 1 - math.floor(math.log10(largest))) for value in values]
    return [number(value) if is_missing(value) or abs(value) < 1 else number_of_any_size(value) for value in values]


def number_of_any_size(value: Any) -> str:
    """A number of unknown size: two decimals, or two significant digits where those would hide it.

    >>> number_of_any_size(0.5), number_of_any_size(0.0123), number_of_any_size(4321.0)
    ('0.50', '0.012', '4,321')
    """
    if is_missing(value) or value == 0 or 0.095 <= abs(value) < 1000:
        return number(value)
    if not math.isfinite(value) or abs(value) < 0.095:
        return f"{value:.2g}".replace("-", MINUS)
    return f"{value:,.0f}".replace("-", MINUS) if abs(value) < 1e9 else f"{value:.3g}"


def amount(value: Any) -> str:
    """Seconds or passes in three significant digits, with thousands separated."""
    if is_missing(value):
        return MISSING
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}".replace("-", MINUS)
    return (f"{value:.2g}" if abs(value) < 1 else f"{value:.3g}").replace("-", MINUS)


def count(value: Any) -> str:
    """A whole number with thousands separated."""
    return MISSING if is_missing(value) else f"{value:,.0f}".replace("-", MINUS)


def without_result(kinds: Sequence[str | None]) -> str:
    """How many cells have no result, those that cannot have one apart: ``60 have no meaning (undefined) and 2 failed``.

    Args:
        kinds: of each cell, how it failed, or ``None``.
    Returns an empty text where every cell has a result.
    """
    undefined = sum(kind == "undefined" for kind in kinds)
    failed = sum(kind is not None for kind in kinds) - undefined
    parts = [f"{count(undefined)} {'has' if undefined == 1 else 'have'} no meaning (undefined)"] * (undefined > 0)
    return " and ".join([*parts, *[f"{count(failed)} failed"] * (failed > 0)])


def percent(value: Any) -> str:
    """A fraction in whole percents. Only an exact 0 or 1 is printed as 0 % or 100 %.

    >>> percent(0.9999), percent(1.0), percent(0.001)
    ('>99 %', '100 %', '<1 %')
    """
    if is_missing(value):
        return MISSING
    if 0 < value < 0.005:
        return "<1 %"
    if 0.995 <= value < 1 - 1e-9:
        return ">99 %"
    return f"{number(100 * value, 0)} %"


def p_value(value: Any) -> str:
    """A p value with three decimals; ``<0.001`` below."""
    return "<0.001" if not is_missing(value) and value < 0.0005 else number(value, 3)


def with_interval(value: Any, low: Any, high: Any, digits: int = 2, *, sign: bool = False) -> str:
    """``0.87 [0.71, 0.95]``; without brackets when there is no interval. All three have the same decimals.

    >>> with_interval(0.25, -0.5, 1.0, 3, sign=True)
    '+0.250 [−0.500, +1.000]'
    """
    text, *ends = (number(each, digits, sign=sign) for each in (value, low, high))
    return text if is_missing(low) else f"{text} [{', '.join(ends)}]"


def over_fewer(text: str, n: int, of: int) -> str:
    """A number's text, and over how many programs it is where these are fewer than its row's.

    >>> over_fewer("1.00", 2, 6), over_fewer("1.00", 6, 6), over_fewer(MISSING, 0, 6)
    ('1.00 (2 of 6)', '1.00', '–')
    """
    return f"{text} ({n} of {of})" if 0 < n < of else text


def percent_with_interval(value: Any, low: Any, high: Any) -> str:
    """``82 % [81 %, 84 %]``; without brackets when there is no interval."""
    text = percent(value)
    return text if is_missing(low) else f"{text} [{percent(low)}, {percent(high)}]"


def short(value: float) -> str:
    """A number for the square of a heat map: two decimals and no zero before them; from 10 on, a whole number.

    >>> short(0.5), short(-0.25), short(12.3)
    ('.50', '−.25', '12')
    """
    text = number(value, 2 if abs(value) < 9.995 else 0)
    text = text.replace("0.", ".", 1) if abs(value) < 0.995 else text
    return "0" if text == ".00" else text


def size_of_circuit(size: str) -> str:
    """The text for a size of circuits as stores name it: ``the true size``, or ``10 % of the edges``."""
    return "the true size" if size == "true" else f"{share_text(float(size))} of the edges"


def share_text(share: float) -> str:
    """A share of the edges, as short as it is exact: ``10 %``, ``0.5 %``."""
    return f"{100 * share:g} %"


def listed(names: list[str] | tuple[str, ...]) -> str:
    """``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def text_cell(value: Any) -> TableCell:
    """A cell of words."""
    return TableCell(MISSING) if is_missing(value) else TableCell(str(value), str(value))


def number_cell(text: str, value: Any, best: bool = False, shaded: bool = False) -> TableCell:
    """A cell of a number, sorted by its value."""
    return TableCell(text, None if is_missing(value) else float(value), best, shaded)


def count_cell(value: Any, best: bool = False) -> TableCell:
    """A cell of a whole number."""
    return number_cell(count(value), value, best)
