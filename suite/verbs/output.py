"""What a verb prints: tables for people, JSON for programs."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Literal

from ..errors import DataError, SpecError
from ..reading import check_file

WIDEST = 110
"""Letters of a line of prose."""


@contextmanager
def keeping(what: Callable[[], str]) -> Iterator[None]:
    """Work of which something is kept when it is interrupted.

    Args:
        what: gives a sentence without its capital and full stop: what is kept, where, and how to go on.

    Raises:
        KeyboardInterrupt: with that sentence.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(what()) from None


def of_cells(store: Path) -> str:
    """What a run keeps that is interrupted; that of earlier runs is kept with it."""
    if not (store / "store.json").is_file():
        return "nothing was written"
    return f"the cells that are finished are in {store}, and the same command runs the others"


Fit = Literal["cut", "wrap", "wrap first"]


def print_json(value: Any) -> None:
    """One JSON value on standard output. NaN is not JSON: write ``None`` where there is no number."""
    print(json.dumps(value, indent=2, allow_nan=False, default=str))


def make_folder(folder: Path) -> None:
    """Makes the folder that ``--out`` names, if it does not exist. Raises DataError when it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _no_folder(folder, error) from None


def refuse_folder(folder: Path) -> None:
    """Raises DataError for a folder that could not be made, and makes nothing: work may still be refused."""
    try:
        there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _no_folder(folder, error) from None


def _no_folder(folder: Path, error: OSError) -> DataError:
    return DataError(f"cannot make the folder {folder}: {error.strerror}; choose another --out.")


def refuse_missing(*files: str | Path | None) -> None:
    """Raises DataError for files that are not there, before anything is imported that takes seconds."""
    for file in files:
        if file is not None:
            check_file(file)


def refuse_unwritable(out: Path) -> None:
    """Raises SpecError for a file that cannot be written, before anything is computed."""
    if not out.parent.is_dir() or out.is_dir():
        raise SpecError(f"cannot write {out}: it is a folder, or its folder does not exist; choose another --out.")


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    fit: Fit | None = None,
    one_unit: Collection[str] = (),
) -> None:
    """A table in aligned columns, numbers to the right, without lines or colours.

    Args:
        columns: the headings. ``low`` and ``high`` are the interval of the column before them, and all numbers of the
            three have the same decimals.
        rows: of each row, a value for each column; floats get two decimals, and None is a missing number.
        fit: how rows are made as narrow as the terminal: cut, or the last column wrapped, or the first. What goes to a
            file or a pipe is whole, a line for each row, in any case.
        one_unit: columns whose numbers have one unit in a row, and the same decimals.
    """
    from ...reports.page.plain_text import text_table

    texts = [[_text(value) for value in row] for row in rows]
    for place in range(1, len(columns) - 1):
        if tuple(columns[place : place + 2]) == ("low", "high"):
            _with_decimals_alike(texts, rows, [(i, j) for i in range(len(rows)) for j in range(place - 1, place + 2)])
    together = [place for place, column in enumerate(columns) if column in one_unit]
    for i in range(len(rows)):
        _with_decimals_alike(texts, rows, [(i, j) for j in together])
    cells = [[printable(text) for text in row] for row in texts]
    numeric = [bool(rows) and all(isinstance(row[i], int | float | None) for row in rows) for i in range(len(columns))]
    width = shutil.get_terminal_size().columns if fit and sys.stdout.isatty() else None
    wraps: dict[Fit | None, Literal["first", "last"]] = {"wrap": "last", "wrap first": "first"}
    print(text_table(columns, cells, numeric, width=width, wrap=wraps.get(fit), dots=unicode_terminal()))


def _with_decimals_alike(
    texts: list[list[str]], rows: Sequence[Sequence[Any]], places: Sequence[tuple[int, int]]
) -> None:
    """Replaces the texts of the floats at these places (row, column) by texts with the same decimals."""
    floats = [(i, j) for i, j in places if isinstance(rows[i][j], float)]
    if not floats:  # without the import below, of pandas
        return
    from ...reports.page.table import numbers_alike

    for (i, j), text in zip(floats, numbers_alike([rows[i][j] for i, j in floats]), strict=True):
        texts[i][j] = text


def _text(value: Any) -> str:
    if isinstance(value, str):  # without the import below, of pandas
        return value
    from ...reports.page.table import MISSING, number_of_any_size

    if value is None:
        return MISSING
    if isinstance(value, float):
        return number_of_any_size(value)
    return str(value)


def printable(text: str) -> str:
    """A text as this terminal can show it: without Unicode, minus signs and dashes are hyphens."""
    if text.isascii() or unicode_terminal():
        return text
    from ...reports.page.table import MINUS, MISSING

    return text.replace(MINUS, "-").replace(MISSING, "-")


def unicode_terminal() -> bool:
    """Whether standard output can show more than ASCII."""
    return (sys.stdout.encoding or "").lower().startswith("utf")


def print_wrapped(text: str, *, first: str = "", others: str = "") -> None:
    """A paragraph, in lines as wide as the terminal, and no wider than can be read.

    Args:
        first, others: what the first line, and each line behind it, begins with.
    """
    width = min(shutil.get_terminal_size().columns, WIDEST)
    lines = textwrap.TextWrapper(
        width, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )
    print(lines.fill(printable(text)))


def print_lines(text: str) -> None:
    """Lines as they are. On a terminal those that are wider go on in the next line, further in than they began; what
    goes to a file or a pipe is whole."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in printable(text).split("\n"):
        if width is None or len(line) <= width:
            print(line)
            continue
        blanks = " " * (len(line) - len(line.lstrip()))
        print(
            textwrap.fill(
                line.lstrip(),
                width,
                initial_indent=blanks,
                subsequent_indent=f"{blanks}    ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        )


EVERY = 30.0
"""Seconds between two lines of progress where there is no terminal."""


@contextmanager
def drawing() -> Iterator[Callable[[int, int], None]]:
    """Yields a function that is told how many drawings are done, and of how many, and says so on stderr."""
    terminal = sys.stderr.isatty()
    told = time.monotonic()

    def progress(done: int, of: int) -> None:
        nonlocal told
        if terminal:
            print(f"\rdrawing {done} of {of} ", end="", file=sys.stderr, flush=True)
        elif done == of:
            note(f"{of} drawings done")
        elif time.monotonic() - told >= EVERY:
            told = time.monotonic()
            note(f"drawing {done} of {of}")

    try:
        yield progress
    finally:
        if terminal:
            print("\r" + " " * 30 + "\r", end="", file=sys.stderr, flush=True)


def note(message: str) -> None:
    """A message for the person at the terminal: never on standard output."""
    print(message, file=sys.stderr)


@contextmanager
def stdout_kept_clean() -> Iterator[None]:
    """Sends what the block prints to stderr: a user's method and workers may print, and stdout is for the result."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
