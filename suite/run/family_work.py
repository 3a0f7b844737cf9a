"""What a worker does with a family: the search, unless the store has it, and then the evaluation of its circuits."""

from __future__ import annotations

import gc
from collections.abc import Iterator

from ..errors import StoreError
from ..plan.family import SeedFamily
from ..plan.job import Job
from ..store.record import EvaluationRecord, Record
from ..store.store import Store
from .discovery import diagnosis
from .environment import keep_environment
from .events import Outcome
from .search import run_family


def complete(family: SeedFamily, store: Store, device: str, seconds: float | None = None) -> Iterator[Outcome]:
    """Brings a family's cells into the store, each with its evaluation where it is to have one: how each ended.

    Args:
        family: what is missing, in part or in whole, or is to be tried again.
        device: as torch names it.
        seconds: how long one cell may take, of a method that has a process of its own; the executor ends others.

    Raises:
        StoreError: the store cannot be written to.
    """
    keep_environment(store)
    missing = tuple(job for job in family if _finished(job, store) is None)
    for record, tensors in run_family(missing, device, seconds) if missing else ():
        store.write(record, tensors)
    yield from (_with_evaluation(job, store, device) for job in family)


def let_go(device: str) -> None:
    """Frees what this process keeps on a device for the next cells: models, prompts, runs, and torch's unused memory.

    Args:
        device: as torch names it.
    """
    import torch

    from ..model.device import free_unused
    from ..plan.subject import forget_subjects
    from .search import forget_runs

    forget_runs()
    forget_subjects()
    gc.collect()
    free_unused(torch.device(device))


def _with_evaluation(job: Job, store: Store, device: str) -> Outcome:
    record = store.record(job.key)
    if not record.done or job.evaluation is None:
        return Outcome.of(record)
    evaluation = _evaluated(job, store, record, device)
    store.write_evaluation(evaluation)
    return Outcome.of(record, evaluation)


def _finished(job: Job, store: Store) -> Record | None:
    record = store.record(job.key) if job.key in store else None
    return record if record is not None and record.done else None


def _evaluated(job: Job, store: Store, record: Record, device: str) -> EvaluationRecord:
    """The evaluation's record; when it goes wrong, the one that says why."""
    from ..plan.subject import subject_of
    from .evaluation import evaluate, failed_evaluation

    try:
        on = subject_of(job, device)
        labels = [circuit.label for circuit in record.circuits]
        return evaluate(job, on, store.tensors(job.key), labels, device)
    except StoreError:
        raise
    except Exception as error:  # whatever it is, the other cells are run all the same
        return failed_evaluation(job, *diagnosis(error))
