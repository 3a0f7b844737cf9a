"""Where in a user's own code an error was raised: the line to look at, however deep in a library it ended."""

from __future__ import annotations

import linecache
import sysconfig
import traceback
from pathlib import Path

from .errors import one_line

_ROOT = Path(__file__).resolve().parents[1]
_OURS = tuple(str(_ROOT / folder) for folder in ("suite", "ground_truth", "tasks", "reports"))
_LIBRARIES = tuple({sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def raised(error: BaseException) -> str:
    """One line: the kind of error, its message, and the last line of code that is neither ours nor a library's.

    Where all lines are, the last one of any.
    """
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith((*_OURS, *_LIBRARIES, "<"))]
    message = one_line(error, 1000)
    said = type(error).__name__ if message == type(error).__name__ else f"{type(error).__name__}: {message}"
    if not frames:
        return said
    frame = (theirs or frames)[-1]
    source = one_line(linecache.getline(frame.filename, frame.lineno or 0), 200)
    return f"{said} ({Path(frame.filename).name}, line {frame.lineno}{f': {source}' if source else ''})"
