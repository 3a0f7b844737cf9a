"""Sums over batches that a search can keep, to continue after an interruption.

A method adds batches up with ``summed``. A caller that keeps the sums runs the search inside ``kept_by`` with a keeper.
The same search, started again with the same keeper, continues after the last batch that was kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import Protocol, TypeVar

from torch import Tensor

T = TypeVar("T")


class Keeper(Protocol):
    """Holds sums over the first batches. A search that adds batches up several times has a sum for each, a part."""

    def load(self, part: int) -> tuple[int, Tensor | None]:
        """How many batches are in a part's sum, and the sum; ``(0, None)`` when no batch has been kept."""

    def save(self, part: int, batches: int, total: Tensor) -> None:
        """Keeps the sum over the first ``batches`` batches."""


_keeping: ContextVar[tuple[Keeper, Iterator[int]] | None] = ContextVar("keeping", default=None)


@contextmanager
def kept_by(keeper: Keeper) -> Iterator[None]:
    """Sums that are made inside the block are kept by ``keeper``."""
    token = _keeping.set((keeper, count()))
    try:
        yield
    finally:
        _keeping.reset(token)


def summed(batches: Iterable[T], of_batch: Callable[[T], Tensor]) -> Tensor:
    """The sum of ``of_batch`` over the batches, added in their order, on the CPU in float64."""
    keeping = _keeping.get()
    keeper, part = (None, 0) if keeping is None else (keeping[0], next(keeping[1]))
    done, total = (0, None) if keeper is None else keeper.load(part)
    for number, batch in enumerate(batches, 1):
        if number <= done:
            continue
        found = of_batch(batch).double().cpu()
        total = found if total is None else total + found
        if keeper is not None:
            keeper.save(part, number, total)
    return total
