"""Tables as plain text, for terminals and pipes. Imports neither pandas nor torch, for which commands would wait."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO

from rich.console import Console, OverflowMethod
from rich.table import Table
from rich.text import Text

_ENDLESS = 10**6  # letters of a line where nothing is cut
_BETWEEN = 0.3  # of the width, at most, for each column between the first and the last, when rows are cut


def text_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    to_the_right: Sequence[bool],
    *,
    width: int | None = None,
    dots: bool = True,
) -> str:
    """A table in aligned columns with two blanks between them: a line of headings, and a line for each row.

    Args:
        headings: one for each column.
        rows: the texts of each row, one for each column.
        to_the_right: whether a column is aligned right.
        width: letters of a line. Columns are cut so that rows fit: those between the first and the last to three
            tenths of the width each, the last to what is left. None: nothing is cut.
        dots: whether a text that is cut ends in an ellipsis, which is not ASCII.

    Returns:
        The lines, without blanks at their ends, and without codes for colours.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    overflow: OverflowMethod = "ellipsis" if dots else "crop"
    last = len(headings) - 1
    for place, (heading, right) in enumerate(zip(headings, to_the_right, strict=True)):
        table.add_column(
            Text(heading),
            justify="right" if right else "left",
            overflow=overflow,
            no_wrap=width is None or place < last,
            max_width=int(width * _BETWEEN) if width and 0 < place < last else None,
        )
    for row in rows:
        # Only a column that may wrap gets narrower: the last one. Its texts are cut all the same.
        table.add_row(*(Text(text.expandtabs(), no_wrap=True, overflow=overflow) for text in row))
    drawn = StringIO()
    console = Console(file=drawn, width=width or _ENDLESS, force_terminal=False, force_jupyter=False, color_system=None)
    console.print(table, end="")
    return "\n".join(line.rstrip() for line in drawn.getvalue().splitlines())
