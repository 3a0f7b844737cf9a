"""A worker process on this machine, seen from the one that gives it families; and its life.

A worker writes its cells to the store itself, each when it is scored. Scores then never cross a pipe, a cell that is
finished stays finished whatever happens to this process a moment later, and workers on other machines can do the same
with a shared folder. Outcomes carry their keys.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path

from ...errors import StoreError
from ...plan import names
from ...plan.family import SeedFamily
from ...plan.job import Job
from ...process import cause_of_death, out_of_memory_kills, start
from ...store.record import failure
from ...store.store import Store
from ..environment import deterministic, keep_environment, provenance
from ..events import Finished, Outcome, Started

# When a whole process group is killed, workers may die a moment before this process does. Waiting before a death is
# written down keeps a killed run from leaving rows that say "killed".
_GRACE_SECONDS = 0.3
_STOP_SECONDS = 2.0
# A method with a process of its own is ended by its worker, which may then try the family's cells one by one.
_OWN_PROCESS = (2, 60.0)  # times the limit, and seconds beside it


@dataclass(frozen=True)
class _Ready:
    """A worker has imported what it needs."""


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
    """

    def __init__(self, store_path: Path, device: str, timeout_seconds: float | None) -> None:
        self.store, self.device, self.timeout_seconds = Store(store_path), device, timeout_seconds
        self.family: SeedFamily = ()
        self.deadline: float | None = None
        self.is_ready = self.is_gone = False
        self.memory_kills = out_of_memory_kills()
        self.pipe, theirs = Pipe()
        self.process = start(_work, theirs, store_path, device, timeout_seconds)
        theirs.close()  # so that the pipe ends when the worker does

    @property
    def is_free(self) -> bool:
        return self.is_ready and not self.is_gone and not self.family

    @property
    def sources(self) -> list:
        """What to wait for: the worker says something, or is gone."""
        return [self.pipe, self.process.sentinel]

    def give(self, family: SeedFamily) -> list[Started]:
        """Sends a family to the worker."""
        self.family = family
        if self.timeout_seconds is not None:
            limit = self.timeout_seconds * len(family)
            if not names.is_built_in(family[0].sources.method):
                limit = limit * _OWN_PROCESS[0] + _OWN_PROCESS[1]
            self.deadline = time.monotonic() + limit
        with suppress(BrokenPipeError):  # it died while it was idle: `news` finds that out
            self.pipe.send(family)
        return [Started(job, self.process.pid or 0) for job in family]

    def news(self) -> list[Finished]:
        """What has happened to the worker since it was last asked: the cells of its family, if that is finished.

        Raises:
            StoreError: it cannot write to the store.
            RuntimeError: it could not start.
        """
        if self.pipe.poll():
            try:
                said = self.pipe.recv()
            except (EOFError, ConnectionResetError):
                return self._lost("killed")
            if isinstance(said, _CannotWrite):
                raise StoreError(said.reason)
            if isinstance(said, _Ready):
                self.is_ready = True
                return []
            return self._finish(said)
        if not self.process.is_alive():
            return self._lost("killed")
        if self.deadline is not None and time.monotonic() >= self.deadline:
            self.process.kill()
            return self._lost("timeout")
        return []

    def _finish(self, outcomes: Sequence[Outcome]) -> list[Finished]:
        by_key = {outcome.key: outcome for outcome in outcomes}
        family, self.family, self.deadline = self.family, (), None
        return [Finished(job, by_key.get(job.key) or self._outcome(job, "killed")) for job in family]

    def _lost(self, kind: str) -> list[Finished]:
        """The process is no more: each of its cells is a row that says so, unless it had just been finished."""
        self.is_gone = True
        self.process.join()
        self.pipe.close()
        if not self.is_ready:
            raise RuntimeError(
                "a worker process could not start: what it said is above. In a script, call run() under "
                'if __name__ == "__main__".'
            )
        if not self.family:
            return []
        time.sleep(_GRACE_SECONDS)
        return self._finish([self._outcome(job, kind) for job in self.family])

    def _outcome(self, job: Job, kind: str) -> Outcome:
        """How a job ended whose worker did not say: as the store has it, and as a failure where it has nothing."""
        if job.key not in self.store or not self.store.record(job.key).done:
            if kind == "timeout" and self.timeout_seconds is not None:
                reason = f"no result within {self.timeout_seconds * len(self.family or (job,)):g} seconds"
            else:
                kind, reason = cause_of_death(self.process.exitcode, self.memory_kills)
            keep_environment(self.store)
            row = failure(job.cell, kind, reason, provenance=provenance(self.device))
            self.store.write(row, {})
        return Outcome.of(self.store.record(job.key))

    def close(self) -> None:
        """Ends the process: asked first, and not asked if it is in the middle of a family."""
        with suppress(OSError):
            self.pipe.close()  # a worker that waits for a family ends when its pipe does
        if self.family:
            self.process.kill()
        self.process.join(_STOP_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def wait_for_news(staff: Sequence[Worker], seconds: float | None = None) -> None:
    """Returns when a worker says something, dies, or has had its time; or after so many seconds."""
    deadlines = [worker.deadline - time.monotonic() for worker in staff if worker.deadline is not None]
    limits = [*deadlines, *([] if seconds is None else [seconds])]
    wait([source for worker in staff for source in worker.sources], max(0.0, min(limits)) if limits else None)


def _work(pipe: Connection, store_path: Path, device: str, timeout_seconds: float | None) -> None:
    """The life of a worker: families in, cells written, until the pipe ends."""
    from ..family_work import complete

    store, own = Store(store_path), os.getpid()
    # The parent closes the pipe when there is nothing left to do, perhaps while this worker is still starting.
    with deterministic(), suppress(EOFError, BrokenPipeError, ConnectionResetError):
        pipe.send(_Ready())
        while True:
            family = pipe.recv()
            try:
                outcomes = list(complete(family, store, device, timeout_seconds))
            except StoreError as error:
                pipe.send(_CannotWrite(str(error)))
                return
            if os.getpid() != own:  # a copy that something forked, which has nothing to say
                os._exit(0)
            pipe.send(outcomes)
