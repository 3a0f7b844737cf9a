"""The model, the prompts and the truth that a circuit is about, from the arguments of ``discover`` and ``evaluate``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..circuit import Reference
from ..data import Data
from ..errors import DataError, SpecError
from ..intervention.ablation import Ablation
from ..model.graph import InputNodes
from ..model.transformer import Transformer

if TYPE_CHECKING:
    from ...tasks.task import Task
    from ..interchange import Origin


@dataclass(frozen=True)
class Problem:
    """What ``--task`` or ``--data`` and ``--model`` mean.

    Attributes:
        name: the task's name or the data file's.
        model_name: as given, or the task's own.
        objective: the one used when none is asked for.
        truth_name: of the certified truth that belongs to the task; ``None`` where none does.
        split: which of the task's prompts ``data`` is.
        held_out: the prompts that methods do not search on: the task's test split, or ``None`` where it has none.
    """

    name: str
    model_name: str
    model: Transformer
    data: Data
    objective: str
    truth_name: str | None
    split: str = "train"
    held_out: Data | None = None

    def reference(self, ablation: Ablation) -> Reference | None:
        """The certified circuit of the task under ``ablation``; ``None`` where there is none."""
        return reference(self.truth_name, self.model, ablation) if self.truth_name else None


def load(options: argparse.Namespace, *, inputs: InputNodes | None = None, prompts: int | None = None) -> Problem:
    """Loads the model and then the prompts, and checks that they fit each other.

    Args:
        options: parsed arguments with ``task``, ``data``, ``model``, ``inputs``, ``device``, ``dtype``, ``memory``
            and ``split``.
        inputs: the input nodes that a circuit file asks for, where ``--inputs`` does not say.
        prompts: the first how many; all where omitted.
    """
    from ... import tasks
    from ...tasks import mini, own_prompts
    from ..model.device import dtype, resolve
    from ..model.load.by_name import is_ground_truth, load_model, load_tokenizer, on_model
    from ..model.load.devices import fit, memory_of, refuse_absent
    from ..plan.subject import check_fits, first
    from .output import note

    task = tasks.load(options.task) if options.task else None
    name = options.model or (task.model if task else None)
    if name is None:
        raise SpecError(
            f"{'--data' if task is None else task.name} does not say which model it runs on; give --model NAME|DIR."
        )
    chosen = options.inputs or (None if is_ground_truth(name) else inputs)
    device, memory = resolve(options.device), memory_of(options.memory or ())
    refuse_absent(memory)
    model = load_model(name, device="cpu" if memory else device, dtype=dtype(options.dtype), inputs=chosen)
    model = fit(model, memory, device) if memory else model
    if task:
        task = on_model(task, name)
        split = split_of(task, options)
        data = first(task.data(split), prompts)
        check_fits(data, model, task.name, name)
        if name in mini.names() and task.name.partition("@")[0] not in mini.learnt(name):
            note(f"{name} was not trained on {task.name} (it does: {', '.join(mini.learnt(name))})")
        truth = task.truth if name == task.model else None
        return Problem(task.name, str(name), model, data, task.objective, truth, split, held_out_of(task))
    sizes = {"d_vocab": model.config.d_vocab, "n_positions": model.config.n_positions}
    task = own_prompts.load_task(options.data, tokenize=load_tokenizer(name), **sizes)
    split = split_of(task, options)
    data = first(task.data(split), prompts)
    return Problem(str(options.data), str(name), model, data, task.objective, None, split, held_out_of(task))


def held_out_of(task: Task) -> Data | None:
    """The task's test prompts, or ``None`` where it has none."""
    return task.data("test") if "test" in task.splits else None


def split_of(task: Task, options: argparse.Namespace) -> str:
    """The split asked for, else the verb's own, or train where the task has no other prompts."""
    asked = getattr(options, "split", None)
    default = getattr(options, "default_split", "train")
    return asked or (default if default in task.splits else "train")


def note_in_sample(origin: Origin, problem: Problem, file: str | Path) -> None:
    """Says so where a circuit is measured on the very prompts that it was found on."""
    from .output import note

    if origin.data_hash == problem.data.hash:
        note(
            f"{file} was found on these very prompts, so its faithfulness says nothing of others; give others with "
            f"--split or --data."
        )


def warn(problem: Problem) -> None:
    """Says on stderr that the model hardly does the task, where it does not."""
    from ..scoring.behaviour import behaviour
    from .output import note

    found = behaviour(problem.model, problem.data)
    if found is not None and (warning := found.warning(problem.name, problem.model_name)):
        note(warning)


def reference(truth: str, model: Transformer, ablation: Ablation) -> Reference | None:
    """The certified circuit called ``truth`` under ``ablation``, or the published circuit of this name.

    Raises:
        DataError: it belongs to another graph.
    """
    from ... import ground_truth
    from ...ground_truth import manual

    found = manual.load(truth) if truth in manual.names() else ground_truth.load(truth).reference(ablation)
    if found is not None and found.graph.hash != model.graph.hash:
        raise DataError(
            f"the circuit {truth} has {found.graph}; the model has {model.graph}. Their edges cannot be compared."
        )
    return found
