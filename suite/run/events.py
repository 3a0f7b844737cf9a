"""What happens while a benchmark runs, as values that progress displays and tests listen to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..plan.job import Job

if TYPE_CHECKING:
    from ..plan.plan import Plan
    from ..scoring.behaviour import Behaviour
    from ..store.record import EvaluationRecord, Record


@dataclass(frozen=True)
class Outcome:
    """How one cell ended: what of its record is shown at once.

    Args:
        key: the cell's.
        status, kind, reason: as in the record.
        seconds: from loading to scoring; ``None`` when the worker did not live to say.
        peak_memory_bytes: while the method searched, where it was measured.
    """

    key: str
    status: str
    kind: str | None
    reason: str | None
    seconds: float | None
    peak_memory_bytes: int | None

    @classmethod
    def of(cls, record: Record, evaluation: EvaluationRecord | None = None) -> Outcome:
        """How a cell ended: by its record, or by the evaluation of its circuits, with the seconds of both."""
        seconds, last = record.cost.total_seconds, evaluation or record
        if evaluation is not None:
            seconds = (seconds or 0.0) + (evaluation.cost.total_seconds or 0.0)
        return cls(record.key, last.status, last.kind, last.reason, seconds, record.cost.peak_memory_bytes)


@dataclass(frozen=True)
class Planned:
    """What was found in the store, and what will run on how many workers."""

    plan: Plan
    to_run: tuple[Job, ...]
    workers: int


@dataclass(frozen=True)
class SetAside:
    """A stored cell that is not what was written; it was moved to ``damaged/`` and will run again."""

    key: str
    reason: str


@dataclass(frozen=True)
class Taken:
    """``n`` results were copied from other stores; ``damaged`` has what is wrong with those that were not, by path."""

    n: int
    damaged: Mapping[str, str]


@dataclass(frozen=True)
class Measured:
    """It was measured what a model does on the prompts of a task; ``failed`` is why that went wrong, or ``None``."""

    task: str
    model: str
    behaviour: Behaviour | None
    failed: str | None = None


@dataclass(frozen=True)
class Started:
    """A worker has the job. ``process`` is its id."""

    job: Job
    process: int


@dataclass(frozen=True)
class Finished:
    """The job's cell is in the store."""

    job: Job
    outcome: Outcome


Event = Measured | Planned | SetAside | Taken | Started | Finished
