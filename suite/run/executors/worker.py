"""Worker processes on this machine, seen from the one that gives them families; and the life of one.

A worker writes its cells to the store itself, each when it is scored. Scores then never cross a pipe, a cell that is
finished stays finished whatever happens to this process a moment later, and workers on other machines can do the same
with a shared folder. Outcomes carry their keys.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path

from ...errors import StoreError, WorkerError
from ...plan import names
from ...plan.family import SeedFamily
from ...plan.job import Job
from ...process import UNKNOWN_STATUS, cause_of_death, kill, out_of_memory_kills, start
from ...store.store import Store
from ..ended import write_end
from ..environment import deterministic
from ..events import Finished, Outcome, Started
from .sharing import Sharing

# When a whole process group is killed, workers may die a moment before this process does. Waiting before a death is
# written down keeps a killed run from leaving rows that say "killed".
_GRACE_SECONDS = 0.3
_STOP_SECONDS = 2.0
# A method with a process of its own is ended by its worker, which may then try the family's cells one by one.
_OWN_PROCESS = (2, 60.0)  # times the limit, and seconds beside it
_IDLE_DEATHS = 20  # in a row, of workers that were killed before they began with anything


@dataclass(frozen=True)
class _Ready:
    """A worker has imported what it needs."""


@dataclass(frozen=True)
class _Begun:
    """A worker has taken a family up: from now on, what ends the worker may be the family's doing."""


@dataclass(frozen=True)
class _CannotWrite:
    """The store refused a cell: there is no use in going on."""

    reason: str


class Worker:
    """One worker process, started at once. Close it, or it ends when this process does.

    Args:
        store_path: where it writes.
        device: as torch names it.
        timeout_seconds: of a cell; a family of several has as many times that.
        shares: whether others work on the device, so that nothing may be kept there between families.
    """

    def __init__(self, store_path: Path, device: str, timeout_seconds: float | None, shares: bool = False) -> None:
        self.store, self.device, self.timeout_seconds = Store(store_path), device, timeout_seconds
        self.family: SeedFamily = ()
        self.deadline: float | None = None
        self.is_ready = self.has_begun = self.is_gone = False
        self.memory_kills = out_of_memory_kills()
        self.pipe, theirs = Pipe()
        self.process = start(_work, theirs, store_path, device, timeout_seconds, shares)
        theirs.close()  # so that the pipe ends when the worker does

    @property
    def is_free(self) -> bool:
        return self.is_ready and not self.is_gone and not self.family

    @property
    def sources(self) -> list:
        """What to wait for: the worker says something, or is gone."""
        return [self.pipe, self.process.sentinel]

    def give(self, family: SeedFamily) -> None:
        """Sends a family to the worker."""
        self.family, self.has_begun = family, False
        if self.timeout_seconds is not None:
            limit = self.timeout_seconds * len(family)
            if not names.is_built_in(family[0].sources.method):
                limit = limit * _OWN_PROCESS[0] + _OWN_PROCESS[1]
            self.deadline = time.monotonic() + limit
        with suppress(OSError):  # it died while it was idle: `news` finds that out
            self.pipe.send(family)

    def news(self) -> list[Started | Finished]:
        """What has happened to the worker since it was last asked: its family was begun, or its cells are finished.

        When it has ended, ``is_gone`` is true; ``family`` is then what it was given and had not begun.

        Raises:
            StoreError: it cannot write to the store.
        """
        if self.pipe.poll():
            try:
                said = self.pipe.recv()
            except (EOFError, OSError):
                return self._lost("killed")
            if isinstance(said, _CannotWrite):
                raise StoreError(said.reason)
            if isinstance(said, _Ready):
                self.is_ready = True
                return []
            if isinstance(said, _Begun):
                self.has_begun = True
                return [Started(job, self.process.pid or 0) for job in self.family]
            return self._finish(said)
        if not self.process.is_alive():
            return self._lost("killed")
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return self._lost("timeout")
        return []

    def _finish(self, outcomes: Sequence[Outcome]) -> list[Started | Finished]:
        by_key = {outcome.key: outcome for outcome in outcomes}
        family, self.family, self.deadline, self.has_begun = self.family, (), None, False
        return [Finished(job, by_key.get(job.key) or self._outcome(job, "killed")) for job in family]

    def _lost(self, kind: str) -> list[Started | Finished]:
        """The process is no more: each cell that it had begun is a row that says so, unless it was just finished."""
        self.is_gone = True
        if kind != "timeout":
            self.process.join(_STOP_SECONDS)  # so that its status is its own
        kill(self.process)
        self.pipe.close()
        if not self.has_begun:
            return []
        time.sleep(_GRACE_SECONDS)
        return self._finish([self._outcome(job, kind) for job in self.family])

    def _outcome(self, job: Job, kind: str) -> Outcome:
        """How a job ended whose worker did not say: as the store has it, and as a failure where it lacks something."""
        if kind == "timeout" and self.timeout_seconds is not None:
            reason = f"no result within {self.timeout_seconds * len(self.family or (job,)):g} seconds"
        else:
            kind, reason = cause_of_death(self.process.exitcode, self.memory_kills)
        return write_end(job, self.store, kind, reason, device=self.device)

    def close(self) -> None:
        """Ends the process: asked first, and not asked if it is in the middle of a family."""
        with suppress(OSError):
            self.pipe.close()  # a worker that waits for a family ends when its pipe does
        if not self.family:
            self.process.join(_STOP_SECONDS)
        kill(self.process)


