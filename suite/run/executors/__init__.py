"""What runs cells, in families (see ``family.py``). Each is a function

    execute(families, *, store, devices, timeout_seconds) -> iterator of Started and Finished

that measures every cell once and has it in the store before it says ``Finished``. Families do not depend on each
other, so an executor only decides where and when. A family of several cells has as many times the time limit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from ...errors import SpecError, unknown
from ...plan.family import Family
from ..events import Finished, Started

if TYPE_CHECKING:
    import torch

    from ...store.store import Store

EXECUTORS = {"local": "local", "serial": "serial"}  # name -> module of this package, imported when it is used


class Execute(Protocol):
    """See the module's docstring; ``devices`` has one entry a worker, as torch names it."""

    def __call__(
        self, families: Sequence[Family], *, store: Store, devices: Sequence[str], timeout_seconds: float | None
    ) -> Iterator[Started | Finished]: ...


def get(name: str) -> Execute:
    """The executor called ``name``. Raises SpecError that says which there are."""
    if name not in EXECUTORS:
        raise SpecError(unknown("executor", name, EXECUTORS))
    execute: Callable = import_module(f".{EXECUTORS[name]}", __name__).execute
    return execute


def crew(device: torch.device, workers: int | None) -> list[str]:
    """The device of each worker: by default one worker a core, or one a GPU.

    Raises:
        SpecError: fewer than one worker.
    """
    import torch

    if workers is not None and workers < 1:
        raise SpecError(f"--workers {workers}: give 1 or more.")
    if device.type == "cpu":
        return ["cpu"] * (workers or _cores())
    count = torch.get_device_module(device).device_count()
    return [f"{device.type}:{worker % count}" for worker in range(workers or count)]


def _cores() -> int:
    """The cores that this process may use, which are fewer than the machine's in a container or a cluster job."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
