"""A job: a cell, what is measured of its circuits, and what a worker needs to do both."""

from __future__ import annotations

from collections.abc import Mapping
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