class Staff:
    """The workers of one process: each place is filled again when its worker ends, while there is something to do.

    Args:
        store_path: where they write.
        devices: one entry a place, as torch names it.
        timeout_seconds: of a cell; a family of several has as many times that.
        sharing: decides which family goes where; ``None``: the next one goes to whoever is free.
    """

    def __init__(
        self,
        store_path: Path,
        devices: Sequence[str],
        timeout_seconds: float | None,
        sharing: Sharing[SeedFamily] | None = None,
    ) -> None:
        self.store_path, self.timeout_seconds, self.sharing = store_path, timeout_seconds, sharing
        self.vacant = list(devices)
        self.workers: list[Worker] = []
        self.idle_deaths = 0  # in a row

    def measure(self, families: Sequence[SeedFamily]) -> Generator[Started | Finished, None, None]:
        """Has families measured, each once. A family whose worker ended before it began goes to another worker.

        Raises:
            StoreError: a worker cannot write to the store.
            WorkerError: workers end, again and again, before they have begun with anything.
        """
        pending = deque(families)
        while pending or any(worker.family for worker in self.workers):
            while pending and self.vacant:
                shares = self.sharing is not None
                self.workers.append(Worker(self.store_path, self.vacant.pop(0), self.timeout_seconds, shares))
            self._hand_out(pending)
            self._wait()
            for worker in list(self.workers):
                events = worker.news()
                self.idle_deaths = 0 if events else self.idle_deaths
                if worker.is_gone:
                    pending.extendleft([worker.family] if worker.family else [])
                    self._count_out(worker, idle=not events)
                yield from events

    def _hand_out(self, pending: deque[SeedFamily]) -> None:
        """Gives families to workers that are free, as many as may run now."""
        if self.sharing is None:
            for worker in self.workers:
                if pending and worker.is_free:
                    worker.give(pending.popleft())
            return
        while True:
            free = [worker for worker in self.workers if worker.is_free]
            in_hand = [(worker.device, worker.family) for worker in self.workers if worker.family]
            found = self.sharing.choose(pending, in_hand, [worker.device for worker in free])
            if found is None:
                return
            place, device = found
            next(worker for worker in free if worker.device == device).give(pending[place])
            del pending[place]

    def close(self) -> None:
        """Ends the workers."""
        for worker in self.workers:
            worker.close()
        self.workers.clear()

    def _wait(self) -> None:
        """Returns when a worker says something, dies, or has had its time."""
        deadlines = [worker.deadline - time.monotonic() for worker in self.workers if worker.deadline is not None]
        sources = [source for worker in self.workers for source in worker.sources]
        wait(sources, max(0.0, min(deadlines)) if deadlines else None)

    def _count_out(self, worker: Worker, *, idle: bool) -> None:
        """Makes room for the next worker. One that failed by itself before it began would fail the next time, too."""
        self.workers.remove(worker)
        self.vacant.append(worker.device)
        self.idle_deaths += idle
        status = worker.process.exitcode
        by_itself = not worker.is_ready and status is not None and 0 < status != UNKNOWN_STATUS
        if by_itself or self.idle_deaths >= _IDLE_DEATHS:
            times = f"{self.idle_deaths} in a row, " if self.idle_deaths > 1 else ""
            _, cause = cause_of_death(status, worker.memory_kills)
            raise WorkerError(
                f"no worker process lives long enough to begin ({times}{cause}): what it said is above. In a script, "
                'call run() under if __name__ == "__main__".'
            )


def _work(pipe: Connection, store_path: Path, device: str, timeout_seconds: float | None, shares: bool) -> None:
    """The life of a worker: families in, cells written, until the pipe ends."""
    from ..family_work import complete, let_go

    store, own = Store(store_path), os.getpid()
    # The parent closes the pipe when there is nothing left to do, perhaps while this worker is still starting.
    with deterministic(), suppress(EOFError, BrokenPipeError, ConnectionResetError):
        pipe.send(_Ready())
        while True:
            family = pipe.recv()
            pipe.send(_Begun())
            try:
                outcomes = list(complete(family, store, device, timeout_seconds))
            except StoreError as error:
                pipe.send(_CannotWrite(str(error)))
                return
            if os.getpid() != own:  # a copy that something forked, which has nothing to say
                os._exit(0)
            if shares:
                let_go(device)
            pipe.send(outcomes)
