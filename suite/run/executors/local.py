"""Worker processes on this machine, one family at a time each; those that share a GPU, by its memory (sharing.py)."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence

from ...errors import CircuitMeterError
from ...model.device import memory_of_device
from ...plan.family import SeedFamily
from ...plan.forecast import family_bytes
from ...store.store import Store
from ..events import Finished, Started
from .sharing import Sharing
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
    staff = Staff(store.path, devices, timeout_seconds, _sharing(devices))
    try:
        yield from staff.measure(families)
    finally:
        staff.close()


def _sharing(devices: Sequence[str]) -> Sharing[SeedFamily] | None:
    """What decides where workers share a device that is not the CPU; ``None`` where none do."""
    if len(set(devices)) == len(devices) or set(devices) == {"cpu"}:
        return None
    import torch

    return Sharing({each: memory_of_device(torch.device(each)) or 0 for each in devices}, _need)


def _need(family: SeedFamily) -> int:
    """What a family is estimated to need; all there is where it cannot be loaded, of which its worker will say why."""
    try:
        return family_bytes(family)
    except CircuitMeterError:
        return sys.maxsize
