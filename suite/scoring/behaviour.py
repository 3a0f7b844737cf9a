"""Whether a model does a task at all. A circuit of a behaviour that the model does not have explains nothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..data import Data
from ..intervention.evaluator import default_batch_size
from ..intervention.objective import OBJECTIVES
from ..intervention.plain_runs import Runs
from ..model.transformer import Transformer

DOES = 0.75  # accuracy from which a model is said to do a task; a guess between two answers is right half the time
PROMPTS = 16


@dataclass(frozen=True)
class Behaviour:
    """The answers of the whole model.

    Args:
        accuracy: share of prompts on which the best right answer beats the best wrong one.
        logit_difference: mean logit of the right answers minus that of the wrong ones; log-probabilities where answers
            have several tokens.
        prompts: how many were asked.
    """

    accuracy: float
    logit_difference: float
    prompts: int

    @property
    def does_it(self) -> bool:
        """Whether the accuracy reaches ``DOES``."""
        return self.accuracy >= DOES

    def __str__(self) -> str:
        return f"accuracy {self.accuracy:.2f}, logit difference {self.logit_difference:.2f} on {self.prompts} prompts"

    def warning(self, task: str, model: str) -> str | None:
        """A warning when the model does not do the task, so that a circuit explains nothing; else ``None``."""
        if self.does_it:
            return None
        return f"{model} hardly does {task} ({self}; a task counts as done from {DOES:.2f}): its circuit says little."


@torch.no_grad()
def behaviour(model: Transformer, data: Data, prompts: int = PROMPTS) -> Behaviour | None:
    """Accuracy and logit difference of the plain model on the first prompts; ``None`` when the task has no answers."""
    difference = "log-probability-difference" if data.several_tokens else "logit-difference"
    objectives = [OBJECTIVES.get(name) for name in ("accuracy", difference)]
    if any(each.undefined(data, model.config) for each in objectives):
        return None
    data = data.select(torch.arange(min(prompts, data.n)))
    values = torch.empty(2, data.n, dtype=torch.float64)
    for batch in data.batches(default_batch_size(model, data.clean.shape[1])):
        runs = Runs(model, batch)
        for row, objective in enumerate(objectives):
            loss = objective.loss(runs.clean[0], objective.targets(runs))
            values[row, batch.rows] = objective.value(loss.double().cpu())
    return Behaviour(float(values[0].mean()), float(values[1].mean()), data.n)
