"""How a job ended whose process did not say: one rule for all executors, from what the store has of it."""

from __future__ import annotations

from ..errors import StoreError
from ..plan.job import Job
from ..store.record import failure
from ..store.store import Store
from .environment import keep_environment, provenance
from .events import Outcome


def stored_outcome(job: Job, store: Store) -> Outcome:
    """How a job ended, by its record and its evaluation. Raises StoreError where one of the two is not there."""
    record = store.record(job.key)
    if job.evaluation_key is None or not record.done:
        return Outcome.of(record)
    return Outcome.of(record, store.evaluation(job.evaluation_key))


def write_end(job: Job, store: Store, kind: str, reason: str, *, device: str) -> Outcome:
    """Writes that a job's process ended, in place of what it left undone: the search, or else the evaluation.

    Args:
        kind, reason: of the end, as of a cell's failure.
        device: where the process computed.

    Returns:
        How the job ended, as the store has it now; as done where nothing was left to do.

    Raises:
        StoreError: the store cannot be written to.
    """
    if not is_searched(job, store):
        keep_environment(store)
        store.write(failure(job.cell, kind, reason, provenance=provenance(device)), {})
    elif job.evaluation_key is not None and not is_evaluated(job, store):
        from .evaluation import failed_evaluation  # with torch, without which drivers start sooner

        store.write_evaluation(failed_evaluation(job, kind, reason))
    return stored_outcome(job, store)


def is_searched(job: Job, store: Store) -> bool:
    """Whether the store has the circuits of a job, undamaged."""
    try:
        return store.record(job.key).done
    except StoreError:
        return False


def is_evaluated(job: Job, store: Store) -> bool:
    """Whether the store has what was measured of a job's circuits, undamaged; false for a job without an evaluation."""
    key = job.evaluation_key
    return key is not None and store.has_evaluation(key) and store.evaluation(key).done
