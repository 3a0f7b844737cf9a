"""The tasks: what models are asked to do. ``names()`` lists them, and ``load(name)`` returns one.

The task of a compiled program is a ``Task``, whose prompts are tokens. A task whose prompts are text is a ``TextTask``;
it runs on any model whose tokenizer knows its words, and ``.on(tokenizer)`` makes it a ``Task``.

To add a task of your own, call ``TASKS.add("mine", lambda: Task(...))``, or name the function in your package's entry
point ``circuitmeter.tasks``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from .. import ground_truth
from ..ground_truth.files import holds_model
from ..suite.errors import SpecError, unknown
from ..suite.registry import Registry
from . import (
    acronyms,
    blimp,
    colored_objects,
    country_capital,
    docstring,
    gates,
    gender_bias,
    gendered_pronoun,
    greater_than,
    hypernymy,
    induction,
    ioi,
    mib,
    pararel,
    successor,
    sva,
    tracr,
)
from .family import Family, TextTask
from .own_prompts import PromptFile
from .task import Task

TASKS: Registry[Callable[[], Task | TextTask]] = Registry("task", "circuitmeter.tasks")
TEXT_FAMILIES: Registry[Family] = Registry("task")
PROMPT_FILES = (".jsonl", ".json", ".csv")
for _module in (
    ioi,
    greater_than,
    docstring,
    gendered_pronoun,
    gender_bias,
    country_capital,
    hypernymy,
    sva,
    induction,
    successor,
    acronyms,
    colored_objects,
):
    TEXT_FAMILIES.add(_module.FAMILY.name, _module.FAMILY)
for _family in (*blimp.FAMILIES, *pararel.FAMILIES, *mib.FAMILIES):
    TEXT_FAMILIES.add(_family.name, _family)


def names() -> list[str]:
    """Every task, shipped or registered."""
    texts = [name for family in TEXT_FAMILIES for name in TEXT_FAMILIES.get(family).names]
    return sorted({*ground_truth.names(), *texts, *TASKS})


def is_prompt_file(name: str | Path) -> bool:
    """Whether a task's name is the path of a prompt file."""
    return Path(name).suffix in PROMPT_FILES and os.path.isfile(name)


def load(name: str | Path) -> Task | TextTask | PromptFile:
    """The task of this name, of a prompt file, or of a directory with a certified model (``circuitmeter truth``).

    Raises:
        SpecError: no task has this name.
        ModelError: the model of the task is damaged.
    """
    text = str(name)
    if text in TASKS:
        return TASKS.get(text)()
    family, _, options = text.partition("@")
    if family in TEXT_FAMILIES:
        return TEXT_FAMILIES.get(family).task(options)
    directory = text if os.path.isdir(text) else family
    if text in ground_truth.names() or holds_model(directory):
        truth = ground_truth.load(name)
        return (gates if truth.description.family == gates.FAMILY_NAME else tracr).task(truth)
    if is_prompt_file(text):
        return PromptFile(Path(text))
    raise SpecError(unknown("task", text, names(), "A directory with a certified model is one, too.", groups()))


def runs_on_any_model(name: str | Path) -> bool:
    """Whether a task is asked of a model that is named beside it. A task of a certified model has a model of its own.

    Shipped truths are told by their names: a truth is hashed when it is loaded, and benchmarks have hundreds.

    Raises:
        SpecError: no task has this name.
        ModelError: the model of the task is damaged.
    """
    if str(name) not in TASKS and str(name) in ground_truth.names():
        return False
    return load(name).model is None


def groups() -> list[str]:
    """A short list of the tasks: without variants, and with ``tracr/*`` in place of all names that begin so."""
    return sorted({f"{name.split('/')[0]}/*" if "/" in name else name.split("@")[0] for name in names()})


__all__ = ["TASKS", "TEXT_FAMILIES", "PromptFile", "Task", "TextTask", "load", "names", "runs_on_any_model"]
