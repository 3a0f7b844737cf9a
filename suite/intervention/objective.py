"""What a run is scored by. Every sign convention of the project is in this file: a loss is lower when better.

Each objective gives one number per example; examples are summed and then divided by their count, so that neither
batch size nor batch order changes a score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data import Batch, Data
from ..model.device import send
from ..model.transformer import Config
from ..registry import Registry
from .plain_runs import Runs

_Number = TypeVar("_Number", Tensor, float)


class Candidates(NamedTuple):
    """Answers of several tokens, each with the run that is continued by it.

    expected: long [n_read], the token that the output at each read position is to be. run_of_read: long [n_read].
    example: long [S], whose answer each run reads. right: bool [S].
    """

    expected: Tensor
    run_of_read: Tensor
    example: Tensor
    right: Tensor


@dataclass
class Targets:
    """What outputs are compared with. clean, counterfactual: [n_read, d_out]; answers, wrong: long [B, A], -1 padded;
    example_of_read: long [n_read]. Of the first four those are None that the objective does not need. candidates: the
    answers where they have several tokens, which then are not in answers and wrong."""

    clean: Tensor
    counterfactual: Tensor
    answers: Tensor
    wrong: Tensor
    example_of_read: Tensor
    n_examples: int
    candidates: Candidates | None = None

    def a_example(self, values: Tensor) -> Tensor:
        """Mean over the read positions of each example: [..., n_read] to [..., B]."""
        total = values.new_zeros(*values.shape[:-1], self.n_examples).index_add(-1, self.example_of_read, values)
        ones = values.new_ones(len(self.example_of_read))  # bincount would wait for the device
        return total / values.new_zeros(self.n_examples).index_add(0, self.example_of_read, ones)


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
        offset: what people add to minus the loss: 1 where the loss is the share of wrong answers.
        differentiable: whether it has a gradient; a count of right answers does not.
        several: whether it has a meaning for answers of several tokens, where it reads answers.
    """

    name: str
    description: str
    function: Callable[[Tensor, Targets], Tensor]
    needs: frozenset[str] = frozenset()
    divergence: bool = False
    higher_is_better: bool = False
    offset: float = 0.0
    differentiable: bool = True
    several: bool = False

    def loss(self, outputs: Tensor, targets: Targets) -> Tensor:
        """Loss of each example: [..., B] from outputs [..., n_read, d_out]; float32 at least."""
        outputs = outputs if outputs.dtype == torch.float64 else outputs.float()
        return targets.a_example(self.function(outputs, targets))

    def value(self, loss: _Number) -> _Number:
        """The number people quote, from a loss."""
        return self.offset - loss if self.higher_is_better else loss

    def targets(self, runs: Runs) -> Targets:
        """What this objective compares the outputs of ``runs``' batch with; runs only what it needs."""
        batch: Batch = runs.batch
        device = runs.model.device
        candidates = None
        if batch.expected is not None and batch.right is not None:
            parts = (batch.expected[batch.read], batch.run_of_read, batch.example, batch.right)
            candidates = Candidates(*(send(part, device) for part in parts))
        return Targets(
            clean=runs.clean[0] if "clean" in self.needs else None,
            counterfactual=runs.counterfactual[0] if "counterfactual" in self.needs else None,
            answers=None if batch.answers is None or candidates else send(batch.answers, device),
            wrong=None if batch.wrong is None or candidates else send(batch.wrong, device),
            example_of_read=send(batch.example_of_read, device),
            n_examples=len(batch.rows),
            candidates=candidates,
        )

    def undefined(self, data: Data, config: Config) -> str | None:
        """Why this objective has no meaning for the task or model, or None."""
        if "answers" in self.needs and (data.answers is None or data.wrong is None):
            return f"{self.name} needs right and wrong answer tokens, which the task does not have"
        if "right answers" in self.needs and data.answers is None:
            return f"{self.name} needs right answer tokens, which the task does not have"
        if self.needs & {"answers", "right answers"} and data.several_tokens and not self.several:
            instead = "log-probability-difference or accuracy"
            return f"{self.name} reads one token, and answers here have several; use {instead}"
        if "counterfactual" in self.needs and data.counterfactual is None:
            return f"{self.name} needs counterfactual prompts{data.without_pairs}"
        if "distribution" in self.needs and config.d_out < 2:
            return f"{self.name} needs a distribution over outputs and the model's output is one number"
        return None


