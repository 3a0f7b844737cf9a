"""Worker processes on this machine, one family at a time each.

A worker writes its cells to the store itself, each when it is scored. Scores then never cross a pipe, a cell that is
finished stays finished whatever happens to this process a moment later, and workers on other machines can do the same
with a shared folder.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from ...errors import StoreError
from ...plan.cell import Cell
from ...plan.family import Family
from ...store.record import Record, failure
from ...store.store import Store
from ..environment import deterministic, provenance
from ..events import Finished, Outcome, Started

# When a whole process group is killed, workers may die a moment before this process does. Waiting before a death is
# written down keeps a killed run from leaving rows that say "killed".
_GRACE_SECONDS = 0.3
_STOP_SECONDS = 2.0


@dataclass(frozen=True)
class _Ready:
    """A worker has imported what it needs."""


@dataclass(frozen=True)
class _CannotWrite:
    """The store refused a cell: there is no use in going on."""

    reason: str


def execute(
    families: Sequence[Family], *, store: Store, devices: Sequence[str], timeout_seconds: float | None
) -> Iterator[Started | Finished]:
    """Measures families on spawned workers; closing the iterator stops them.

    Args:
        devices: one entry a worker, as torch names it.
        timeout_seconds: of a cell; after as many times that as a family has cells its worker is ended, and what is
            unfinished is rows of kind ``timeout``.

    Raises:
        StoreError: a worker cannot write to the store.
        RuntimeError: a worker cannot start.
    """
    pending = deque(families)
    staff: list[_Worker] = []
    try:
        staff += [_Worker(store.path, device) for device in devices]
        while pending or any(worker.family for worker in staff):
            for worker in staff:
                if pending and worker.is_free:
                    yield from worker.give(pending.popleft(), timeout_seconds)
            _wait_for_news(staff)
            for worker in list(staff):
                finished = worker.news(store)
                if worker.is_gone:
                    staff.remove(worker)
                    staff += [_Worker(store.path, worker.device)] if pending else []
                yield from finished
    finally:
        for worker in staff:
            worker.pipe.close()  # a worker that waits for a cell ends when its pipe does
        for worker in staff:
            worker.stop()


def _wait_for_news(staff: Sequence[_Worker]) -> None:
    """Returns when a worker says something, dies, or has had its time."""
    deadlines = [worker.deadline for worker in staff if worker.deadline is not None]
    timeout = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
    wait([worker.pipe for worker in staff], timeout)


class _Worker:
    """One worker process, seen from here."""

    def __init__(self, store_path: Path, device: str) -> None:
        context = multiprocessing.get_context("spawn")  # a forked process would inherit torch's threads, locked
        self.device = device
        self.family: Family = ()
        self.deadline: float | None = None
        self.is_ready = self.is_gone = False
        self.timeout_seconds: float | None = None
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, store_path, device), daemon=True)
        self.process.start()
        theirs.close()  # so that the pipe ends when the worker does

    @property
    def is_free(self) -> bool:
        return self.is_ready and not self.is_gone and not self.family

    def give(self, family: Family, timeout_seconds: float | None) -> list[Started]:
        """Sends a family to the worker."""
        self.family, self.timeout_seconds = family, None if timeout_seconds is None else timeout_seconds * len(family)
        self.deadline = None if timeout_seconds is None else time.monotonic() + self.timeout_seconds
        with suppress(BrokenPipeError):  # it died while it was idle: `news` finds that out
            self.pipe.send(family)
        return [Started(cell, self.process.pid) for cell in family]

    def news(self, store: Store) -> list[Finished]:
        """What has happened to the worker since it was last asked: the cells of its family, if that is finished."""
        if self.pipe.poll():
            try:
                said = self.pipe.recv()
            except (EOFError, ConnectionResetError):
                return self._lost(store, "killed")
            if isinstance(said, _CannotWrite):
                raise StoreError(said.reason)
            if isinstance(said, _Ready):
                self.is_ready = True
                return []
            return self._finish(said)
        if self.deadline is not None and time.monotonic() >= self.deadline:
            self.process.kill()
            return self._lost(store, "timeout")
        return []

    def _finish(self, outcomes: Sequence[Outcome]) -> list[Finished]:
        family, self.family, self.deadline = self.family, (), None
        return [Finished(cell, outcome) for cell, outcome in zip(family, outcomes, strict=True)]

    def _lost(self, store: Store, kind: str) -> list[Finished]:
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
        for cell in self.family:
            if cell.key not in store or not store.record(cell.key).done:
                store.write(self._obituary(cell, kind), {})
        return self._finish([Outcome.of(store.record(cell.key)) for cell in self.family])

    def _obituary(self, cell: Cell, kind: str) -> Record:
        if kind == "timeout":
            reason = f"no result within {self.timeout_seconds:g} seconds"
        else:
            code = self.process.exitcode
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
            reason = f"the worker process {how}; the system ends one that uses too much memory"
        return failure(cell.identity(), kind, reason, provenance=provenance(self.device))

    def stop(self) -> None:
        """Ends the process: asked first, and not asked if it is in the middle of a family."""
        if self.family:
            self.process.kill()
        self.process.join(_STOP_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _work(pipe: Connection, store_path: Path, device: str) -> None:
    """The life of a worker: families in, cells written, until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a method prints must not mix with --json
    sys.stdout.reconfigure(line_buffering=True)  # nor be lost when the process is killed
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from ..family_work import complete

    store = Store(store_path)
    # The parent closes the pipe when there is nothing left to do, perhaps while this worker is still starting.
    with deterministic(), suppress(EOFError, BrokenPipeError, ConnectionResetError):
        pipe.send(_Ready())
        while True:
            family = pipe.recv()
            try:
                outcomes = list(complete(family, store, device))
            except StoreError as error:
                pipe.send(_CannotWrite(str(error)))
                return
            pipe.send(outcomes)


def _end_with_parent() -> None:
    """Ends this process when its parent is gone, in the middle of a cell too: nobody waits for it any more."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
