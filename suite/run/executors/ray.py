"""Families as Ray tasks: on a cluster that is there, or on one that is started here for the run.

Ray decides where and when, keeps to the resources, starts a task again when its node is lost, and uses nodes that join.
A task's resources are a core, the memory that its cells are estimated to need and, where the device is a GPU, the share
of one that this memory is, or as many as the weights of a larger model need. A task has a worker process (worker.py),
which keeps time limits and tells causes of death as on one machine. Where the store's folder is not there on a node,
results come back to this process.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ...errors import SpecError, StoreError, install_extra, one_line
from ...json_model import File
from ...model.device import memory_of_device
from ...plan.family import SeedFamily
from ...plan.job import Job
from ...store.record import Environment, EvaluationRecord, Record
from ...store.store import Store
from ..ended import write_end
from ..events import Finished, Outcome, Started
from .worker import Staff

if TYPE_CHECKING:
    from .ray_resources import Gpus

_RETRIES = 20  # of a task whose node or process Ray lost; a method that ends its own process is not tried again
_IN_FLIGHT = 1000
_STARTS = 5  # Ray gives its own processes thirty seconds, which is little on a busy machine
_ASK_SECONDS = 60  # that a node whose GPUs others hold may take to say how large they are
_staff: dict[tuple[Any, ...], Staff] = {}  # of one of Ray's processes: its worker, kept for its next task


@dataclass(frozen=True)
class _Order:
    """What a task is told: its jobs, where results go, and what is there of them already.

    Args:
        mark: a file in the store's folder that tells whether a node sees this very folder.
        known: key -> (record as JSON, tensors as safetensors) of cells that only lack their evaluation.
    """

    family: SeedFamily
    store: str
    mark: str
    device: str
    timeout_seconds: float | None
    known: Mapping[str, tuple[str, bytes]]


def execute(
    families: Sequence[SeedFamily],
    *,
    store: Store,
    devices: Sequence[str],
    timeout_seconds: float | None,
    address: str | None = None,
) -> Generator[Started | Finished, None, None]:
    """Measures families on a Ray cluster; closing the iterator cancels what runs.

    Args:
        devices: one entry for each family that runs at a time, ``cpu`` or ``cuda``.
        address: of a cluster (``auto``, ``HOST:PORT``); ``None`` for RAY_ADDRESS, or a cluster started here.

    Raises:
        SpecError: Ray is not installed, or no cluster is at the address.
        StoreError: the store cannot be written to.
    """
    from .ray_resources import resources

    if not families:
        return
    ray = _connect(address, len(devices))
    mark = store.path / "writing" / f".ray-{uuid4().hex}"
    mark.parent.mkdir(exist_ok=True)
    mark.touch()
    task = ray.remote(_measure)
    gpus = _gpus_of(ray) if devices[0] != "cpu" else None
    pending, running = deque(families), {}
    try:
        while pending or running:
            largest = _largest_memory(ray) if pending else 0
            while pending and len(running) < _IN_FLIGHT:
                family = pending.popleft()
                known = _known(family, store)
                order = _Order(family, str(store.path), str(mark), devices[0], timeout_seconds, known)
                asked = resources(family, largest, gpus)
                options = {"num_cpus": 1, "max_retries": _RETRIES, "retry_exceptions": False, **asked}
                running[task.options(**options).remote(order)] = family
            ready, _ = ray.wait(list(running), num_returns=1)
            for reference in ready:
                yield from _finished(ray, reference, running.pop(reference), store)
    finally:
        for reference in running:
            with suppress(Exception):
                ray.cancel(reference, force=True)
        mark.unlink(missing_ok=True)
        ray.shutdown()


def _connect(address: str | None, workers: int) -> Any:
    """Ray, connected."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DASHBOARD_STARTUP_TIMEOUT_S", "600")  # which Ray starts, unasked for; it may be slow
    try:
        import ray
    except ImportError as error:
        raise SpecError(f"--executor ray needs Ray: {install_extra('ray')}.") from error
    if ray.is_initialized():  # by whoever calls this as a library; it is theirs
        return ray
    given = address or os.environ.get("RAY_ADDRESS")
    where: dict[str, Any] = {"address": given}
    if not given:  # "local": another cluster that happens to run on this machine is not ours
        where = {"address": "local", "num_cpus": workers, "include_dashboard": False}
    for left in reversed(range(_STARTS)):
        try:
            ray.init(**where, log_to_driver=False, logging_level="ERROR")
            break
        except Exception as error:  # Ray raises a bare Exception when its own processes take too long to start
            ray.shutdown()
            if given:
                raise SpecError(
                    f"no Ray cluster at {given} ({one_line(error, 150)}): start one with `ray start --head`, or leave "
                    f"--address and RAY_ADDRESS out to have one started here."
                ) from error
            if not left:
                raise SpecError(f"Ray cannot be started here, tried {_STARTS} times: {one_line(error, 200)}") from error
    return ray


