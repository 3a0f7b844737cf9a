"""The passes that a method runs, counted by the engine. The unit is one plain pass over one example."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Passes:
    """Numbers of forward and backward passes over one example; a pass from the middle layer on counts one half.

    spared: passes that a method declared at most and has found that it does not need.
    """

    forward: float = 0.0
    backward: float = 0.0
    spared: float = 0.0


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


@contextmanager
def uncounted() -> Iterator[None]:
    """Inside the block no pass is counted: it repeats passes that are."""
    token = _counters.set(())
    try:
        yield
    finally:
        _counters.reset(token)


def spend(*, forward: float = 0.0, backward: float = 0.0) -> None:
    """Adds to the counts. The engine calls it for each pass that it runs."""
    for passes in _counters.get():
        passes.forward += forward
        passes.backward += backward


def spare(passes: float) -> None:
    """Adds passes that were declared and will not be run. A method calls it whose declared cost is a bound, so that it
    can be told how far the method is."""
    for counted in _counters.get():
        counted.spared += passes
