"""How long cells will take, from how long cells like them took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from .cell import Cell


class Estimator:
    """Means of measured seconds: of the same method on the same task, else of the method, else of all cells."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], list[float]] = defaultdict(lambda: [0.0, 0.0])

    def add(self, method: str, task: str, seconds: float) -> None:
        """One measured cell."""
        for level in _levels(method, task):
            total = self._sums[level]
            total[0] += seconds
            total[1] += 1

    def seconds(self, cells: Iterable[Cell]) -> float | None:
        """Seconds that the cells will take on one worker; ``None`` where nothing has been measured yet."""
        total = 0.0
        for cell in cells:
            known = next((self._sums[level] for level in _levels(cell.method, cell.task) if level in self._sums), None)
            if known is None:
                return None
            total += known[0] / known[1]
        return total


def _levels(method: str, task: str) -> tuple[tuple[str, ...], ...]:
    return ((method, task), (method,), ())


def spoken(seconds: float | None) -> str:
    """A duration as people say it.

    >>> spoken(0.04), spoken(12.34), spoken(200), spoken(9000), spoken(None)
    ('0.0 s', '12 s', '3 min', '2.5 h', 'unknown')
    """
    if seconds is None:
        return "unknown"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
