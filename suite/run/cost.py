"""What a piece of work costs: seconds, passes, peak memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): sets the high-water mark of resident memory to what is resident now


@contextmanager
def measure(device: str, cost: dict[str, Any]) -> Iterator[None]:
    """Notes what the block cost, also when it raises.

    Args:
        device: as torch names it.
        cost: is given ``seconds``, ``forward`` and ``backward`` (plain passes over one example) and
            ``peak_memory_bytes``: of the process where the block ran on a CPU, else what torch allocated on the device.
    """
    import torch

    from ..model.passes import count_passes

    kind = torch.device(device)
    accelerator = None if kind.type == "cpu" else torch.get_device_module(kind)
    if accelerator:
        accelerator.reset_peak_memory_stats(kind)
    else:
        with suppress(OSError):  # no such file outside Linux: the peak is then that of the process's whole life
            _CLEAR.write_text(_RESET_PEAK)
    with count_passes() as passes:
        start = time.perf_counter()
        try:
            yield
            if accelerator:
                accelerator.synchronize(kind)
        finally:
            cost["seconds"] = time.perf_counter() - start
            cost["forward"], cost["backward"] = passes.forward, passes.backward
            peak = accelerator.max_memory_allocated(kind) if accelerator else _peak_resident_bytes()
            cost["peak_memory_bytes"] = peak


def _peak_resident_bytes() -> int:
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes everywhere but there
