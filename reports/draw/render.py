"""Draws figures and renders them to files' contents, several at a time where the machine allows it."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_all_start_methods, get_context

from matplotlib.figure import Figure

from .style import narrow, render

MOST_PROCESSES = 8
NARROW = "narrow"
"""The format of the SVG for telephones: one column of panels."""

DrawFigure = Callable[[], Figure]
OnDrawn = Callable[[int, int], None]


def rendered(
    draws: Mapping[str, DrawFigure], formats: Sequence[str], progress: OnDrawn | None = None
) -> dict[str, dict[str, bytes]]:
    """Name -> format -> content, in the order of ``draws``. The same bytes however many processes draw.

    Args:
        formats: ``pdf``, ``svg``, ``png``, or ``narrow``: an SVG with one column of panels.
        progress: is told how many drawings are done, and of how many.
    """
    tell = progress or (lambda done, of: None)
    jobs = [(name, draw, kinds) for name, draw in draws.items() for kinds in _batches(formats)]
    found: dict[str, dict[str, bytes]] = {name: {} for name in draws}
    processes = min(len(jobs), os.cpu_count() or 1, MOST_PROCESSES)
    if processes < 2 or not _can_fork():
        for done, (name, draw, kinds) in enumerate(jobs, 1):
            found[name] |= _files(draw, kinds)
            tell(done, len(jobs))
        return found
    # Forked, not spawned: a new interpreter's imports would take longer than the figures.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as pool:
            for done, ((name, _, _), files) in enumerate(zip(jobs, pool.map(_job, jobs), strict=True), 1):
                found[name] |= files
                tell(done, len(jobs))
    return found


def _batches(formats: Sequence[str]) -> list[tuple[str, ...]]:
    """Formats that are rendered of one drawing: the narrow one is drawn by itself."""
    wide = tuple(kind for kind in formats if kind != NARROW)
    return [kinds for kinds in (wide, (NARROW,) * (NARROW in formats)) if kinds]


def _can_fork() -> bool:
    """Whether a copy of this process can work: where there are no threads that it would be without."""
    return "fork" in get_all_start_methods() and threading.active_count() == 1


def _job(job: tuple[str, DrawFigure, tuple[str, ...]]) -> dict[str, bytes]:
    return _files(*job[1:])


def _files(draw: DrawFigure, formats: Sequence[str]) -> dict[str, bytes]:
    if NARROW in formats:
        with narrow():
            return {NARROW: render(draw(), "svg")}
    figure = draw()
    return {kind: render(figure, kind) for kind in formats}
