"""Where in a user's own code an error was raised: the line to look at, however deep in a library it ended."""

from __future__ import annotations

import linecache
import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path

from .errors import CircuitMeterError, one_line

_ROOT = Path(__file__).resolve().parents[1]
_OURS = tuple(str(_ROOT / folder) for folder in ("suite", "ground_truth", "tasks", "reports"))
_LIBRARIES = tuple({sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def raised(error: BaseException) -> str:
    """One line: the kind of error, its message, and the last line of code that is neither ours nor a library's.

    Where all lines are, the last one of any.
    """
    frames = traceback.extract_tb(error.__traceback__)
    message = one_line(error, 1000)
    said = type(error).__name__ if message == type(error).__name__ else f"{type(error).__name__}: {message}"
    return f"{said} ({_place((_theirs(frames) or frames)[-1])})" if frames else said


def refused(error: CircuitMeterError) -> str:
    """What this package said to a user's code, with the line of that code, if there is any on the way."""
    theirs = _theirs(traceback.extract_tb(error.__traceback__))
    return f"{str(error).removesuffix('.')} ({_place(theirs[-1])})." if theirs else str(error)


def _theirs(frames: Sequence[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    return [frame for frame in frames if not frame.filename.startswith((*_OURS, *_LIBRARIES, "<"))]


def _place(frame: traceback.FrameSummary) -> str:
    source = one_line(linecache.getline(frame.filename, frame.lineno or 0), 200)
    return f"{Path(frame.filename).name}, line {frame.lineno}{f': {source}' if source else ''}"
