"""What a cell ran on: made deterministic before, and written down after."""

from __future__ import annotations

import json
import os
import platform
import random
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from circuitmeter import __version__

from ..model.device import products_in_tf32
from ..store.record import Environment, Processor, Provenance, Python, TorchBuild
from ..store.store import Store
from .installed import installed_versions

_PACKAGES = ("circuitmeter", "torch", "numpy", "scipy", "safetensors", "transformers", "datasets")
# What changes the order of sums, or which kernels compute them. None of them holds a name or a path.
_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "MKL_CBWR", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")


@contextmanager
def deterministic() -> Iterator[None]:
    """Inside, the same cell gives the same bits; entered before a process's first tensor on a GPU.

    One thread an operation, because sums are split between threads: with it, a result depends neither on the number
    of workers nor on that of cores. Products of float32 are in float32 and never in TF32, so that cards
    differ by rounding alone. Operations that have no deterministic form raise instead of differing silently.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts; torch requires it
    import torch

    threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    products = torch.get_float32_matmul_precision()
    torch.set_num_threads(1)
    products_in_tf32(False)
    # Not use_deterministic_algorithms(True), which imports the compiler (two seconds) to tell it too.
    torch.set_deterministic_debug_mode("error")
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(mode)
        torch.set_float32_matmul_precision(products)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Undoes what code inside changes for its whole process: folder, default dtype, gradients, threads, products."""
    import torch

    folder, dtype, grad = os.getcwd(), torch.get_default_dtype(), torch.is_grad_enabled()
    threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    products = torch.get_float32_matmul_precision()
    try:
        yield
    finally:
        os.chdir(folder)
        torch.set_float32_matmul_precision(products)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(mode)


def seed_everything(key: str) -> None:
    """Seeds the global generators from a cell's key, so that a method that draws from them repeats itself too."""
    import numpy
    import torch

    seed = int(key, 16)
    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed % 2**63)


def provenance(device: str) -> Provenance:
    """Versions, commit, device, determinism, the environment's hash and the time, as a record keeps them.

    Whoever writes the record also calls ``keep_environment``.

    Args:
        device: as torch names it.
    """
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    return Provenance(**_lasting(device), environment=environment().hash, finished=finished)


def keep_environment(store: Store) -> None:
    """Keeps what this process computes in, in a store that it is about to write records to; once a store.

    Raises:
        StoreError: the store cannot be written to.
    """
    store.write_environment(environment())


def environment() -> Environment:
    """What this process computes in."""
    import torch

    return _environment(torch.get_num_threads())


@lru_cache  # a process has one when it computes, and perhaps another one before
def _environment(threads: int) -> Environment:
    import torch

    blas = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
    return Environment(
        python=Python(implementation=platform.python_implementation(), version=platform.python_version()),
        platform=platform.platform(),
        processor=Processor(name=_device_name(torch.device("cpu")), cores=os.cpu_count()),
        torch=TorchBuild(
            version=str(torch.__version__),
            commit=torch.version.git_version,
            cuda=torch.version.cuda,
            rocm=torch.version.hip,
            blas=blas.group(1) if blas else None,
            onednn=torch.backends.mkldnn.is_available(),
            kernels=torch.backends.cpu.get_cpu_capability(),
            threads=threads,
            threads_between=torch.get_num_interop_threads(),
            float32_matmul_precision=torch.get_float32_matmul_precision(),
        ),
        variables={name: os.environ[name] for name in _VARIABLES if name in os.environ},
        commit=_commit(),
        packages=installed_versions() | {"circuitmeter": __version__},
    )


@lru_cache
def _lasting(device: str) -> dict[str, Any]:
    """What does not change while a worker lives."""
    import torch

    return {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES},
        "commit": _commit(),
        "platform": platform.platform(),
        "device": {"type": torch.device(device).type, "name": _device_name(torch.device(device))},
        "threads": torch.get_num_threads(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cublas_workspace_config": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    }


def _version(package: str) -> str | None:
    if package == "circuitmeter":  # a clone that was updated keeps the description of its installation
        return __version__
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device_name(device: Any) -> str:
    import torch

    if device.type != "cpu":
        return torch.get_device_module(device).get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@lru_cache
def _commit() -> str | None:
    """The commit of the checkout that this file is part of, ``-changed`` when files differ; of an installed copy, the
    commit that pip wrote down, as it does of ``git+`` addresses alone; None where nobody knows."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # an installed copy may lie inside somebody else's checkout
        return _installed_commit()
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return f"{commit}-changed" if _git(root, "status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.SubprocessError):  # no git on this machine, or a checkout that is not ours to read
        return None


def _installed_commit() -> str | None:
    """The commit in ``direct_url.json``, by which pip says what an installed package was made from (PEP 610)."""
    try:
        text = distribution("circuitmeter").read_text("direct_url.json")
        found = json.loads(text or "{}").get("vcs_info", {}).get("commit_id")
    except (PackageNotFoundError, OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
