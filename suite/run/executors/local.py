"""Worker processes on this machine, one family at a time each."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence

from ...plan.family import SeedFamily
from ...store.store import Store
from ..events import Finished, Started
from .worker import Worker, wait_for_news


def execute(
    families: Sequence[SeedFamily],
    *,
    store: Store,
    devices: Sequence[str],
    timeout_seconds: float | None,
    address: str | None = None,
) -> Generator[Started | Finished, None, None]:
    """Measures families on worker processes; closing the iterator stops them.

    Args:
        devices: one entry per worker, as torch names it.
        timeout_seconds: of a cell; after as many times that as a family has cells it is ended, and what is unfinished
            is rows of kind ``timeout``.

    Raises:
        StoreError: a worker cannot write to the store.
        RuntimeError: a worker cannot start.
    """
    pending = deque(families)
    staff: list[Worker] = []
    try:
        staff += [Worker(store.path, device, timeout_seconds) for device in devices]
        while pending or any(worker.family for worker in staff):
            for worker in staff:
                if pending and worker.is_free:
                    yield from worker.give(pending.popleft())
            wait_for_news(staff)
            for worker in list(staff):
                finished = worker.news()
                if worker.is_gone:
                    staff.remove(worker)
                    staff += [Worker(store.path, worker.device, timeout_seconds)] if pending else []
                yield from finished
    finally:
        for worker in staff:
            worker.close()
