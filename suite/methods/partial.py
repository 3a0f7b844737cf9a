"""Sums over batches that can be kept, so that an interrupted search continues.

Methods sum over batches with ``summed``. A caller that keeps the sums runs the search inside ``kept_by``. The same
search with the same keeper, started again, continues after the last batch that was kept.
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
    """Holds sums over the first batches. A search that sums over the batches several times has several parts, from
    0."""

    def load(self, part: int) -> tuple[int, Tensor | None]:
        """The number of batches in the sum of a part, and the sum; ``(0, None)`` when no batch has been kept."""

    def save(self, part: int, batches: int, total: Tensor) -> None:
        """Keeps the sum over the first ``batches`` batches."""


_keeping: ContextVar[tuple[Keeper, Iterator[int]] | None] = ContextVar("keeping", default=None)


@contextmanager
def kept_by(keeper: Keeper) -> Iterator[None]:
    """Inside the block, ``keeper`` keeps the sums of ``summed``."""
    token = _keeping.set((keeper, count()))
    try:
        yield
    finally:
        _keeping.reset(token)


def summed(batches: Iterable[T], of_batch: Callable[[T], Tensor]) -> Tensor:
    """The sum of ``of_batch`` over the batches in their order, on the CPU in float64."""
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
