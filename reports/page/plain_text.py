"""Tables as plain text, for terminals and pipes. Imports neither pandas nor torch, for which commands would wait."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, OverflowMethod
from rich.table import Table
from rich.text import Text

_ENDLESS = 10**6  # letters of a line where nothing is cut
_BETWEEN = 1 / 3  # of what the first column leaves, at most, for the columns of text between it and the last one

_NARROWEST = 8  # letters of a column that is cut


def text_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    to_the_right: Sequence[bool],
    *,
    width: int | None = None,
    wrap: Literal["first", "last"] | None = None,
    dots: bool = True,
) -> str:
    """A table in aligned columns with two blanks between them: a line of headings, and a line for each row.

    Args:
        headings: one for each column.
        rows: the texts of each row, one for each column.
        to_the_right: whether a column is aligned right.
        width: letters of a line. Columns are cut so that rows fit: neither the first nor those aligned right, the
            others before the last to a third of what is left then, and the last to the rest. None: nothing is cut.
        wrap: the column that goes on in the next lines, and is not cut; where it is the first, no other is cut.
        dots: whether a text that is cut ends in an ellipsis, which is not ASCII.

    Returns:
        The lines, without blanks at their ends, and without codes for colours.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    overflow: OverflowMethod = "ellipsis" if dots else "crop"
    last = len(headings) - 1
    cut = width is not None and wrap != "first"
    most = _widths(headings, rows, to_the_right, width) if width and cut else [None] * len(headings)
    narrower = 0 if wrap == "first" else last
    for place, (heading, right) in enumerate(zip(headings, to_the_right, strict=True)):
        table.add_column(
            Text(heading),
            justify="right" if right else "left",
            overflow=overflow,
            no_wrap=width is None or place != narrower,
            max_width=most[place],
        )
    for row in rows:
        # Only a column that may wrap gets narrower. Where nothing is to wrap, the texts of the last one are cut.
        table.add_row(
            *(
                Text(text.expandtabs(), no_wrap=wrap is None or place != narrower, overflow=overflow)
                for place, text in enumerate(row)
            )
        )
    drawn = StringIO()
    console = Console(file=drawn, width=width or _ENDLESS, force_terminal=False, force_jupyter=False, color_system=None)
    console.print(table, end="")
    return "\n".join(line.rstrip() for line in drawn.getvalue().splitlines())


def _widths(
    headings: Sequence[str], rows: Sequence[Sequence[str]], to_the_right: Sequence[bool], width: int
) -> list[int | None]:
    """The most letters of each column; None: as many as its texts have. Short columns leave their share to others."""
    whole = [max(cell_len(text) for text in column) for column in zip(headings, *rows, strict=True)]
    last = len(headings) - 1
    between = sorted((place for place in range(1, last) if not to_the_right[place]), key=lambda place: whole[place])
    fixed = sum(whole[place] for place in range(last) if place not in between) + 2 * last
    left = int((width - fixed) * _BETWEEN)
    most: list[int | None] = [None] * len(headings)
    for n, place in enumerate(between):
        share = max(left // (len(between) - n), _NARROWEST)
        most[place] = given = min(whole[place], share)
        left -= given
    return most
