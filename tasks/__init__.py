"""What models are asked to do: ``names()`` lists the tasks, ``load(name)`` gives one.

A task of your own: ``TASKS.add("mine", lambda: Task(...))``, or the same as an entry point ``circuitmeter.tasks`` of
your package.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..suite.errors import SpecError, unknown
from ..suite.registry import Registry
from . import tracr
from .task import Task

TASKS: Registry[Callable[[], Task]] = Registry("task", "circuitmeter.tasks")


def names() -> list[str]:
    """Every task, shipped or registered."""
    return sorted({*tracr.names(), *TASKS})


def load(name: str | Path) -> Task:
    """The task of this name, or of a directory with a certified model (``circuitmeter truth`` writes one).

    Raises:
        SpecError: nothing has this name.
        ModelError: the model that the task is about is damaged.
    """
    text = str(name)
    if text in TASKS:
        return TASKS.get(text)()
    directory = text if Path(text).is_dir() else text.partition("@")[0]
    if text in tracr.names() or (Path(directory) / "model.json").is_file():
        return tracr.load(name)
    raise SpecError(unknown("task", text, names(), "A directory with a certified model is one, too."))


__all__ = ["TASKS", "Task", "load", "names"]
