"""What runs cells, in families (see ``family.py``). Each is a function

    execute(families, *, store, devices, timeout_seconds, address) -> iterator of Started and Finished

that measures every cell once and has it in the store before it says ``Finished``. Families do not depend on each
other, so an executor only decides where and when; it holds no state of its own, the store does. A family of several
cells has as many times the time limit. ``address`` is where a cluster is, for those that run on one.

Another package adds one through the entry-point group ``circuitmeter.executors``.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from functools import partial
from importlib import import_module
from typing import Any, Protocol

from ...errors import SpecError
from ...model.device import resolve
from ...plan.family import SeedFamily
from ...registry import Registry
from ...store.store import Store
from ..events import Finished, Started

SERIAL = "serial"  # one family at a time, in this process
CLUSTERS = ("ray", "slurm")  # whose machines have other devices than this one


class Execute(Protocol):
    """See the module's docstring; ``devices`` has one entry per worker, as torch names it."""

    def __call__(
        self,
        families: Sequence[SeedFamily],
        *,
        store: Store,
        devices: Sequence[str],
        timeout_seconds: float | None,
        address: str | None = None,
    ) -> Generator[Started | Finished, None, None]: ...


EXECUTORS: Registry[Execute] = Registry("executor", "circuitmeter.executors")


def _built_in(name: str, *given: Any, **named: Any) -> Generator[Started | Finished, None, None]:
    """An executor of this package, imported when it is used: Ray takes a second."""
    return import_module(f".{name}", __name__).execute(*given, **named)


for _name in ("local", SERIAL, *CLUSTERS):
    EXECUTORS.add(_name, partial(_built_in, _name))


def crew(executor: str, device: str, workers: int | None) -> list[str]:
    """The device of each worker: by default one worker per core, or one per GPU. ``serial`` has one in any case.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``; on a cluster, ``auto`` is what this machine has.

    Raises:
        SpecError: fewer than one worker; a device that is not here, where the work is done here.
    """
    import torch

    if workers is not None and workers < 1:
        raise SpecError(f"--workers {workers}: give 1 or more.")
    workers = 1 if executor == SERIAL else workers
    if executor in CLUSTERS:
        kind = device if device != "auto" else resolve(device).type
        return [kind] * (workers or _cores())
    where = resolve(device)
    if where.type == "cpu":
        return ["cpu"] * (workers or _cores())
    count = torch.get_device_module(where).device_count()
    return [f"{where.type}:{worker % count}" for worker in range(workers or count)]


def _cores() -> int:
    """The cores that this process may use, which are fewer than the machine's in a container or a cluster job."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
