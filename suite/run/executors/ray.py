"""Families as Ray tasks: on a cluster that is there, or on one that is started here for the run.

Ray decides where and when, keeps to the resources (a core, and a GPU where the device is one), starts a task again when
its node is lost, and uses nodes that join. A task has a worker process (worker.py), which keeps time limits and tells
causes of death as on one machine. Where the store's folder is not there on a node, results come back to this process.
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
from typing import Any
from uuid import uuid4

from ...errors import SpecError, StoreError, one_line
from ...json_model import File
from ...plan.family import SeedFamily
from ...plan.job import Job
from ...store.record import Environment, EvaluationRecord, Record, failure
from ...store.store import Store
from ..environment import keep_environment, provenance
from ..events import Finished, Outcome, Started
from .worker import Worker, wait_for_news

_RETRIES = 20  # of a task whose node or process Ray lost; a method that ends its own process is not tried again
_IN_FLIGHT = 1000
_staff: dict[tuple[Any, ...], Worker] = {}  # of one of Ray's processes: its worker, kept for its next task


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
    if not families:
        return
    ray = _connect(address, len(devices))
    mark = store.path / "writing" / f".ray-{uuid4().hex}"
    mark.parent.mkdir(exist_ok=True)
    mark.touch()
    task = ray.remote(_measure).options(
        num_cpus=1, num_gpus=float(devices[0] != "cpu"), max_retries=_RETRIES, retry_exceptions=False
    )
    pending, running = deque(families), {}
    try:
        while pending or running:
            while pending and len(running) < _IN_FLIGHT:
                family = pending.popleft()
                known = _known(family, store)
                order = _Order(family, str(store.path), str(mark), devices[0], timeout_seconds, known)
                running[task.remote(order)] = family
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
    try:
        import ray
    except ImportError as error:
        raise SpecError("--executor ray needs Ray: pip install 'circuitmeter[ray]'.") from error
    if ray.is_initialized():  # by whoever calls this as a library; it is theirs
        return ray
    where: dict[str, Any] = {"address": address} if address else {}
    if not address and not os.environ.get("RAY_ADDRESS"):
        where = {"num_cpus": workers, "include_dashboard": False}
    given = address or os.environ.get("RAY_ADDRESS")
    for last in (False, True):
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
            if last:
                raise SpecError(f"Ray cannot be started here, tried twice: {one_line(error, 200)}") from error
    return ray


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
        for worker in _staff.values():  # it writes to a folder that is about to go
            worker.close()
        _staff.clear()
        return [
            {
                "outcome": asdict(outcome),
                "result": _result(own, job),
            }
            for job, outcome in zip(order.family, outcomes, strict=True)
        ]


def _with_worker(order: _Order, store: Path) -> list[Outcome]:
    place = (str(store), order.device, order.timeout_seconds)
    worker = _staff.pop(place, None)
    if worker is None or not worker.process.is_alive():
        worker = Worker(store, order.device, order.timeout_seconds)
    while not worker.is_free:
        wait_for_news([worker])
        worker.news()
    worker.give(order.family)
    finished: list[Finished] = []
    while not finished:
        wait_for_news([worker])
        finished = worker.news()
    if not worker.is_gone:
        _staff[place] = worker
    return [event.outcome for event in finished]


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
        reason = f"Ray lost it {_RETRIES + 1} times: {one_line(str(error), 200)}"
        keep_environment(store)
        for job in family:
            store.write(failure(job.cell, "killed", reason, provenance=provenance("cpu")), {})
        answers = [{"outcome": asdict(Outcome.of(store.record(job.key)))} for job in family]
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
