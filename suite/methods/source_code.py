"""The version of a method: a hash of its code, which words about the code do not change."""

from __future__ import annotations

import ast
import hashlib
import io
import re
import tokenize
import warnings
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path

_SHARED = re.compile(rb"^from \.(_\w+) import", re.MULTILINE)
_NEW_LINE = "\n"
_LAYOUT = {tokenize.NEWLINE: _NEW_LINE, tokenize.INDENT: "\t", tokenize.DEDENT: "\b"}  # no token of code is like these
_WITHOUT_MEANING = (tokenize.COMMENT, tokenize.NL, tokenize.ENDMARKER)
# Python 3.12 divides f-strings into tokens, which 3.11 does not; -1 is no kind of token.
_OPENS, _CLOSES = getattr(tokenize, "FSTRING_START", -1), getattr(tokenize, "FSTRING_END", -1)


class SourceCode:
    """The code of files, and of the private files beside them that they import, as it is when this is made.

    The files are read at once: a file that is edited while its methods run is not what runs. They are hashed when the
    hash is asked for, since most commands ask for the hash of one method or of none.

    Args:
        paths: Python files. Beside each, the files are read that a line ``from ._NAME import`` names.

    Raises:
        OSError: one of ``paths`` cannot be read.
    """

    def __init__(self, *paths: Path) -> None:
        waiting, sources = list(paths), {}
        while waiting:
            file = waiting.pop(0)
            if file in sources:
                continue
            sources[file] = file.read_bytes()
            beside = [file.with_name(f"{name.decode()}.py") for name in _SHARED.findall(sources[file])]
            waiting += [each for each in beside if each.is_file()]
        self._sources = tuple(sources.values())

    @cached_property
    def hash(self) -> str:
        """16 hex digits, the same on Python 3.11, 3.12 and 3.13.

        Comments, docstrings, blank lines, blanks between words and the kind of line ends do not count. A file that is
        not Python counts byte by byte.
        """
        return hashlib.sha256(b"".join(map(_digest, self._sources))).hexdigest()[:16]


@lru_cache(maxsize=256)  # a shared file is hashed once, not for each method
def _digest(source: bytes) -> bytes:
    try:
        code = "\0".join(_tokens(source)).encode()
    except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError):  # the import will say why
        code = source
    return hashlib.sha256(code).digest()


def _tokens(source: bytes) -> Iterator[str]:
    """The tokens that Python acts on, a string whole, and a letter for each new line, indent and dedent."""
    encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
    text = io.TextIOWrapper(io.BytesIO(source), encoding).read() + "\n"
    lines = text.split("\n")
    words = _lone_strings(text, lines)
    last, opened = _NEW_LINE, []
    after_words = False
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == _OPENS:
            opened.append(token.start)
        if token.type == _CLOSES:
            start = opened.pop()
            string = _between(lines, start, token.end)
        else:
            start, string = token.start, _LAYOUT.get(token.type, token.string)
        if opened or token.type in _WITHOUT_MEANING:
            continue
        if any(first <= start < end for first, end in words):
            after_words = last in _LAYOUT.values()
            continue
        if after_words and string in (_NEW_LINE, ";"):  # the end of a statement of which nothing is left
            after_words = False
            continue
        after_words = False
        yield string
        last = string


def _lone_strings(text: str, lines: list[str]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where strings begin and end that are a statement alone (line from 1, letter from 0): docstrings, and those below
    constants."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of such things as "\d" when it imports the file
        tree = ast.parse(text)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            first, end = (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)
            places = [(line, len(lines[line - 1].encode()[:column].decode())) for line, column in (first, end)]
            found.append((places[0], places[1]))
    return found


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    """The text from one place to another."""
    within = lines[start[0] - 1 : end[0]]
    within[-1] = within[-1][: end[1]]
    within[0] = within[0][start[1] :]
    return "\n".join(within)
