"""Which cells a benchmark's gates keep from running: those on tasks that their model does worse than the gate asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .expand import NotRun

if TYPE_CHECKING:
    from ..store.reading import StoreReader
    from .job import Job


def behind_gates(jobs: Sequence[Job], store: StoreReader | None) -> tuple[tuple[Job, ...], tuple[NotRun, ...]]:
    """The jobs that may run, and the others by task and model, with the gate that their model fails.

    Jobs of which the store does not know yet what their model does are among the first.
    """
    if store is None:
        return tuple(jobs), ()
    why: dict[tuple[object, ...], str | None] = {}
    kept, counts = [], {}
    for job in jobs:
        name = f"{job.cell.model} ({job.cell.task})"
        # One model has several behaviours on a task where grids differ in prompts, data or split.
        asked = (job.behaviour and job.behaviour.key, job.gates)
        if asked not in why:
            why[asked] = _below(job, store)
        if (reason := why[asked]) is None:
            kept.append(job)
        else:
            counts[name, reason] = counts.get((name, reason), 0) + 1
    return tuple(kept), tuple(NotRun(name, n, reason) for (name, reason), n in counts.items())


def _below(job: Job, store: StoreReader) -> str | None:
    """Which gate the model of a job is below, or ``None``."""
    if not job.gates or job.behaviour is None or not store.has_behaviour(job.behaviour.key):
        return None
    found = store.behaviour(job.behaviour.key).behaviour
    return next((reason for gate in job.gates if (reason := gate.missed_by(found))), None)