def answer_difference(outputs: Tensor, targets: Targets) -> Tensor:
    """Minus the projection on (clean output - counterfactual output): linear, so its gradient never vanishes."""
    return -(outputs * (targets.clean - targets.counterfactual)).sum(-1)


def largest_difference(outputs: Tensor, targets: Targets) -> Tensor:
    """The largest difference of any output unit to the clean output: [..., n_read]."""
    return (outputs - targets.clean).abs().amax(-1)


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
        return _total(outputs, ids, targets) / (ids >= 0)[targets.example_of_read].sum(-1)

    return mean_logit(targets.wrong) - mean_logit(targets.answers)


def best_wrong_difference(outputs: Tensor, targets: Targets) -> Tensor:
    """Minus (mean logit of the right answers - largest logit among the wrong ones): the docstring task's."""
    right = _total(outputs, targets.answers, targets) / (targets.answers >= 0)[targets.example_of_read].sum(-1)
    wrong, missing = _gathered(outputs, targets.wrong, targets)
    return wrong.masked_fill(missing, float("-inf")).amax(-1) - right


def probability_difference(outputs: Tensor, targets: Targets) -> Tensor:
    """Minus (probability of the right answers - probability of the wrong ones), over the whole vocabulary."""
    probability = outputs.softmax(-1)
    return _total(probability, targets.wrong, targets) - _total(probability, targets.answers, targets)


def renormalized_difference(outputs: Tensor, targets: Targets) -> Tensor:
    """The probability difference with probabilities over the right and wrong answers alone."""
    probability = outputs.softmax(-1)
    right, wrong = (_total(probability, ids, targets) for ids in (targets.answers, targets.wrong))
    return (wrong - right) / (wrong + right)


def log_probability_difference(outputs: Tensor, targets: Targets) -> Tensor:
    """Minus (mean log-probability of the right answers - that of the wrong ones), in nats.

    The log-probability of an answer of several tokens is the sum of its tokens', each behind the prompt and the tokens
    before it. For answers of one token it is the logit difference.
    """
    if targets.candidates is None:
        return logit_difference(outputs, targets)
    example, right = targets.candidates.example, targets.candidates.right
    every = _of_candidates(outputs.log_softmax(-1), targets.candidates)  # [..., S]
    counts = every.new_zeros(2 * targets.n_examples)
    group = 2 * example + right
    counts = counts.index_add(0, group, every.new_ones(len(group)))
    weights = torch.where(right, -1.0, 1.0).to(every) / counts[group]
    found = every.new_zeros(*every.shape[:-1], targets.n_examples).index_add(-1, example, every * weights)
    return found[..., targets.example_of_read]


def cross_entropy(outputs: Tensor, targets: Targets) -> Tensor:
    """-log of the probability of the right answers together, in nats."""
    log_probability, missing = _gathered(outputs.log_softmax(-1), targets.answers, targets)
    return -log_probability.masked_fill(missing, float("-inf")).logsumexp(-1)


def inaccuracy(outputs: Tensor, targets: Targets) -> Tensor:
    """0 where the largest logit among right and wrong answers is a right one's, else 1; a tie is not right.

    Of answers of several tokens it is the largest log-probability.
    """
    if targets.candidates is not None:
        every, its = _of_candidates(outputs.log_softmax(-1), targets.candidates), targets.candidates
        right = _largest(every.masked_fill(~its.right, -torch.inf), its.example, targets)
        wrong = _largest(every.masked_fill(its.right, -torch.inf), its.example, targets)
        return (right <= wrong).to(outputs.dtype)[..., targets.example_of_read]
    right, no_right = _gathered(outputs, targets.answers, targets)
    wrong, no_wrong = _gathered(outputs, targets.wrong, targets)
    best = right.masked_fill(no_right, float("-inf")).amax(-1)
    return (best <= wrong.masked_fill(no_wrong, float("-inf")).amax(-1)).to(outputs.dtype)


