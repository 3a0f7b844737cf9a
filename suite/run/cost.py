"""What a piece of work costs: seconds, passes, peak memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ..store.record import RecordedCost

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): sets the high-water mark of resident memory to what is resident now


@dataclass
class Spent:
    """What a piece of work has cost; None before it is known.

    seconds: of the search. forward, backward: plain passes over one example. peak_memory_bytes: of the process where
    the work was done on a CPU, else what torch allocated on the device, or on several together. batch_size: what the
    search's had to be reduced to for want of memory.
    """

    seconds: float | None = None
    forward: float | None = None
    backward: float | None = None
    peak_memory_bytes: int | None = None
    batch_size: int | None = None

    def share(self, n: int, total_seconds: float) -> RecordedCost:
        """One cell's share of what ``n`` cost together, ``total_seconds`` in all; the peak of memory is everyone's."""
        known = {name: value for name, value in asdict(self).items() if value is not None and name != "batch_size"}
        known["total_seconds"] = total_seconds
        if n > 1:
            known = {name: value if name == "peak_memory_bytes" else value / n for name, value in known.items()}
            known["shared_by"] = n
        return RecordedCost(**known)


@contextmanager
def measure_cost(device: str, spent: Spent) -> Iterator[None]:
    """Notes what the block cost, also when it raises.

    Args:
        device: as torch names it.
        spent: is filled.
    """
    import torch

    from ..model.device import all_of
    from ..model.passes import count_passes

    devices = all_of(torch.device(device))
    accelerator = None if devices[0].type == "cpu" else torch.get_device_module(devices[0])
    if accelerator:
        for each in devices:
            accelerator.reset_peak_memory_stats(each)
    else:
        with suppress(OSError):  # no such file outside Linux: the peak is then that of the process's whole life
            _CLEAR.write_text(_RESET_PEAK)
    with count_passes() as passes:
        start = time.perf_counter()
        try:
            yield
            if accelerator:
                accelerator.synchronize(devices[0])  # where what the others compute comes together
        finally:
            spent.seconds = time.perf_counter() - start
            spent.forward, spent.backward = passes.forward, passes.backward
            spent.peak_memory_bytes = (
                sum(map(accelerator.max_memory_allocated, devices)) if accelerator else _peak_resident_bytes()
            )


def _peak_resident_bytes() -> int:
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes everywhere but there
