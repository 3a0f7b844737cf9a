"""How long cells will take, from how long cells like them took, or from what is declared of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from .job import Job


class Estimator:
    """Means of measured seconds: of the same method on the same task and model, else of cells that are like it."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], list[float]] = defaultdict(lambda: [0.0, 0.0])

    def add(self, method: str, task: str, model: str, seconds: float) -> None:
        """One measured cell."""
        for level in _levels(method, task, model):
            total = self._sums[level]
            total[0] += seconds
            total[1] += 1

    def seconds(self, jobs: Iterable[Job], forecast: Callable[[Job], float | None] | None = None) -> float | None:
        """Seconds that the jobs will take on one worker; ``None`` where one of them cannot be told.

        Args:
            forecast: what is asked where the very same method, task and model was not measured; without it, the mean
                of the method on another task or model, or of all cells, stands in.
        """
        total = 0.0
        for job in jobs:
            levels = _levels(job.cell.method, job.cell.task, job.cell.model)
            known = next(
                (self._mean(level) for level in levels[: 1 if forecast else None] if level in self._sums), None
            )
            if known is None and forecast:
                known = forecast(job)
            if known is None:
                return None
            total += known
        return total

    def _mean(self, level: tuple[str, ...]) -> float:
        seconds, n = self._sums[level]
        return seconds / n


def _levels(method: str, task: str, model: str) -> tuple[tuple[str, ...], ...]:
    return (method, task, model), (method, model), (method,), ()


def spoken(seconds: float | None) -> str:
    """A duration as people say it.

    >>> spoken(0.04), spoken(12.34), spoken(200), spoken(9000), spoken(None)
    ('0.0 s', '12 s', '3 min', '2.5 h', 'unknown')
    >>> spoken(3e6), spoken(3e8)
    ('35 days', '10 years')
    """
    if seconds is None:
        return "unknown"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.1f} h"
    days = seconds / 86400
    return f"{days:.0f} days" if days < 730 else f"{days / 365.25:.0f} years"
