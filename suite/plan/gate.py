"""A gate of a benchmark: what a model must do of a task before its circuits are searched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from . import names
from .spec_values import OneOrMore, that_is

if TYPE_CHECKING:
    from ..scoring.behaviour import Behaviour


class TaskGate(BaseModel):
    """What a model must do of a task before its circuits are searched."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
    task: OneOrMore[Annotated[str, that_is(names.tasks)]]
    """Names or globs of tasks."""
    model: OneOrMore[str] | None = None
    """Names or globs of models; by default all."""
    accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    """The least share of prompts on which the best right answer beats the best wrong one."""
    logit_difference: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """The least mean logit of the right answers minus that of the wrong ones (log-probabilities, where answers have
    several tokens)."""

    @model_validator(mode="after")
    def _asks_something(self) -> TaskGate:
        if self.accuracy is None and self.logit_difference is None:
            raise ValueError("give accuracy, logit_difference or both")
        return self

    def covers(self, task: str, model: str) -> bool:
        """Whether the gate is about a task on a model, as cells name them."""
        of_model = self.model is None or any(names.matches(model, names.label(each)) for each in self.model)
        return of_model and any(names.matches_task(task, pattern) for pattern in self.task)

    def missed_by(self, found: Behaviour) -> str | None:
        """Why a model that behaves like this does not pass, or ``None``."""
        low = self.accuracy is not None and found.accuracy < self.accuracy
        difference = found.logit_difference
        weak = self.logit_difference is not None and (difference is None or difference < self.logit_difference)
        if not (low or weak):
            return None
        asked = {"accuracy": self.accuracy, "logit difference": self.logit_difference}
        stated = " and ".join(f"{name} {least:g}" for name, least in asked.items() if least is not None)
        return f"{found} is below the benchmark's gate, {stated}"
