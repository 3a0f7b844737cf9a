"""What a method spends, counted by the engine: one plain pass over one example is the unit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Passes:
    """Forward and backward passes, in plain passes over one example; a pass from the middle layer counts one half."""

    forward: float = 0.0
    backward: float = 0.0


_counters: ContextVar[tuple[Passes, ...]] = ContextVar("passes", default=())


@contextmanager
def count_passes() -> Iterator[Passes]:
    """Counts every pass run inside the block, in this thread. Blocks may be nested."""
    passes = Passes()
    token = _counters.set((*_counters.get(), passes))
    try:
        yield passes
    finally:
        _counters.reset(token)


def spend(*, forward: float = 0.0, backward: float = 0.0) -> None:
    """Called by the engine for each pass it runs."""
    for passes in _counters.get():
        passes.forward += forward
        passes.backward += backward
