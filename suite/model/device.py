"""Devices and dtypes: their names, and what depends on which device there is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import SpecError

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("float32", "bfloat16", "float16", "float64")


def resolve(name: str) -> torch.device:
    """The device for ``auto`` (CUDA when present), ``cpu`` or ``cuda``.

    Raises:
        SpecError: an unknown name, or ``cuda`` where torch sees no CUDA device.
    """
    import torch  # here, so that the command line can name the choices without it

    if name not in DEVICES:
        raise SpecError(f"no device {name!r}; it is one of {', '.join(DEVICES)}.")
    if name == "cuda" and not torch.cuda.is_available():
        raise SpecError("--device cuda: torch sees no CUDA device here; use --device cpu or --device auto.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def dtype(name: str) -> torch.dtype:
    """The dtype of a name in DTYPES. Raises SpecError for any other."""
    import torch

    if name not in DTYPES:
        raise SpecError(f"no dtype {name!r}; it is one of {', '.join(DTYPES)}.")
    return getattr(torch, name)


def products_in_tf32(allowed: bool) -> None:
    """Whether a GPU may round the factors of float32 products to TF32, which keeps 10 of their 23 bits and is faster.

    PyTorch's own default depends on its version and on ``TORCH_ALLOW_TF32_CUBLAS_OVERRIDE``. It holds for the process.
    """
    import torch

    torch.set_float32_matmul_precision("high" if allowed else "highest")


def all_of(device: torch.device) -> list[torch.device]:
    """The devices that a name stands for: a GPU's kind without a number, all of that kind that this process sees."""
    import torch

    if device.type == "cpu" or device.index is not None:
        return [device]
    count = torch.get_device_module(device).device_count()
    return [torch.device(device.type, number) for number in range(count)] or [device]


def wait_for(device: torch.device) -> None:
    """Returns when the device has done all that it was given, so that a clock can tell how long it took."""
    import torch

    if device.type != "cpu":
        torch.get_device_module(device).synchronize(device)


def memory_of_device(device: torch.device) -> int | None:
    """The size of a device's memory in bytes, for the CPU that of this machine's; ``None`` where it is not known."""
    import torch

    if device.type != "cpu":
        properties = getattr(torch.get_device_module(device), "get_device_properties", None)
        return properties(device).total_memory if properties else None
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def free_unused(device: torch.device) -> None:
    """Gives back the memory of a device that torch keeps for later use. On the CPU torch keeps no memory."""
    import torch

    if device.type != "cpu":
        getattr(torch.get_device_module(device), "empty_cache", lambda: None)()


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on a device. From the CPU to a GPU it goes through pinned memory, and nothing waits for it."""
    if tensor.device.type == "cpu" and device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=tensor.device.type == "cpu")  # the CPU reads it next, and must wait
