"""Opens every file that a user gives, and turns whatever can be wrong with it into one line.

A file is looked at before it is opened: folders, pipes, devices and files beyond a bound are refused. Text is UTF-8,
with or without a byte order mark. JSON is what the standard says and no more: no NaN, no key twice, no half of a
surrogate pair, no brackets without end. What a format asks beyond that is a pydantic model's to say (``checked``).
"""

from __future__ import annotations

import codecs
import json
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import LONGEST_QUOTE, CircuitMeterError, DataError, one_line

if TYPE_CHECKING:
    from pydantic import BaseModel

    Model = TypeVar("Model", bound=BaseModel)

MEBIBYTE = 1 << 20
LARGEST_TEXT = 256 * MEBIBYTE  # the graph of a model of 8 billion parameters is about 100
DEEPEST = 50  # brackets within brackets; no format here needs ten
_SHOWN = 3  # faults told of a file; the others are counted
_OTHER_ENCODINGS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_POINTER = b"version https://git-lfs"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_LINE_END = re.compile(r"\r\n|\n|\r")


IS_POINTER = "a Git LFS pointer and not the file itself; run git lfs pull where it came from"


class Unreadable(ValueError):
    """What is wrong with a text, as a clause that follows "it is"."""


@contextmanager
def reading(source: object, error: type[CircuitMeterError] = DataError) -> Iterator[None]:
    """Turns whatever a reader raises inside into ``error``: one line that names the source.

    Errors that are made for people pass as they are. Nothing here hides a bug of the computation: only readers of files
    that a user gives are run inside, and what makes them fail is the file.
    """
    try:
        yield
    except CircuitMeterError:
        raise
    except Unreadable as problem:
        raise error(f"{source} is {problem}.") from None
    except OSError as problem:
        raise error(f"cannot read {source}: {problem.strerror or one_line(problem, LONGEST_QUOTE)}.") from problem
    except MemoryError:
        raise error(f"{source} asks for more memory than there is.") from None
    except RecursionError:
        raise error(f"{source} is nested too deeply to be read.") from None
    except Exception as problem:
        raise error(
            f"{source} cannot be read: {type(problem).__name__}: {one_line(problem, LONGEST_QUOTE)}."
        ) from problem
    except BaseException as problem:
        if type(problem).__name__ != "PanicException":  # what the Rust libraries raise, and no Exception
            raise
        raise error(f"{source} cannot be read: {one_line(problem, LONGEST_QUOTE)}.") from problem


def read_bytes(path: str | Path, *, at_most: int = LARGEST_TEXT, error: type[CircuitMeterError] = DataError) -> bytes:
    """The content of a regular file of at most so many bytes.

    Raises:
        error: no such file, no file but a folder, a pipe or a device, or one that is larger.
    """
    with reading(path, error):
        size = check_file(path, at_most=at_most, error=error).st_size
        with open(path, "rb") as file:
            content = file.read(size + 1)
            while len(content) <= at_most and (more := file.read(MEBIBYTE)):
                content += more  # it grew, or is one of the kernel's, which say that they are empty
        if len(content) > at_most:
            raise error(_too_large(path, at_most))
        return content


def check_file(
    path: str | Path, *, at_most: int | None = None, error: type[CircuitMeterError] = DataError
) -> os.stat_result:
    """What the file system says of a file, before it is opened. Raises as ``read_bytes`` does."""
    with reading(path, error):
        status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise error(f"cannot read {path}: it is a folder, and a file is needed.")
    if not stat.S_ISREG(status.st_mode):
        raise error(f"cannot read {path}: it is a pipe or a device; save its content as a file and give that.")
    if at_most is not None and status.st_size > at_most:
        raise error(_too_large(path, at_most))
    return status


def _too_large(path: str | Path, at_most: int) -> str:
    size = f"{at_most // MEBIBYTE} MiB" if at_most >= MEBIBYTE else f"{at_most} bytes"
    return f"cannot read {path}: it has more than {size}, the most that a file of this kind may have."


