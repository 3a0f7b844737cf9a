"""What a run is scored by. Every sign convention of the project is in this file: a loss is lower when better.

Each objective gives one number an example; examples are summed and then divided by their count, so that neither
batch size nor batch order changes a score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .data import Batch, Data
from .model.transformer import Config
from .registry import Registry
from .runs import Runs


@dataclass
class Targets:
    """What outputs are compared with. clean, counterfactual: [n_read, d_out]; answers, wrong: long [B, A], -1 padded;
    example_of_read: long [n_read]."""

    clean: Tensor | None
    counterfactual: Tensor | None
    answers: Tensor | None
    wrong: Tensor | None
    example_of_read: Tensor
    n_examples: int

    def a_example(self, values: Tensor) -> Tensor:
        """Mean over the read positions of each example: [..., n_read] to [..., B]."""
        total = values.new_zeros(*values.shape[:-1], self.n_examples).index_add(-1, self.example_of_read, values)
        return total / self.example_of_read.bincount(minlength=self.n_examples).to(values.dtype)


@dataclass(frozen=True)
class Objective:
    """One way to score a run.

    Args:
        name: as on the command line.
        description: one line.
        function: (outputs [..., n_read, d_out], targets) to a loss [..., n_read]; lower is better.
        needs: of ``clean``, ``counterfactual`` (runs), ``answers``, and ``distribution`` (more than one output unit).
        divergence: whether it is a distance from the clean run's own outputs, so that its gradient there is zero.
        higher_is_better: whether people quote minus the loss (a logit difference) and not the loss (a divergence).
    """

    name: str
    description: str
    function: Callable[[Tensor, Targets], Tensor]
    needs: frozenset[str] = frozenset()
    divergence: bool = False
    higher_is_better: bool = False

    def loss(self, outputs: Tensor, targets: Targets) -> Tensor:
        """Loss of each example: [..., B] from outputs [..., n_read, d_out]; float32 at least."""
        outputs = outputs if outputs.dtype == torch.float64 else outputs.float()
        return targets.a_example(self.function(outputs, targets))

    def value(self, loss: Tensor | float) -> Tensor | float:
        """The number people quote, from a loss."""
        return -loss if self.higher_is_better else loss

    def targets(self, runs: Runs) -> Targets:
        """What this objective compares the outputs of ``runs``' batch with; runs only what it needs."""
        batch: Batch = runs.batch
        device = runs.model.device
        return Targets(
            runs.clean[0] if "clean" in self.needs else None,
            runs.counterfactual[0] if "counterfactual" in self.needs else None,
            *(None if part is None else part.to(device) for part in (batch.answers, batch.wrong)),
            batch.example_of_read.to(device),
            len(batch.rows),
        )

    def undefined(self, data: Data, config: Config) -> str | None:
        """Why this objective has no meaning for the task or model, or None."""
        if "answers" in self.needs and (data.answers is None or data.wrong is None):
            return f"{self.name} needs right and wrong answer tokens and the task has none"
        if "counterfactual" in self.needs and data.counterfactual is None:
            return f"{self.name} needs counterfactual prompts and the task has none"
        if "distribution" in self.needs and config.d_out < 2:
            return f"{self.name} needs a distribution over outputs and the model's output is one number"
        return None


def answer_difference(outputs: Tensor, targets: Targets) -> Tensor:
    """Minus the projection on (clean output - counterfactual output): linear, so its gradient never vanishes."""
    return -(outputs * (targets.clean - targets.counterfactual)).sum(-1)


def squared_error(outputs: Tensor, targets: Targets) -> Tensor:
    """Mean over output units of the squared error to the clean output (ACDC's L2)."""
    return (outputs - targets.clean).square().mean(-1)


def kl_divergence(outputs: Tensor, targets: Targets) -> Tensor:
    """KL(clean || run), summed over the vocabulary, in nats."""
    clean, run = (F.log_softmax(logits.to(outputs.dtype), -1) for logits in (targets.clean, outputs))
    return (clean.exp() * (clean - run)).sum(-1)


def logit_difference(outputs: Tensor, targets: Targets) -> Tensor:
    """Minus (mean logit of the right answers - mean logit of the wrong ones)."""

    def mean_logit(ids: Tensor) -> Tensor:
        ids = ids[targets.example_of_read]
        present = ids >= 0
        index = ids.clamp_min(0).expand(*outputs.shape[:-1], -1)
        return (outputs.gather(-1, index) * present).sum(-1) / present.sum(-1)

    return mean_logit(targets.wrong) - mean_logit(targets.answers)


OBJECTIVES: Registry[Objective] = Registry("objective")
for _objective in (
    Objective(
        "answer-difference",
        "projection on (clean output - counterfactual output); linear, the default on compiled models",
        answer_difference,
        frozenset({"clean", "counterfactual"}),
        higher_is_better=True,
    ),
    Objective("l2", "squared error to the clean output", squared_error, frozenset({"clean"}), divergence=True),
    Objective("kl", "KL(clean || run) in nats", kl_divergence, frozenset({"clean", "distribution"}), divergence=True),
    Objective(
        "logit-difference",
        "logit of the right answers minus logit of the wrong ones",
        logit_difference,
        frozenset({"answers", "distribution"}),
        higher_is_better=True,
    ),
):
    OBJECTIVES.add(_objective.name, _objective)
