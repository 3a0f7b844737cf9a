"""A cell: one measurement, and the identity by which its result is found again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..json_model import plain
from ..store.keys import KEY_VERSION, key_of
from ..store.record import CellIdentity

if TYPE_CHECKING:
    from .evaluation import Evaluation


@dataclass(frozen=True)
class Sources:
    """What a worker loads a cell's parts by: registered names, or paths to a user's files; ``prompts``: the first how
    many of the task's, ``None`` for all."""

    task: str
    model: str
    method: str
    prompts: int | None = None


@dataclass(frozen=True)
class Cell:
    """One (task, model, method and its parameters, ablation, objective, seed).

    Args:
        task, data: the task's name, and 16 hex digits of its content.
        model, weights, graph: the model's name, and the hashes of its weights and of its graph.
        truth: hash of the certificate that recovery is scored against, or ``None`` where no truth is known.
        method, version, parameters: the method's name, the hash of its source, and every parameter that changes a
            number, defaults too.
        ablation: what cut edges carry while the method searches.
        objective: what the method optimises; ``None`` for a method that looks at none.
        seed: ``None`` unless chance is involved: a stochastic method, or the ``resample`` ablation.
        sources: how a worker loads the parts. Not in the identity: a file may move without changing a number.
        cost_only: the method's other parameters, such as its batch size: recorded, and not in the identity.
        undefined: why this combination has no meaning, or ``None``. Not in the identity either.
        evaluation: what is measured of the circuits found, or ``None``. A result of its own, with a key of its own.

    Two cells are the same measurement exactly when their keys are equal.
    """

    task: str
    data: str
    model: str
    weights: str
    graph: str
    truth: str | None
    method: str
    version: str
    parameters: Mapping[str, Any]
    ablation: str
    objective: str | None
    seed: int | None
    sources: Sources = field(compare=False)
    cost_only: Mapping[str, Any] = field(default_factory=dict, compare=False)
    undefined: str | None = field(default=None, compare=False)
    evaluation: Evaluation | None = field(default=None, compare=False)

    def identity(self) -> CellIdentity:
        """Everything that changes a number, and nothing else; readable, and stored with the result."""
        return CellIdentity(
            key_version=KEY_VERSION,
            task=self.task,
            data=self.data,
            model=self.model,
            weights=self.weights,
            graph=self.graph,
            truth=self.truth,
            method=self.method,
            version=self.version,
            parameters=plain(self.parameters),
            ablation=self.ablation,
            objective=self.objective,
            seed=self.seed,
        )

    @cached_property
    def key(self) -> str:
        return self.identity().key

    def __hash__(self) -> int:
        return int(self.key, 16)

    def without_seed(self) -> str:
        """The key of what the cell would be without its seed: equal for the seeds of one family."""
        return key_of(self.identity().as_json() | {"seed": None, "cost_only": dict(self.cost_only)})

    def __str__(self) -> str:
        parts = [self.method, self.task, self.ablation, self.objective]
        seed = [] if self.seed is None else [f"seed {self.seed}"]
        return " · ".join([part for part in parts if part] + seed)
