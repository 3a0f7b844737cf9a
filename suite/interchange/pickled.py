"""Pickles of other benchmarks, read so that nothing in them can run.

A pickle may name any function and call it. Here only names on a list are taken, and ``Attributes`` stands for each of
them, which keeps the attributes that the pickle gives it and has no behaviour. Weights go through PyTorch's own
restricted reader (``weights_only=True``), which builds tensors and plain containers alone.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import LONGEST_QUOTE, ModelError, one_line
from ..reading import MEBIBYTE, read_bytes, reading, refuse_pointer

_LARGEST_PICKLE, _LARGEST_WEIGHTS = 64 * MEBIBYTE, 1024 * MEBIBYTE
_MOST_PARTS = 10_000  # modules in a module, and weights; one that holds itself has parts without end
_FUNCTION = "names {}, which is not among the names that it may have; it is not read, because it could run code"


class Attributes:
    """What stands for an object of a class that is not imported: its attributes."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


class _Plain(pickle.Unpickler):
    """Texts, numbers, lists, tuples, dicts and sets; and the classes in ``known``, as a subclass of Attributes each."""

    def __init__(self, content: bytes, known: Mapping[str, type[Attributes]]) -> None:
        super().__init__(io.BytesIO(content))
        self._known = known

    def find_class(self, module: str, name: str) -> type[Attributes]:
        if f"{module}.{name}" not in self._known:
            raise pickle.UnpicklingError(_FUNCTION.format(f"{module}.{name}"))
        return self._known[f"{module}.{name}"]

    def persistent_load(self, given: Any) -> Any:
        raise pickle.UnpicklingError("refers to data outside of the file")


def read_plain(path: Path, known: Mapping[str, type[Attributes]] | None = None) -> Any:
    """What a pickle of plain values holds.

    Args:
        known: classes that it may have objects of, by their full name, and what stands for them here.

    Raises:
        ModelError: no such file, a damaged one, or one that names anything else.
    """
    content = read_bytes(path, at_most=_LARGEST_PICKLE, error=ModelError)
    refuse_pointer(path, ModelError)
    with reading(path, ModelError):
        try:
            return _Plain(content, known or {}).load()
        except pickle.UnpicklingError as problem:
            raise ModelError(f"the pickle {path} {one_line(problem, LONGEST_QUOTE)}.") from problem


def read_saved(path: Path, known: Collection[str] = ()) -> Any:
    """What ``torch.save`` wrote: tensors, containers, and objects of ``known`` classes as Attributes, on the CPU.

    Raises:
        ModelError: no such file, a damaged one, or one that names anything else.
    """
    content = read_bytes(path, at_most=_LARGEST_WEIGHTS, error=ModelError)
    refuse_pointer(path, ModelError)
    stands_for = [(Attributes, name) for name in known]
    with reading(path, ModelError), torch.serialization.safe_globals(stands_for):
        try:
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as problem:
            raise ModelError(
                f"{path} is damaged, or names what could run code, and is not read; copy it again from the benchmark."
            ) from problem


def state_of(module: Any, path: Path) -> dict[str, Tensor]:
    """The weights of a module that was saved whole and read as Attributes, by their dotted names.

    Raises ModelError where the object is no module.
    """
    found: dict[str, Tensor] = {}
    waiting, seen = [("", module)], 0
    while waiting:
        prefix, part = waiting.pop()
        seen += 1
        for kind in ("_parameters", "_buffers"):
            given = getattr(part, kind, None)
            if not isinstance(given, dict):
                raise ModelError(f"{path} holds a {type(module).__name__} and no module of PyTorch, saved whole.")
            found |= {prefix + name: weight for name, weight in given.items() if isinstance(weight, Tensor)}
        waiting += [(f"{prefix}{name}.", inner) for name, inner in part._modules.items() if hasattr(inner, "_modules")]
        if max(len(found), seen, len(waiting)) > _MOST_PARTS:
            raise ModelError(
                f"{path} has more than {_MOST_PARTS:,} parts or weights; no model of a benchmark has so many."
            )
    return found
