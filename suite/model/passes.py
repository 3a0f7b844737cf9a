"""The passes that a method runs, counted by the engine. The unit is one plain pass over one example."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Passes:
    """Numbers of forward and backward passes over one example; a pass from the middle layer on counts one half."""

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
    """Adds to the counts. The engine calls it for each pass that it runs."""
    for passes in _counters.get():
        passes.forward += forward
        passes.backward += backward
