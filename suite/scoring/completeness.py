"""Does a circuit hold all that the model does the task with: what is left when it is knocked out."""

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
    """What knocking a circuit out leaves of the model's performance.

    Args:
        completeness: 1 minus the share that is left, the mean over classes: 1 when the model does without the circuit
            what it does with everything cut, 0 when nothing is lost.
        by_class: the share that is left in each class, in the order of the classes' numbers.
        accuracy: of what is left, the mean over classes; None where the task has no answers.
        constant: whether what is left answers every class always right or always wrong, and not all alike: it gives
            one answer whatever the prompt. The circuit then is needed for any answer, which is less than holding all
            of the task. None where classes are too few or too small to say.
    """

    completeness: float
    by_class: tuple[float, ...]
    accuracy: float | None
    constant: bool | None


def completeness(
    model: Transformer, data: Data, circuit: Circuit, cut: Cut, objective: Objective, *, seed: int = 0
) -> Completeness:
    """Knocks the circuit out, and compares with the full model and with everything cut.

    Prompts are averaged in classes of one right answer each, and classes then weigh alike: what is left may always give
    one answer, and would otherwise seem to do better or worse than chance only because that answer is frequent or rare.

    Args:
        cut: how the circuit is run; its ``set`` is set here.

    Raises:
        Undefined: a cut that has no meaning on this data.
    """
    accuracy = OBJECTIVES.get("accuracy")
    answered = accuracy.undefined(data, model.config) is None
    objectives = [objective, accuracy] if answered else [objective]
    measured = measure_by_each(model, data, [circuit], replace(cut, set="circuit"), objectives, seed=seed)
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
        left: without the circuit. full: of the model. nothing: with everything cut.
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
