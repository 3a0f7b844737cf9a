"""How a run is going, on stderr: a bar in a terminal, one line per cell elsewhere, the same words in both."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

from ..plan.estimate import Estimator, spoken
from ..plan.job import Job
from .events import Event, Finished, Measured, Planned, SetAside, Started, Taken


class Progress:
    """A listener for ``run(on_event=...)``; a context manager, so that the terminal is left as it was.

    Args:
        stream: where to; stderr by default, because stdout belongs to results.
        live: whether to draw a bar; by default where ``stream`` is a terminal.
        part: a word before the count, where a command runs one benchmark after another.
    """

    def __init__(self, stream: TextIO | None = None, *, live: bool | None = None, part: str = "") -> None:
        self.stream, self._part = stream or sys.stderr, f"{part} " * bool(part)
        self.live = self.stream.isatty() if live is None else live
        self._bar = None
        self._total = self._done = self._undefined = self._failed = 0
        self._workers = 1
        self._left: dict[str, Job] = {}
        self._labels: dict[str, str] = {}
        self._started: dict[str, float] = {}
        self._estimator = Estimator()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __call__(self, event: Event) -> None:
        """Shows what happened."""
        match event:
            case SetAside(key, reason):
                self._say(f"damaged: cell {key}: {reason}; kept in damaged/, and run again")
            case Taken(n, damaged):
                self._say(f"{n} results were taken from other stores")
                for path, reason in damaged.items():
                    self._say(f"damaged, not taken: {path}: {reason}")
            case Measured(task, model, behaviour, failed):
                warning = failed if behaviour is None else behaviour.warning(task, model)
                if warning:
                    self._say(warning)
            case Planned():
                self._begin(event)
            case Started(job):
                self._started[job.key] = time.monotonic()
                self._draw(self._labels[job.key])
            case Finished():
                self._end(event)

    def _begin(self, event: Planned) -> None:
        plan, self._labels = event.plan, event.plan.labels
        self._undefined, self._failed = len(plan.of("undefined")), len(plan.of("failed"))
        self._total = len(plan.jobs) - self._undefined
        self._left = {job.key: job for job in event.to_run}
        retried = sum(planned.job.key in self._left for planned in plan.of("failed"))
        self._failed -= retried
        self._done = self._total - len(self._left)
        self._workers, self._estimator = max(1, event.workers), plan.estimator
        for line in (*plan.not_run_lines, *plan.not_reused_lines):
            self._say(line)
        if not event.to_run:
            return
        there = f", {self._done} of {self._total} are there" if self._done else ""
        self._say(
            f"{plan.name}: {len(event.to_run)} cells to run on {self._workers} worker{'s' * (self._workers > 1)}{there}"
        )
        if self.live:
            self._start_bar()

    def _end(self, event: Finished) -> None:
        job, outcome = event.job, event.outcome
        self._done += 1
        self._left.pop(job.key, None)
        if outcome.kind == "undefined":
            self._undefined += 1
        elif outcome.status == "failed":
            self._failed += 1
        seconds = outcome.seconds
        if seconds is None and job.key in self._started:
            seconds = time.monotonic() - self._started[job.key]
        if seconds is not None:
            self._estimator.add(job.cell.method, job.cell.task, job.cell.model, seconds)
        line = self.line(job, seconds)
        if outcome.status == "failed":
            self._say(f"{line} | {outcome.kind}: {outcome.reason}")
        elif self.live:
            self._draw(line)
        else:
            self._say(line)

    def line(self, job: Job, seconds: float | None) -> str:
        """``142/180 eap-ig · tracr/reverse · patch · l2  2.1 s | 3 undefined, 1 failed | ETA 4 min``.

        Cells of the run that would be called alike are told apart by what differs, such as ``· steps=5``.
        """
        took = "" if seconds is None else f"  {spoken(seconds)}"
        bad = f"{self._undefined} undefined, {self._failed} failed"
        count = f"{self._part}{self._done}/{self._total}"
        return f"{count} {self._labels[job.key]}{took} | {bad} | ETA {spoken(self.eta_seconds)}"

    @property
    def eta_seconds(self) -> float | None:
        """What is left, at the speed measured so far, over the workers; ``None`` before anything was measured."""
        now = time.monotonic()
        running = [self._started[key] for key in self._left if key in self._started]
        left = self._estimator.seconds(self._left.values())
        if left is None:
            return None
        spent = sum(now - start for start in running)
        return max(0.0, left - spent) / min(self._workers, max(1, len(self._left)))

    def _say(self, line: str) -> None:
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=self.stream, flush=True)

    def _start_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        text = TextColumn("{task.description}", markup=False)
        bar = Bar(BarColumn(bar_width=20), text, console=Console(file=self.stream, force_terminal=True))
        self._task = bar.add_task("", total=self._total, completed=self._done)
        self._bar = bar
        bar.start()

    def _draw(self, text: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, description=text)
