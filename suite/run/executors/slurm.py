"""Families as Slurm jobs, through submitit; on this machine, as processes, where there is no Slurm.

Each job has a fixed share of the families and runs it as ``local`` does, into the store, whose folder every node must
see. What the driver knows it reads from the store: no result of a job is unpickled. Slurm's own settings are given as
Slurm has them: SBATCH_PARTITION, SBATCH_ACCOUNT, SBATCH_QOS.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import SpecError, StoreError, install_extra
from ...plan.family import SeedFamily
from ...plan.job import Job
from ...store.store import Store
from ..ended import is_evaluated, stored_outcome, write_end
from ..events import Finished, Outcome, Started
from . import local

_POLL_SECONDS = (0.2, 10.0)  # at first, and at most
_SLACK_MINUTES = 10  # for a job to start and to write what it has


def execute(
    families: Sequence[SeedFamily],
    *,
    store: Store,
    devices: Sequence[str],
    timeout_seconds: float | None,
    address: str | None = None,
) -> Generator[Started | Finished, None, None]:
    """Measures families in jobs; closing the iterator cancels them.

    Args:
        devices: one entry per job, ``cpu`` or ``cuda``.

    Raises:
        SpecError: submitit is not installed.
    """
    if not families:
        return
    shares = [families[start :: len(devices)] for start in range(min(len(devices), len(families)))]
    before = {job: _stamp(store, job) for family in families for job in family}
    executor = _executor(Path(f"{store.path}.slurm"), devices[0], timeout_seconds, max(map(_cells, shares)))
    with executor.batch():
        submitted = [
            executor.submit(_run_share, share, str(store.path), devices[0], timeout_seconds) for share in shares
        ]
    waiting = {job: its for its, share in zip(submitted, shares, strict=True) for family in share for job in family}
    pause = _POLL_SECONDS[0]
    try:
        while waiting:
            over = {each.job_id for each in submitted if each.done()}  # asked before the store: what it wrote is seen
            there = [job for job in waiting if _is_finished(job, store, before[job])]
            lost = [job for job, its in waiting.items() if its.job_id in over and job not in there]
            for job in there:
                del waiting[job]
                yield Finished(job, stored_outcome(job, store))
            for job in lost:
                yield Finished(job, _obituary(job, waiting.pop(job), store))
            pause = _POLL_SECONDS[0] if there else min(2 * pause, _POLL_SECONDS[1])
            if waiting:
                time.sleep(pause)
    finally:
        for each in submitted:
            if not each.done():
                with suppress(Exception):
                    each.cancel()


def _executor(folder: Path, device: str, timeout_seconds: float | None, cells: int) -> Any:
    try:
        import submitit
    except ImportError as error:
        raise SpecError(f"--executor slurm needs submitit: {install_extra('slurm')}.") from error
    executor = submitit.AutoExecutor(folder=folder)
    minutes = _SLACK_MINUTES + (60 * 24 * 7 if timeout_seconds is None else int(timeout_seconds * cells / 60))
    executor.update_parameters(
        name="circuitmeter", timeout_min=minutes, cpus_per_task=1, gpus_per_node=int(device != "cpu")
    )
    return executor


def _cells(share: Sequence[SeedFamily]) -> int:
    return sum(len(family) for family in share)


def _run_share(families: Sequence[SeedFamily], store: str, device: str, timeout_seconds: float | None) -> int:
    """In a job: its families, one after another, on one worker process."""
    events = local.execute(families, store=Store(store), devices=[device], timeout_seconds=timeout_seconds)
    return sum(isinstance(event, Finished) for event in events)


@dataclass(frozen=True)
class _Stamp:
    """Which files a job's cell and its evaluation are in, as numbers that change when they are written anew; ``None``
    where there is none, as for a moment while a failed cell is replaced."""

    record: int | None
    evaluation: int | None


def _stamp(store: Store, job: Job) -> _Stamp:
    found: list[int | None] = []
    for path in (f"cells/{job.key}/record.json", f"evaluations/{job.evaluation_key}.json"):
        try:
            found.append((store.path / path).stat().st_ino)
        except OSError:
            found.append(None)
    return _Stamp(*found)


def _is_finished(job: Job, store: Store, before: _Stamp) -> bool:
    """Whether a Slurm job has written all that a job is to have: its cell, and its evaluation unless the search failed.

    Args:
        before: what was there before the Slurm jobs began, such as an earlier failure.
    """
    now = _stamp(store, job)
    if now == before or now.record is None:
        return False
    if job.evaluation_key is None or now.evaluation not in (None, before.evaluation):
        return True
    try:
        searched = store.record(job.key).done
    except StoreError:  # its files are moved just now
        return False
    return not searched or is_evaluated(job, store)  # an evaluation that was done is not written again


def _obituary(job: Job, submitted: Any, store: Store) -> Outcome:
    """Writes that a Slurm job ended without all of this job's results: how the job ended."""
    log = Path(submitted.paths.stderr).name
    reason = f"its job {submitted.job_id} ended ({submitted.state}) without a result; its log is {log}"
    return write_end(job, store, "killed", reason, device="cpu")
