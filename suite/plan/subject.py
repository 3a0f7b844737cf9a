"""What a cell is measured on: a task's prompts, the model that it runs on, and the truth that is known of it."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from ..errors import DataError, SpecError

if TYPE_CHECKING:
    import torch

    from ...ground_truth import GroundTruth
    from ...tasks.task import Task
    from ..circuit import Reference
    from ..data import Data
    from ..intervention.ablation import Ablation
    from ..model.transformer import Transformer
    from .job import Job


@dataclass(frozen=True, eq=False)
class Subject:
    """A task on a model: what a cell is measured on, and what the verbs work on.

    Args:
        task, data: the task, and the prompts that methods search on or circuits are measured on.
        model_source: the model's name, or its folder.
        model: the model itself.
        truth: what is known of the model's circuit on the task, or ``None``.
        split: which of the task's prompts ``data`` is.
    """

    task: Task
    data: Data
    model_source: str
    model: Transformer
    truth: GroundTruth | None
    split: str = "train"

    @property
    def held_out(self) -> Data | None:
        """The task's test prompts, or ``None`` for a task without test prompts."""
        return self.task.data("test") if "test" in self.task.splits else None

    def reference(self, ablation: Ablation) -> Reference | None:
        """The certified truth under an ablation, or ``None`` when no truth is certified.

        Raises:
            DataError: it is about another graph than this model's, such as one with other input nodes.
        """
        found = None if self.truth is None else self.truth.reference(ablation)
        return None if found is None else on_graph_of(self.model, found, self.task.truth or self.task.name)


_models: WeakValueDictionary[tuple[str, str], Transformer] = WeakValueDictionary()
"""The models that kept subjects hold, by name and device: tasks on the same model share one copy of its weights."""


@lru_cache(maxsize=4)
def subject(task_source: str, model_source: str | None, device: str = "cpu", prompts: int | None = None) -> Subject:
    """Loads a task and its model; the last few are kept, because cells come task by task.

    Args:
        task_source: the task's name, or its folder.
        model_source: the model's name or folder, for tasks that run on any; ``None`` for the others.
        device: as torch names it; ``cuda``, without a number, stands for all GPUs that this process sees: a model that
            is too large for one of them is spread over all.
        prompts: how many of the task's, ``None`` for all.

    Raises:
        SpecError: a task that runs on any model, and no model.
        ModelError, DataError: what is loaded cannot be used.
    """
    import torch

    from ... import ground_truth, tasks
    from ..model.load.by_name import model_names, on_model

    task = tasks.load(task_source)
    if task.model is None and model_source is None:
        raise SpecError(f"task {task.name} runs on any model; give `model` in [grid].")
    wanted = task.model or model_source or ""
    source = str(Path(wanted).resolve()) if os.path.exists(wanted) and wanted not in model_names() else wanted
    truth = None if task.truth is None else ground_truth.load(task.truth)
    task = on_model(task, source)
    data = limit_prompts(task.data("train"), prompts)
    model = _models.get((str(source), device))
    if model is None:
        model = _models[str(source), device] = _on_devices(source, torch.device(device))
    check_fits(data, model, task.name, source)
    return Subject(task, data, source, model, truth)


def _on_devices(source: str, device: torch.device) -> Transformer:
    """The model on a device, or on all devices that the name stands for where its weights do not fit one of them."""
    from ..model.device import all_of, memory_of_device
    from ..model.load.by_name import load_model, load_outline
    from ..model.load.devices import fits_one, over_all

    if len(devices := all_of(device)) > 1:
        memory = min(memory_of_device(each) or 0 for each in devices)
        if memory and not fits_one(load_outline(source), memory):
            return over_all(load_model(source, device="cpu"), devices, memory)
    return load_model(source, device=device)


def subject_of(job: Job, device: str = "cpu") -> Subject:
    """What a job's cell is measured on."""
    return subject(job.sources.task, job.sources.model, device, job.sources.prompts)


def on_graph_of(model: Transformer, known: Reference, name: str) -> Reference:
    """A known circuit, which is about the model's graph. Raises DataError where it is about another one."""
    if known.graph.hash != model.graph.hash:
        raise DataError(
            f"the circuit {name} has {known.graph}; the model has {model.graph}. Their edges cannot be compared."
        )
    return known


def forget_subjects() -> None:
    """The next cell loads its subject anew: somebody changed what is kept."""
    subject.cache_clear()
    _models.clear()  # somebody may still hold a model that was changed


def limit_prompts(data: Data, n: int | None) -> Data:
    """The first ``n`` prompts; of those in the order of a domain ``n`` that are drawn, the same every time, because the
    first inputs of a program are all alike. All where ``n`` is ``None`` or more than there are."""
    import torch

    if n is None or n >= data.n:
        return data
    if not data.in_order:
        return data.select(torch.arange(n))
    generator = random.Random(0)  # its ``random()`` is the same in every version
    keys = [generator.random() for _ in range(data.n)]
    return data.select(torch.tensor(sorted(sorted(range(data.n), key=keys.__getitem__)[:n])))


def check_fits(data: Data, model: Transformer, task: str, name: str) -> None:
    """Raises DataError for a token id or a position that the model does not have."""
    given = (data.clean, data.counterfactual, data.unpaired, data.answers, data.wrong)
    ids = [part for part in given if part is not None]
    unpaired = 0 if data.unpaired is None else data.unpaired.shape[1]
    largest, longest = max(int(part.max()) for part in ids), max(data.longest, unpaired)
    if data.several_tokens and not model.config.causal:
        raise DataError(
            f"answers of {task} have several tokens, read one after the other; {name} sees later tokens, too."
        )
    if largest >= model.config.d_vocab or longest > model.config.n_positions:
        raise DataError(
            f"the task {task} has token ids up to {largest} and {longest} positions; the model {name} takes ids up to "
            f"{model.config.d_vocab - 1} and {model.config.n_positions} positions. Choose another model."
        )
