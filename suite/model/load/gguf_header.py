"""The header of a GGUF file. Each length in it is compared with the size of the file before it is used.

The layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The package gguf, which reads the weights, does
not check lengths, and would count to 2^64 in a damaged file.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ...errors import ModelError
from ...reading import check_file, reading, refuse_pointer, shown

_MAGIC = b"GGUF"
_SCALARS = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}  # type number -> struct's letter
_TEXT, _LIST = 8, 9
_LONGEST_NAME, _LONGEST_TEXT = 1 << 16, 1 << 24
_MOST_SIDES = 4
_LEAST_ENTRY = 8 + 4 + 1  # bytes: the length of a key, a type and a value
_LEAST_TENSOR = 8 + 4 + 8 + 4 + 8  # the length of a name, the number of sides, one side, a type and an offset
_LEAST_BLOCK = 1 / 8  # bytes per weight: at least one bit
_MARGIN = 16
_SIDES = ("embedding_length", "feed_forward_length", "vocab_size", "attention.head_count", "attention.head_count_kv",
          "attention.key_length", "attention.value_length", "rope.dimension_count")  # fmt: skip
_MOST_POSITIONS = 1 << 24


@dataclass(frozen=True)
class GGUFHeader:
    """The part of a GGUF file before the weights.

    Args:
        values: numbers and texts, by key; for a list its length.
        shapes: the shape of every tensor, by name.
        kinds: the number of the quantisation of every tensor.
    """

    values: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    kinds: tuple[int, ...]


def read_header(file: Path) -> GGUFHeader:
    """The header of a GGUF file.

    Raises:
        ModelError: the file is not a GGUF file, was cut off, or states more than it holds.
    """
    size = check_file(file, error=ModelError).st_size
    refuse_pointer(file, ModelError)
    with reading(file, ModelError), open(file, "rb") as opened:
        found = _Source(opened, size, file).header()
    _check_sizes(found, file)
    return found


class _Source:
    """A file that is read piece by piece; no piece may be longer than the rest of the file."""

    def __init__(self, opened: BinaryIO, size: int, name: Path) -> None:
        self._opened, self._left, self._name, self._order = opened, size, name, "<"

    def header(self) -> GGUFHeader:
        if self._bytes(4) != _MAGIC:
            raise self._damaged("it does not begin as one")
        version = self._number("I")
        if not version & 0xFFFF:  # written by a machine with the other byte order
            self._order, version = ">", struct.unpack(">I", struct.pack("<I", version))[0]
        if version not in (2, 3):
            raise self._damaged(f"its version is {version}, and 2 and 3 are read")
        n_tensors, n_values = self._number("Q"), self._number("Q")
        self._fits(n_tensors, _LEAST_TENSOR)
        self._fits(n_values, _LEAST_ENTRY)
        values: dict[str, Any] = {}
        for _ in range(n_values):
            key = self._text(_LONGEST_NAME)
            if key in values:
                raise self._damaged(f"the key {shown(key)} is there twice")
            values[key] = self._value(self._number("I"))
        shapes, kinds = {}, []
        for _ in range(n_tensors):
            name, n_sides = self._text(_LONGEST_NAME), self._number("I")
            if n_sides > _MOST_SIDES or name in shapes:
                raise self._damaged(f"the tensor {shown(name)} has {n_sides} sides, or is there twice")
            shapes[name] = tuple(self._number("Q") for _ in range(n_sides))
            kinds.append(self._number("I"))
            self._fits(self._number("Q"), 1)
            self._fits(math.prod(shapes[name]), _LEAST_BLOCK)
        return GGUFHeader(values, shapes, tuple(kinds))

    def _value(self, kind: int) -> Any:
        """A number, a text, or the length of a list, whose content is skipped."""
        if kind in _SCALARS:
            return self._number(_SCALARS[kind])
        if kind == _TEXT:
            return self._text(_LONGEST_TEXT)
        if kind != _LIST:
            raise self._damaged(f"it has a value of the unknown type {kind}")
        of, length = self._number("I"), self._number("Q")
        if of in _SCALARS:
            width = struct.calcsize(_SCALARS[of])
            self._fits(length, width)
            self._skip(length * width)
        elif of == _TEXT:
            self._fits(length, 8)
            for _ in range(length):
                self._text(_LONGEST_TEXT)
        else:
            raise self._damaged("it has a list of lists, or of an unknown type")
        return length

    def _number(self, code: str) -> Any:
        return struct.unpack(self._order + code, self._bytes(struct.calcsize(code)))[0]

    def _text(self, at_most: int) -> str:
        length = self._number("Q")
        if length > at_most:
            raise self._damaged(f"it has a text of {length:,} bytes")
        return self._bytes(length).decode(errors="replace")

    def _bytes(self, n: int) -> bytes:
        self._fits(n, 1)
        self._left -= n
        return self._opened.read(n)

    def _skip(self, n: int) -> None:
        self._left -= n
        self._opened.seek(n, 1)

    def _fits(self, n: int, width: float) -> None:
        if n * width > self._left:
            raise self._damaged("it was cut off, or asks for more than it holds; copy it again")

    def _damaged(self, why: str) -> ModelError:
        return ModelError(f"{self._name} is no GGUF file that can be read: {why}.")


def _check_sizes(found: GGUFHeader, file: Path) -> None:
    """Raises ModelError for a size far larger than every side of the tensors, before a model of that size is built."""
    largest = max((side for shape in found.shapes.values() for side in shape), default=0)
    kind = found.values.get("general.architecture")
    bounds = dict.fromkeys(_SIDES, _MARGIN * largest)
    bounds |= {"block_count": len(found.shapes), "context_length": _MOST_POSITIONS}
    for name, most in bounds.items():
        value = found.values.get(f"{kind}.{name}", 1)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
            raise ModelError(
                f"{file} asks for {kind}.{name} = {shown(value)}, and its {len(found.shapes)} tensors have at most "
                f"{largest:,} numbers on a side; it is damaged, copy it again."
            )
