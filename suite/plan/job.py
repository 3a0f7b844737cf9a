"""A job: a cell, what is measured of its circuits, and what a worker needs to do both."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..store.record import BehaviourIdentity, Cell
    from .evaluation import Evaluation
    from .gate import TaskGate


@dataclass(frozen=True)
class Sources:
    """What a worker loads a cell's parts by: registered names, or paths to a user's files; ``prompts``: the first how
    many of the task's, ``None`` for all."""

    task: str
    model: str
    method: str
    prompts: int | None = None


@dataclass(frozen=True)
class Job:
    """A cell that is to be measured. Only ``cell`` and ``evaluation`` decide what numbers come out.

    Args:
        cell: the identity, by which the result is found again.
        sources: how a worker loads the parts; a file may move without changing a number.
        parameters: every parameter of the method, as it takes them; those that are not in the cell change its cost
            alone.
        undefined: why this combination has no meaning, or ``None``.
        evaluation: what is measured of the circuits found, or ``None``. A result of its own, with a key of its own.
        behaviour: what is measured of the model before the search, or ``None`` where the task has no right and wrong
            answers. A result of its own, shared by all cells on the same prompts and weights.
        gates: what the benchmark asks of that; a job whose model is below is not run.
    """

    cell: Cell
    sources: Sources
    parameters: Mapping[str, Any] = field(default_factory=dict)
    undefined: str | None = None
    evaluation: Evaluation | None = None
    behaviour: BehaviourIdentity | None = None
    gates: tuple[TaskGate, ...] = ()

    @cached_property
    def key(self) -> str:
        """The cell's key."""
        return self.cell.key

    @property
    def cost_only(self) -> dict[str, Any]:
        """The parameters that change what the search costs and no number, such as its batch size."""
        return {name: value for name, value in self.parameters.items() if name not in self.cell.parameters}

    @cached_property
    def evaluation_key(self) -> str | None:
        """The evaluation's key, or ``None`` where nothing is measured of the circuits."""
        return None if self.evaluation is None else self.evaluation.identity(self.key).key

    def __hash__(self) -> int:
        return int(self.key, 16)

    def __str__(self) -> str:
        return str(self.cell)


_LONGEST = 40
"""Letters of a value in a label; more of it are left out."""


def labels(jobs: Iterable[Job]) -> dict[str, str]:
    """What each job is called in progress and reasons, by key: its cell, and what tells it from others called alike.

    That is the model, the number of prompts, the parameters that differ among them, such as ``steps=5``, or the
    version of the method; where none of these does, or not in what a label has room for, the first digits of the key.
    """
    alike: dict[str, dict[str, Job]] = defaultdict(dict)
    for job in jobs:
        alike[str(job)][job.key] = job
    found: dict[str, str] = {}
    for name, same in alike.items():
        facts = {key: _facts(job) for key, job in same.items()}
        every = dict.fromkeys(fact for one in facts.values() for fact in one)
        differ = [fact for fact in every if len({one.get(fact) for one in facts.values()}) > 1]
        told = {key: [f"{fact}={one[fact]}" for fact in differ if fact in one] for key, one in facts.items()}
        texts = {key: " · ".join((name, *parts)) for key, parts in told.items()}
        times = Counter(texts.values())
        found |= {key: text if times[text] == 1 else f"{text} · cell {key[:4]}" for key, text in texts.items()}
    return found


def _facts(job: Job) -> dict[str, str]:
    cell = job.cell
    facts = {"model": cell.model, **{str(name): value for name, value in cell.parameters.items()}}
    facts |= {"prompts": job.sources.prompts or "all", "version": cell.version[:4]}
    return {
        name: text if len(text := str(value)) <= _LONGEST else f"{text[:_LONGEST]}…" for name, value in facts.items()
    }