def _largest_memory(ray: Any) -> int:
    return int(max((node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"]), default=0))


def _gpus_of(ray: Any) -> Gpus:
    """The cluster's GPUs: each node that has some is asked about one of them."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from .ray_resources import Gpus

    # Ray shows no GPU to a task that asks for none. The process ends with its one call, and lets its GPU go.
    ask, asked, most = ray.remote(num_cpus=0, num_gpus=0.01, max_calls=1)(_gpu_bytes), [], 0
    for node in ray.nodes():
        if node["Alive"] and (here := int(node["Resources"].get("GPU", 0))):
            most = max(most, here)
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked.append(ask.options(scheduling_strategy=there).remote())
    told = []
    answered, busy = ray.wait(asked, num_returns=len(asked), timeout=_ASK_SECONDS) if asked else ([], [])
    for reference in busy:
        ray.cancel(reference, force=True)
    for reference in answered:
        with suppress(ray.exceptions.RayError):  # a node was lost while it was asked
            told.append(ray.get(reference))
    return Gpus(min(filter(None, told), default=0), most)  # 0: a node whose torch sees no GPU


def _gpu_bytes() -> int:
    """On a node: memory of the GPU that this task has; 0 where torch sees none."""
    import torch

    return memory_of_device(torch.device("cuda", 0)) or 0 if torch.cuda.is_available() else 0


def _known(family: SeedFamily, store: Store) -> dict[str, tuple[str, bytes]]:
    """The jobs of a family that are searched already."""
    from safetensors.numpy import save

    found = {}
    for job in family:
        if job.key in store and (record := store.record(job.key)).done:
            found[job.key] = (_written(record), save(store.tensors(job.key)))
    return found


def _measure(order: _Order) -> list[dict[str, Any]]:
    """In one of Ray's processes: the family, and of each job its outcome and, without a shared folder, its result."""
    if Path(order.mark).exists():
        return [{"outcome": asdict(outcome)} for outcome in _with_worker(order, Path(order.store))]
    with tempfile.TemporaryDirectory(prefix="circuitmeter-ray-") as folder:
        own = Store(folder, create=True)
        _put(own, order.known)
        outcomes = _with_worker(order, own.path)
        _release(order, own.path)  # it writes to a folder that is about to go
        return [
            {
                "outcome": asdict(outcome),
                "result": _result(own, job),
            }
            for job, outcome in zip(order.family, outcomes, strict=True)
        ]


def _with_worker(order: _Order, store: Path) -> list[Outcome]:
    place = _place(order, store)
    staff = _staff.setdefault(place, Staff(store, [order.device], order.timeout_seconds))
    keep = False
    try:
        outcomes = [event.outcome for event in staff.measure([order.family]) if isinstance(event, Finished)]
        keep = order.device == "cpu"  # the next task of this process may have another GPU, and others this one's memory
    finally:
        if not keep:
            _release(order, store)
    return outcomes


def _release(order: _Order, store: Path) -> None:
    """Ends the worker of this process, if it is still there."""
    if staff := _staff.pop(_place(order, store), None):
        staff.close()


def _place(order: _Order, store: Path) -> tuple[Any, ...]:
    return str(store), order.device, order.timeout_seconds


def _result(store: Store, job: Job) -> dict[str, Any]:
    """What a node sends back of a job: JSON and safetensors."""
    from safetensors.numpy import save

    found: dict[str, Any] = {
        "cell": (_written(store.record(job.key)), save(store.tensors(job.key))),
        "environments": [store.environment(name).as_json() for name in store.environment_keys()],
    }
    if job.evaluation_key is not None and store.has_evaluation(job.evaluation_key):
        found["evaluation"] = _written(store.evaluation(job.evaluation_key))
    return found


def _written(record: File) -> str:
    return json.dumps(record.as_json())


def _put(store: Store, cells: Mapping[str, tuple[str, bytes]]) -> None:
    from safetensors.numpy import load

    for record, tensors in cells.values():
        store.write(Record(**json.loads(record)), load(tensors))


def _finished(ray: Any, reference: Any, family: SeedFamily, store: Store) -> Generator[Finished, None, None]:
    """What a task came to, with everything of it in the store."""
    try:
        answers = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, StoreError):
            raise StoreError(str(error.cause)) from None
        raise error.cause from None
    except ray.exceptions.RayError as error:  # its node or its process was lost, again and again
        kind = "memory" if isinstance(error, ray.exceptions.OutOfMemoryError) else "killed"
        reason = f"Ray lost it {_RETRIES + 1} times or had no memory for it: {one_line(str(error), 200)}"
        answers = [{"outcome": asdict(write_end(job, store, kind, reason, device="cpu"))} for job in family]
    by_key = {answer["outcome"]["key"]: answer for answer in answers}
    for job in family:
        answer = by_key[job.key]
        if result := answer.get("result"):
            for environment in result["environments"]:
                store.write_environment(Environment(**environment))
            _put(store, {job.key: result["cell"]})
            if "evaluation" in result:
                store.write_evaluation(EvaluationRecord(**json.loads(result["evaluation"])))
        yield Finished(job, Outcome(**answer["outcome"]))
