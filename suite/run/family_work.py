"""What a worker does with a family: the search, unless the store has it, and then the evaluation of its circuits."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import StoreError
from ..plan.cell import Cell
from ..plan.family import Family
from ..store.record import EvaluationRecord, Record
from ..store.store import Store
from .discovery import diagnosis
from .environment import keep_environment
from .events import Outcome
from .search import run_family


def complete(family: Family, store: Store, device: str, seconds: float | None = None) -> Iterator[Outcome]:
    """Brings a family's cells into the store, each with its evaluation where it is to have one: how each ended.

    Args:
        family: what is missing, in part or in whole, or is to be tried again.
        device: as torch names it.
        seconds: how long one cell may take, of a method that has a process of its own; the executor ends others.

    Raises:
        StoreError: the store cannot be written to.
    """
    keep_environment(store)
    missing = tuple(cell for cell in family if _finished(cell, store) is None)
    for record, tensors in run_family(missing, device, seconds) if missing else ():
        store.write(record, tensors)
    yield from (_with_evaluation(cell, store, device) for cell in family)


def _with_evaluation(cell: Cell, store: Store, device: str) -> Outcome:
    record = store.record(cell.key)
    if not record.done or cell.evaluation is None:
        return Outcome.of(record)
    evaluation = _evaluated(cell, store, record, device)
    store.write_evaluation(evaluation)
    seconds = (record.cost.total_seconds or 0.0) + (evaluation.cost.total_seconds or 0.0)
    return Outcome.of(evaluation, cell.key, record.cost.model_copy(update={"total_seconds": seconds}))


def _finished(cell: Cell, store: Store) -> Record | None:
    record = store.record(cell.key) if cell.key in store else None
    return record if record is not None and record.done else None


def _evaluated(cell: Cell, store: Store, record: Record, device: str) -> EvaluationRecord:
    """The evaluation's record; when it goes wrong, the one that says why."""
    from ..plan.subject import subject_of
    from .evaluation import evaluate, failure

    try:
        on = subject_of(cell, device)
        labels = [circuit.label for circuit in record.circuits]
        return evaluate(cell, on, store.tensors(cell.key), labels, device)
    except StoreError:
        raise
    except Exception as error:  # whatever it is, the other cells are run all the same
        return failure(cell, *diagnosis(error))
