"""Whether a circuit has all that the model does the task with: the performance that is left when it is knocked out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..circuit import Circuit
from ..data import Data
from ..intervention.faithfulness import measure_by_each
from ..intervention.objective import OBJECTIVES, Objective
from ..intervention.setting import Cut
from ..model.transformer import Transformer


@dataclass(frozen=True)
class Completeness:
    """The part of the model's performance that is left when a circuit is knocked out.

    Args:
        completeness: 1 minus the share that is left, averaged over classes. It is 1 when the model does no more without
            the circuit than with everything cut, and 0 when nothing is lost.
        by_class: the share that is left in each class, in the order of the classes' numbers.
        accuracy: the accuracy of what is left, averaged over classes; None when the task has no answers.
        constant: whether what is left answers every class always right or always wrong, and not all alike: it gives
            one answer whatever the prompt. The circuit then is needed for any answer, which is less than holding all
            of the task. None when there are too few classes, or too small ones, to tell.
    """

    completeness: float
    by_class: tuple[float, ...]
    accuracy: float | None
    constant: bool | None


def completeness(
    model: Transformer,
    data: Data,
    circuit: Circuit,
    cut: Cut,
    objective: Objective,
    *,
    seed: int = 0,
    batch_size: int | None = None,
) -> Completeness:
    """Knocks the circuit out, and compares with the full model and with everything cut.

    Prompts are averaged in classes of one right answer each, and every class has the same weight. The rest of the graph
    may always give one answer; without classes it would seem better or worse than chance only because that answer is
    frequent or rare.

    Args:
        cut: how the circuit is run. Its ``set`` is replaced here.
        batch_size: prompts at a time; chosen from the model's size when omitted. It changes the result where a mean is
            over the batch.

    Raises:
        Undefined: a cut that has no meaning on this data.
    """
    accuracy = OBJECTIVES.get("accuracy")
    answered = accuracy.undefined(data, model.config) is None
    objectives = [objective, accuracy] if answered else [objective]
    knocked_out = replace(cut, set="circuit")
    measured = measure_by_each(model, data, [circuit], knocked_out, objectives, seed=seed, batch_size=batch_size)
    right = measured[1].circuits[0] if answered else None
    scores = measured[0]
    return summed_up(scores.circuits[0], scores.full, scores.empty, answer_classes(data), right)


def answer_classes(data: Data) -> Tensor:
    """Which prompts have the same right answers: long [N], numbered from 0; all the same for a task without answers."""
    if data.answers is None:
        return torch.zeros(data.n, dtype=torch.long)
    return data.answers.flatten(1).sort(1).values.unique(dim=0, return_inverse=True)[1]


def summed_up(
    left: Tensor, full: Tensor, nothing: Tensor, classes: Tensor, right: Tensor | None = None
) -> Completeness:
    """Completeness from values on every prompt: float64 [N] each.

    Args:
        left: the values without the circuit. full: those of the model. nothing: those with everything cut.
        classes: long [N].
        right: whether what is left gives the right answer, 0 or 1.
    """
    sizes = classes.bincount()

    def by_class(values: Tensor) -> Tensor:
        return torch.zeros(len(sizes), dtype=values.dtype).index_add(0, classes, values) / sizes

    gained, whole = by_class(left - nothing), by_class(full - nothing)
    shares = gained / whole.masked_fill(whole == 0, float("nan"))
    total = whole.mean().masked_fill(whole.mean() == 0, float("nan"))
    accuracies = None if right is None else by_class(right.double())
    constant = None
    if accuracies is not None and len(sizes) > 1 and int(sizes.min()) > 1:
        decided = bool(((accuracies == 0) | (accuracies == 1)).all())
        constant = decided and bool(accuracies.min() < accuracies.max())
    return Completeness(
        float(1 - gained.mean() / total),
        tuple(shares.tolist()),
        None if accuracies is None else float(accuracies.mean()),
        constant,
    )
