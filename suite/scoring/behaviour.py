"""Whether a model does a task at all. A circuit of a behaviour that the model does not have explains nothing.

Torch is imported where a model is run, so that stores and reports can be read without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..json_model import Kept, Number

if TYPE_CHECKING:
    from ..data import Data
    from ..intervention.objective import Objective
    from ..model.transformer import Config, Transformer

DOES = 0.75  # accuracy from which a model is said to do a task; a guess between two answers is right half the time
PROMPTS = 16
_NAMED = 12
"""Pairs of task and model that one warning names; more are counted."""


class Behaviour(Kept):
    """The answers of the whole model.

    accuracy: share of prompts on which the best right answer beats the best wrong one. logit_difference: mean logit of
    the right answers minus that of the wrong ones; log-probabilities where answers have several tokens; None where an
    output is not finite. prompts: how many were asked.
    """

    accuracy: float
    logit_difference: Number
    prompts: int

    @property
    def does_it(self) -> bool:
        """Whether the accuracy reaches ``DOES`` and all outputs are numbers."""
        return self.accuracy >= DOES and self.logit_difference is not None

    def __str__(self) -> str:
        difference = "no number" if self.logit_difference is None else f"{self.logit_difference:.2f}"
        return f"accuracy {self.accuracy:.2f}, logit difference {difference} on {self.prompts} prompts"

    def warning(self, task: str, model: str) -> str | None:
        """A warning when the model does not do the task, so that a circuit explains nothing; else ``None``."""
        if self.does_it:
            return None
        return f"{model} hardly does {task} ({self}; a task counts as done from {DOES:.2f}): its circuit says little."


def warning_of_all(found: Sequence[tuple[str, str, Behaviour]]) -> str | None:
    """One warning for all (task, model, behaviour) of which the model does not do the task; ``None`` without such."""
    warned = [(task, model, behaviour) for task, model, behaviour in found if not behaviour.does_it]
    if len(warned) < 2:
        return next((behaviour.warning(task, model) for task, model, behaviour in warned), None)
    named = [f"{model} {task} (accuracy {behaviour.accuracy:.2f})" for task, model, behaviour in warned[:_NAMED]]
    more = [f"{len(warned) - _NAMED} more"] if len(warned) > _NAMED else []
    return (
        f"The model hardly does the task in {len(warned)} of {len(found)} cases (a task counts as done from "
        f"{DOES:.2f}): {', '.join([*named, *more])}. Their circuits say little."
    )


def why_no_behaviour(data: Data, config: Config) -> str | None:
    """Why accuracy or logit difference has no meaning for prompts, such as without wrong answers; else ``None``."""
    return next((reason for each in _objectives(data) if (reason := each.undefined(data, config))), None)


def behaviour(model: Transformer, data: Data, prompts: int = PROMPTS) -> Behaviour | None:
    """Accuracy and logit difference of the plain model on the first prompts; ``None`` when the task has no answers."""
    import torch

    from ..intervention.evaluator import default_batch_size
    from ..intervention.plain_runs import Runs

    if why_no_behaviour(data, model.config):
        return None
    data = data.select(torch.arange(min(prompts, data.n)))
    values = torch.empty(2, data.n, dtype=torch.float64)
    with torch.no_grad():
        for batch in data.batches(default_batch_size(model, data.clean.shape[1])):
            runs = Runs(model, batch)
            for row, objective in enumerate(_objectives(data)):
                loss = objective.loss(runs.clean[0], objective.targets(runs))
                values[row, batch.rows] = objective.value(loss.double().cpu())
    accuracy, difference = values.mean(1).tolist()
    return Behaviour(accuracy=accuracy, logit_difference=difference, prompts=data.n)


def _objectives(data: Data) -> list[Objective]:
    from ..intervention.objective import OBJECTIVES

    difference = "log-probability-difference" if data.several_tokens else "logit-difference"
    return [OBJECTIVES.get(name) for name in ("accuracy", difference)]