def refuse_pointer(path: str | Path, error: type[CircuitMeterError] = DataError) -> None:
    """Raises ``error`` for a regular file that Git LFS has put in another's place; a library is to read the other."""
    if not os.path.isfile(path):
        return
    with reading(path, error), open(path, "rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise Unreadable(IS_POINTER)


def decoded(content: bytes) -> str:
    """UTF-8 text, without its byte order mark. Raises Unreadable."""
    if content.startswith(_POINTER):
        raise Unreadable(IS_POINTER)
    for mark, encoding in _OTHER_ENCODINGS.items():
        if content.startswith(mark):
            raise Unreadable(f"not UTF-8 but {encoding} text; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise Unreadable(f"not UTF-8 text ({problem.reason} at byte {problem.start}); save it as UTF-8") from None
    if text.startswith("\ufeff"):
        raise Unreadable("text that begins with more than one byte order mark; save it as UTF-8 without any")
    return text


def read_text(path: str | Path, *, at_most: int = LARGEST_TEXT, error: type[CircuitMeterError] = DataError) -> str:
    """The text of a file. Raises ``error`` as ``read_bytes`` does, and for what is not UTF-8."""
    with reading(path, error):
        return decoded(read_bytes(path, at_most=at_most, error=error))


def text_lines(text: str) -> list[str]:
    """The lines of a text, by the ends that files have.

    ``str.splitlines`` also splits at characters that may stand in a JSON string, such as U+2028.
    """
    return _LINE_END.split(text)


def read_json(path: str | Path, *, at_most: int = LARGEST_TEXT, error: type[CircuitMeterError] = DataError) -> Any:
    """The JSON value in a file. Raises ``error`` as ``read_text`` does, and for what is not JSON."""
    with reading(path, error):
        return parse_json(read_text(path, at_most=at_most, error=error))


def parse_json(text: str) -> Any:
    """The JSON value that a text is.

    Raises:
        Unreadable: the text is not JSON, names a key twice, has a number that is not finite, half of a surrogate
            pair, or brackets more than DEEPEST deep.
    """
    try:
        value = json.loads(text, object_pairs_hook=_each_once, parse_constant=_no_number, parse_float=_finite)
    except RecursionError:
        raise Unreadable(f"not JSON: its brackets are more than {DEEPEST} deep") from None
    except Unreadable:
        raise
    except json.JSONDecodeError as problem:
        raise Unreadable(f"not JSON: {one_line(problem, LONGEST_QUOTE)}") from None
    except ValueError:  # of ``int``, which Python lets read so many digits and no more
        raise Unreadable("not JSON: it has a number of thousands of digits") from None
    _check_values(value, surrogates=_SURROGATE.search(text) is not None)
    return value


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for i, key in enumerate(names) if key in names[:i])
        raise Unreadable(f"not JSON that has one meaning: the key {shown(twice)} is there twice")
    return found


def _no_number(text: str) -> Any:
    raise Unreadable(f"not JSON: {text} is no number; leave it out, or write null")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise Unreadable(f"not JSON that can be read: the number {text[:30]} is beyond the range of float64")
    return value


def _check_values(value: Any, *, surrogates: bool) -> None:
    """Raises Unreadable for brackets too deep and, where the text may hold some, halves of surrogate pairs."""
    waiting: list[tuple[Any, int, str]] = [(value, 1, "it")] if isinstance(value, dict | list | str) else []
    for item, depth, name in waiting:  # which grows; in order, so that the first fault is the one that is told
        if isinstance(item, str):
            if not _is_unicode(item):
                raise Unreadable(f"not text: {name} is no Unicode text (half of a surrogate pair)")
            continue
        if depth > DEEPEST:
            raise Unreadable(f"not JSON: its brackets are more than {DEEPEST} deep")
        named = item.items() if isinstance(item, dict) else ((name, part) for part in item)
        for key, part in named:
            if surrogates and not _is_unicode(key):
                raise Unreadable("not text: one of its keys is no Unicode text (half of a surrogate pair)")
            if isinstance(part, dict | list) or (surrogates and isinstance(part, str)):
                waiting.append((part, depth + 1, key))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_toml(path: str | Path, *, error: type[CircuitMeterError]) -> dict[str, Any]:
    """The content of a TOML file. Raises ``error`` as ``read_text`` does, and for what is not TOML."""
    with reading(path, error):
        text = read_text(path, at_most=MEBIBYTE, error=error)
        try:
            content = tomllib.loads(text)
        except RecursionError:
            raise Unreadable(f"not TOML: its brackets are more than {DEEPEST} deep") from None
        except ValueError as problem:
            raise Unreadable(f"not TOML: {one_line(problem, LONGEST_QUOTE)}") from None
        _check_depth_of_toml(content)
        return content


def _check_depth_of_toml(content: dict[str, Any]) -> None:
    waiting: list[tuple[Any, int]] = [(content, 1)]
    while waiting:
        item, depth = waiting.pop()
        if depth > DEEPEST:
            raise Unreadable(f"not TOML: its brackets are more than {DEEPEST} deep")
        parts = item.values() if isinstance(item, dict) else item
        waiting += [(part, depth + 1) for part in parts if isinstance(part, dict | list)]


def checked(model: type[Model], content: Any, source: object, error: type[CircuitMeterError] = DataError) -> Model:
    """The content of a file as a pydantic model. Raises ``error`` that names what is wrong and where, in one line."""
    from pydantic import ValidationError

    try:
        return model.model_validate(content)
    except ValidationError as problem:
        found = problem.errors(include_url=False)
        more = f" ({len(found) - _SHOWN} more like it)" if len(found) > _SHOWN else ""
        raise error(f"{source}: {'; '.join(map(_fault, found[:_SHOWN]))}{more}.") from None
    except RecursionError:
        raise error(f"{source} is nested too deeply to be read.") from None


def _fault(problem: Any) -> str:
    """One of pydantic's findings: the place, what is there, what is allowed."""
    place = ".".join(str(part) for part in problem["loc"] if not str(part).startswith(("function-", "constrained-")))
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if problem["type"] == "missing":
        return f"{place or 'it'} is missing"
    if problem["type"] == "value_error":
        return f"{place} {message}" if place else message
    if problem["type"] in ("model_type", "dict_type"):
        return f"{place or 'it'} is {shown(problem['input'])} and should be a JSON object"
    return f"{place or 'it'} is {shown(problem['input'])} and {message}"


def shown(value: Any, at_most: int = 60) -> str:
    """A value of a user's as it stands in a message: never longer than ``at_most`` characters.

    >>> shown("abc"), shown([1] * 100, 12)
    ("'abc'", '[1, 1, 1, 1…')
    """
    if isinstance(value, str):
        value = value[: at_most + 1]
    elif isinstance(value, dict | list | tuple) and len(value) > at_most:
        value = list(value)[:at_most]
    text = repr(value)
    return text if len(text) <= at_most else f"{text[: at_most - 1]}…"
