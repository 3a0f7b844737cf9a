"""Worker processes on this machine, one family at a time each."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from ...plan.family import SeedFamily
from ...store.store import Store
from ..events import Finished, Started
from .worker import Staff


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
        WorkerError: workers end, again and again, before they have begun with anything.
    """
    staff = Staff(store.path, devices, timeout_seconds)
    try:
        yield from staff.measure(families)
    finally:
        staff.close()
