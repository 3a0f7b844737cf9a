"""A second device made of main memory, named ``far``: what a GPU refuses is refused, and what makes it wait is counted.

Tensors on it may not meet tensors of the CPU, but for single numbers. It says nothing about seconds.
Importing this file renames PyTorch's spare backend, once a process.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

_SUITE = str(Path(__file__).parents[1] / "suite")
_READ_BY_CPU = {  # the size or the value of what comes out must be known to the CPU before it can go on
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "is_nonzero",
    "equal",
    "bincount",
    "_unique2",
    "unique_consecutive",
}
_COPIES = {"_to_copy", "copy_", "_pin_memory"}


class Waits(Counter):
    """(what waits, the line of the suite that caused it) to how often."""

    def __str__(self) -> str:
        return "\n".join(f"{n:5} {what} at {line}" for (what, line), n in self.most_common()) or "no waits"


_counters: list[Waits] = []


class FarTensor(Tensor):
    """A tensor of the second device; ``raw`` holds its numbers."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, raw: Tensor) -> FarTensor:
        tensor = Tensor._make_wrapper_subclass(
            cls,
            raw.shape,
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=FAR,
            requires_grad=False,
        )
        tensor.raw = raw
        return tensor

    def tolist(self) -> Any:
        _wait("tolist")
        return self.raw.tolist()

    def numpy(self, **options: Any) -> None:
        raise TypeError("can't convert a tensor of the second device to numpy; copy it to the CPU first.")

    def __repr__(self) -> str:
        return f"FarTensor({self.raw})"

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return _run(operation, args, kwargs or {})


class _Mode(TorchDispatchMode):
    """Sends to the second device what makes tensors on it, and what takes some."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = tree_flatten((args, kwargs))[0]
        if _is_far(kwargs.get("device")) or any(isinstance(each, FarTensor) for each in given):
            return _run(operation, args, kwargs)
        return operation(*args, **kwargs)


@contextmanager
def second_device() -> Iterator[torch.device]:
    """The device, usable inside the block."""
    with _Mode():
        yield FAR


@contextmanager
def count_waits() -> Iterator[Waits]:
    """Counts what makes the CPU wait for the second device inside the block."""
    waits = Waits()
    _counters.append(waits)
    try:
        yield waits
    finally:
        _counters.pop()


def _wait(what: str) -> None:
    if _counters:
        lines = [f"{f.filename}:{f.lineno}" for f in traceback.extract_stack() if f.filename.startswith(_SUITE)]
        for waits in _counters:
            waits[what, lines[-1].removeprefix(_SUITE) if lines else "outside"] += 1


def _is_far(device: Any) -> bool:
    return device is not None and torch.device(device).type == FAR.type


def _run(operation, args: tuple, kwargs: dict) -> Any:
    """One operation, of which an argument or the result is on the second device."""
    name, given = operation._schema.name.removeprefix("aten::"), tree_flatten((args, kwargs))[0]
    target = kwargs.get("device")
    has_far = any(isinstance(each, FarTensor) for each in given)
    if has_far and name not in _COPIES:
        _refuse_mixture(name, args, given)
    _count(name, args, kwargs, has_far)
    if name == "copy_":
        makes_far = isinstance(args[0], FarTensor)
    else:
        makes_far = has_far if target is None else _is_far(target)
    plain_args, plain_kwargs = tree_map(_raw, (args, kwargs))
    if makes_far:
        plain_kwargs.pop("pin_memory", None)
    result = operation(*plain_args, **plain_kwargs)
    if not operation._schema.returns:
        return None
    if operation._schema.name.endswith("_") and not operation._schema.name.endswith("__"):
        return args[0]
    if kwargs.get("out") is not None:
        return kwargs["out"]
    return tree_map(lambda each: FarTensor(each) if makes_far and isinstance(each, Tensor) else each, result)


def _refuse_mixture(name: str, args: tuple, given: list) -> None:
    near = [each for each in given if isinstance(each, Tensor) and not isinstance(each, FarTensor) and each.dim()]
    if name == "index" and isinstance(args[0], FarTensor):
        near = []  # a GPU takes them, too; that copy is counted as a wait
    if near:
        raise RuntimeError(f"{name}: tensors of the second device and of the CPU meet")


def _count(name: str, args: tuple, kwargs: dict, has_far: bool) -> None:
    if name in _COPIES:
        source = args[1] if name == "copy_" else args[0]
        goes_far = (
            isinstance(args[0], FarTensor) if name == "copy_" else _is_far(kwargs.get("device") or args[0].device)
        )
        if isinstance(source, FarTensor) and not goes_far:
            _wait("copy to the CPU")
        elif goes_far and not isinstance(source, FarTensor) and source.dim():
            if not (kwargs.get("non_blocking") or args[2:3] == (True,)):
                _wait("blocking copy to the device")
    elif has_far and name in _READ_BY_CPU:
        _wait(name)
    elif has_far and name in ("index", "index_put_", "_index_put_impl_"):
        indices = [each for each in args[1] if isinstance(each, Tensor)]
        if any(each.dtype in (torch.bool, torch.uint8) for each in indices):
            _wait(f"{name} by truth values")
        elif not all(isinstance(each, FarTensor) for each in indices):
            _wait(f"{name} by indices of the CPU")


def _raw(each: Any) -> Any:
    if isinstance(each, FarTensor):
        return each.raw
    return torch.device("cpu") if isinstance(each, torch.device) and each.type == FAR.type else each


# ---- what PyTorch asks of a backend ----------------------------------------------------------------------------------


class _Module:
    """The device's module, as ``torch.cuda`` is CUDA's."""

    is_available = is_initialized = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 1)
    current_device = staticmethod(lambda: 0)
    _is_in_bad_fork = staticmethod(lambda: False)
    manual_seed_all = staticmethod(lambda seed: None)
    get_rng_state = staticmethod(lambda device=0: torch.get_rng_state())
    set_rng_state = staticmethod(lambda state, device=0: torch.set_rng_state(state))
    synchronize = staticmethod(lambda device=None: _wait("synchronize"))
    get_device_name = staticmethod(lambda device=None: "far")
    reset_peak_memory_stats = empty_cache = staticmethod(lambda device=None: None)
    max_memory_allocated = staticmethod(lambda device=None: 0)
    # Checkpointing asks every backend that there is, in tests that come later in the same process, too.
    get_amp_supported_dtype = staticmethod(lambda: [torch.bfloat16, torch.float16])


def _copy(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    _raw(target).copy_(_raw(source))
    return target


torch.utils.rename_privateuse1_backend("far")
torch.utils.generate_methods_for_privateuse1_backend()
FAR = torch.device("far:0")
torch._register_device_module("far", _Module)
torch._C._acc.register_python_privateuseone_hook(backend_registration._DummyPrivateUse1Hook())
torch._C._acc.register_python_privateuseone_device_guard(backend_registration._DummyDeviceGuard())
_library = torch.library.Library("aten", "IMPL")
_library.impl(
    "empty_strided",
    lambda size, stride, dtype=None, layout=None, device=None, pin_memory=None: FarTensor(
        torch.empty_strided(size, stride, dtype=dtype)
    ),
    "PrivateUse1",
)
_library.impl(
    "empty.memory_format",
    lambda size, dtype=None, layout=None, device=None, pin_memory=None, memory_format=None: FarTensor(
        torch.empty(size, dtype=dtype)
    ),
    "PrivateUse1",
)
_library.impl("_copy_from", _copy, "PrivateUse1")