def prediction_changed(outputs: Tensor, targets: Targets) -> Tensor:
    """0 where the largest logit of all is the clean run's, else 1."""
    return (outputs.argmax(-1) != targets.clean.argmax(-1)).to(outputs.dtype)


def _of_candidates(log_probability: Tensor, candidates: Candidates) -> Tensor:
    """Log-probability of each answer, summed over its tokens: [..., S] of [..., n_read, d_out]."""
    index = candidates.expected[:, None].expand(*log_probability.shape[:-1], 1)
    tokens = log_probability.gather(-1, index)[..., 0]
    total = tokens.new_zeros(*tokens.shape[:-1], len(candidates.example))
    return total.index_add(-1, candidates.run_of_read, tokens)


def _largest(values: Tensor, example: Tensor, targets: Targets) -> Tensor:
    """The largest value of each example's answers: [..., B] of [..., S]."""
    lowest = values.new_full((*values.shape[:-1], targets.n_examples), -torch.inf)
    return lowest.scatter_reduce(-1, example.expand_as(values), values, "amax")


def _gathered(values: Tensor, ids: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Values [..., n_read, A] at ids [B, A], and where an id is padding: bool [n_read, A]."""
    ids = ids[targets.example_of_read]
    return values.gather(-1, ids.clamp_min(0).expand(*values.shape[:-1], -1)), ids < 0


def _total(values: Tensor, ids: Tensor, targets: Targets) -> Tensor:
    found, missing = _gathered(values, ids, targets)
    return found.masked_fill(missing, 0).sum(-1)


DISTANCE = Objective("distance", "by which runs are told apart", largest_difference, frozenset({"clean"}))
"""Not one to choose: it says whether two runs differ by more than rounding."""

OBJECTIVES: Registry[Objective] = Registry("objective")
_ANSWERS = frozenset({"answers", "distribution"})
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
        _ANSWERS,
        higher_is_better=True,
    ),
    Objective(
        "best-wrong-difference",
        "logit of the right answers minus the largest logit among the wrong ones",
        best_wrong_difference,
        _ANSWERS,
        higher_is_better=True,
    ),
    Objective(
        "probability-difference",
        "probability of the right answers minus that of the wrong ones, over the whole vocabulary",
        probability_difference,
        _ANSWERS,
        higher_is_better=True,
    ),
    Objective(
        "renormalized-difference",
        "probability difference among the right and wrong answers alone",
        renormalized_difference,
        _ANSWERS,
        higher_is_better=True,
    ),
    Objective(
        "log-probability-difference",
        "log-probability of the right answers minus that of the wrong ones, summed over an answer's tokens",
        log_probability_difference,
        _ANSWERS,
        higher_is_better=True,
        several=True,
    ),
    Objective(
        "cross-entropy",
        "-log of the probability of the right answers, in nats",
        cross_entropy,
        frozenset({"right answers", "distribution"}),
    ),
    Objective(
        "accuracy",
        "share of prompts whose largest logit among right and wrong answers is a right one's",
        inaccuracy,
        _ANSWERS,
        several=True,
        offset=1.0,
        higher_is_better=True,
        differentiable=False,
    ),
    Objective(
        "exact-match",
        "share of prompts whose largest logit of all is the full model's",
        prediction_changed,
        frozenset({"clean", "distribution"}),
        offset=1.0,
        higher_is_better=True,
        differentiable=False,
    ),
):
    OBJECTIVES.add(_objective.name, _objective)
