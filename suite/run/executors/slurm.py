"""Families as Slurm jobs, through submitit; on this machine, as processes, where there is no Slurm.

Each job has a fixed share of the families and runs it as ``local`` does, into the store, whose folder every node must
see. What the driver knows it reads from the store: no result of a job is unpickled. Slurm's own settings are given as
Slurm has them: SBATCH_PARTITION, SBATCH_ACCOUNT, SBATCH_QOS.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...errors import SpecError
from ...plan.cell import Cell
from ...plan.family import Family
from ...store.record import failure
from ...store.store import Store
from ..environment import keep_environment, provenance
from ..events import Finished, Outcome, Started
from . import local

_POLL_SECONDS = (0.2, 10.0)  # at first, and at most
_SLACK_MINUTES = 10  # for a job to start and to write what it has


def execute(
    families: Sequence[Family],
    *,
    store: Store,
    devices: Sequence[str],
    timeout_seconds: float | None,
    address: str | None = None,
) -> Generator[Started | Finished, None, None]:
    """Measures families in jobs; closing the iterator cancels them.

    Args:
        devices: one entry a job, ``cpu`` or ``cuda``.

    Raises:
        SpecError: submitit is not installed.
    """
    if not families:
        return
    shares = [families[start :: len(devices)] for start in range(min(len(devices), len(families)))]
    before = {cell: _stamp(store, cell) for family in families for cell in family}
    executor = _executor(Path(f"{store.path}.slurm"), devices[0], timeout_seconds, max(map(_cells, shares)))
    with executor.batch():
        jobs = [executor.submit(_run_share, share, str(store.path), devices[0], timeout_seconds) for share in shares]
    waiting = {cell: job for job, share in zip(jobs, shares, strict=True) for family in share for cell in family}
    pause = _POLL_SECONDS[0]
    try:
        while waiting:
            over = {job.job_id for job in jobs if job.done()}  # asked before the store: what it wrote is seen
            there = [cell for cell in waiting if _stamp(store, cell) != before[cell]]
            lost = [cell for cell, job in waiting.items() if job.job_id in over and cell not in there]
            for cell in lost:
                _obituary(cell, waiting[cell], store)
            for cell in (*there, *lost):
                del waiting[cell]
                yield Finished(cell, _outcome(cell, store))
            pause = _POLL_SECONDS[0] if there else min(2 * pause, _POLL_SECONDS[1])
            if waiting:
                time.sleep(pause)
    finally:
        for job in jobs:
            if not job.done():
                with suppress(Exception):
                    job.cancel()


def _executor(folder: Path, device: str, timeout_seconds: float | None, cells: int) -> Any:
    try:
        import submitit
    except ImportError as error:
        raise SpecError("--executor slurm needs submitit: pip install 'circuitmeter[slurm]'.") from error
    executor = submitit.AutoExecutor(folder=folder)
    minutes = _SLACK_MINUTES + (60 * 24 * 7 if timeout_seconds is None else int(timeout_seconds * cells / 60))
    executor.update_parameters(
        name="circuitmeter", timeout_min=minutes, cpus_per_task=1, gpus_per_node=int(device != "cpu")
    )
    return executor


def _cells(share: Sequence[Family]) -> int:
    return sum(len(family) for family in share)


def _run_share(families: Sequence[Family], store: str, device: str, timeout_seconds: float | None) -> int:
    """In a job: its families, one after another, on one worker process."""
    events = local.execute(families, store=Store(store), devices=[device], timeout_seconds=timeout_seconds)
    return sum(isinstance(event, Finished) for event in events)


def _stamp(store: Store, cell: Cell) -> tuple[int, ...]:
    """What changes when a job writes a cell, or its evaluation where it is to have one."""
    record = store.path / "cells" / cell.key / "record.json"
    files = [record]
    if cell.evaluation is not None and record.exists() and store.record(cell.key).done:
        files = [store.path / "evaluations" / f"{cell.evaluation.key(cell.key)}.json"]
    return tuple(file.stat().st_ino for file in files if file.exists())


def _outcome(cell: Cell, store: Store) -> Outcome:
    record = store.record(cell.key)
    if cell.evaluation is None or not record.done:
        return Outcome.of(record)
    return Outcome.of(store.evaluation(cell.evaluation.key(cell.key)), cell.key, record.cost)


def _obituary(cell: Cell, job: Any, store: Store) -> None:
    """Writes that a job ended without this cell."""
    reason = f"its job {job.job_id} ended ({job.state}) without a result; its log is {Path(job.paths.stderr).name}"
    if cell.key not in store or not store.record(cell.key).done:
        keep_environment(store)
        store.write(failure(cell.identity(), "killed", reason, provenance=provenance("cpu")), {})
    elif cell.evaluation is not None:
        from ..evaluation import failure as failed_evaluation

        store.write_evaluation(failed_evaluation(cell, "killed", reason))
