"""Draws figures and renders them to files' contents, several at a time where the machine allows it."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_all_start_methods, get_context
from typing import NamedTuple

from matplotlib.figure import Figure

from ...suite.users_line import raised
from .style import narrow, render

MOST_PROCESSES = 8
NARROW = "narrow"
"""The format of the SVG for telephones: one column of panels."""

DrawFigure = Callable[[], Figure]
OnDrawn = Callable[[int, int], None]
OnFailed = Callable[[str], None]


class _Failed(NamedTuple):
    reason: str


def rendered(
    draws: Mapping[str, DrawFigure],
    formats: Sequence[str],
    progress: OnDrawn | None = None,
    failed: Mapping[str, OnFailed] | None = None,
) -> dict[str, dict[str, bytes]]:
    """Name -> format -> content, in the order of ``draws``. The same bytes however many processes draw.

    Args:
        formats: ``pdf``, ``svg``, ``png``, or ``narrow``: an SVG with one column of panels.
        progress: is called with how many drawings are done, and of how many.
        failed: for figures that may fail, by name: is called with one line that says why the figure cannot be drawn.
            The figure is then not among those returned. Errors of all other figures are raised.
    """
    tell, failed = progress or (lambda done, of: None), failed or {}
    jobs = [(draw, kinds, name in failed) for name, draw in draws.items() for kinds in _batches(formats)]
    names = [name for name in draws for _ in _batches(formats)]
    found: dict[str, dict[str, bytes]] = {name: {} for name in draws}
    for done, (name, files) in enumerate(zip(names, _outcomes(jobs), strict=True), 1):
        if isinstance(files, _Failed):
            found.pop(name, None)
            failed[name](files.reason)
        elif name in found:
            found[name] |= files
        tell(done, len(jobs))
    return found


_Job = tuple[DrawFigure, tuple[str, ...], bool]


def _outcomes(jobs: Sequence[_Job]) -> Iterable[dict[str, bytes] | _Failed]:
    """The outcome of each job, in order."""
    processes = min(len(jobs), os.cpu_count() or 1, MOST_PROCESSES)
    if processes < 2 or not _can_fork():
        yield from map(_outcome, jobs)
        return
    # Forked, not spawned: a new interpreter's imports would take longer than the figures.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as pool:
            yield from pool.map(_outcome, jobs)


def _batches(formats: Sequence[str]) -> list[tuple[str, ...]]:
    """Formats that are rendered of one drawing: the narrow one is drawn by itself."""
    wide = tuple(kind for kind in formats if kind != NARROW)
    return [kinds for kinds in (wide, (NARROW,) * (NARROW in formats)) if kinds]


def _can_fork() -> bool:
    """Whether a copy of this process can work, which needs that this process has no other threads."""
    return "fork" in get_all_start_methods() and threading.active_count() == 1


def _outcome(job: _Job) -> dict[str, bytes] | _Failed:
    draw, formats, may_fail = job
    try:
        return _files(draw, formats)
    except Exception as problem:
        if not may_fail:
            raise
        return _Failed(raised(problem))


def _files(draw: DrawFigure, formats: Sequence[str]) -> dict[str, bytes]:
    if NARROW in formats:
        with narrow():
            return {NARROW: render(draw(), "svg")}
    figure = draw()
    return {kind: render(figure, kind) for kind in formats}
