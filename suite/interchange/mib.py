"""A submission to MIB's circuit leaderboard (hannamw/MIB-circuit-track): edge scores in a folder per task and model.

The leaderboard takes a folder of one method. In it, ``ioi_gpt2/importances.json`` has a score for every edge of
GPT-2 small on IOI, in the graph JSON of EAP-IG. Words within a task's name are joined by hyphens, a task and a model by
an underscore.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import DataError, SpecError, unknown
from ..model.graph import Graph
from .files import read

IMPORTANCES = "importances.json"
FEWEST = 2
"""Tasks, and models, that the leaderboard asks for at least."""

# Model as MIB calls it -> (the names that it has here, layers and heads of its graph).
MODELS: dict[str, tuple[frozenset[str], int, int]] = {
    "gpt2": (frozenset({"gpt2", "openai-community/gpt2"}), 12, 12),
    "qwen2.5": (frozenset({"Qwen/Qwen2.5-0.5B"}), 24, 14),
    "gemma2": (frozenset({"google/gemma-2-2b"}), 26, 8),
    "llama3": (frozenset({"meta-llama/Llama-3.1-8B"}), 32, 32),
}
# Task -> the models that it is asked of.
MIB_TASKS: dict[str, tuple[str, ...]] = {
    "ioi": ("gpt2", "qwen2.5", "gemma2", "llama3"),
    "mcqa": ("qwen2.5", "gemma2", "llama3"),
    "arithmetic-addition": ("llama3",),
    "arithmetic-subtraction": ("llama3",),
    "arc-easy": ("gemma2", "llama3"),
    "arc-challenge": ("llama3",),
}


def model_of(name: str, renamed: Mapping[str, str]) -> str | None:
    """What MIB calls a model; None for one that is not on its leaderboard.

    Args:
        renamed: a model's name here -> MIB's, for folders.
    """
    known = (theirs for theirs, (names, _, _) in MODELS.items() if name in names)
    return renamed.get(name) or next(known, None)


def task_of(name: str, renamed: Mapping[str, str]) -> str | None:
    """What MIB calls a task; None for one that is not on its leaderboard. ``renamed`` as of ``model_of``, for tasks."""
    plain = name.replace("_", "-")
    return renamed.get(name) or (plain if plain in MIB_TASKS else None)


def check_renamed(tasks: Mapping[str, str], models: Mapping[str, str]) -> None:
    """Raises SpecError for a task or a model that is not on the leaderboard."""
    for name in tasks.values():
        if name not in MIB_TASKS:
            raise SpecError(unknown("task of MIB's leaderboard", name, MIB_TASKS))
    for name in models.values():
        if name not in MODELS:
            raise SpecError(unknown("model of MIB's leaderboard", name, MODELS))


def check_graph(graph: Graph, model: str, given: str) -> None:
    """Raises DataError for a graph that is not the one of the leaderboard's model; ``given`` is its name here."""
    _, layers, heads = MODELS[model]
    if (graph.n_layers, graph.n_heads) != (layers, heads):
        raise DataError(
            f"{given} has {graph.n_layers} layers of {graph.n_heads} heads, and MIB's {model} has {layers} of {heads}; "
            "submit the circuits of that model."
        )


def check_submission(folder: Path) -> list[str]:
    """The ``task_model`` folders of a submission, each found to hold what the leaderboard reads.

    Raises:
        DataError: the first folder whose name is no task and model of the leaderboard, or that lacks its scores, or
            whose scores are not those of the model's graph.
    """
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror}.") from None
    for name in names:
        task, _, model = name.partition("_")
        if model not in MIB_TASKS.get(task, ()):
            raise DataError(
                f"{folder / name} is no folder of MIB's; name it TASK_MODEL, as in {', '.join(all_names())}."
            )
        path = folder / name / IMPORTANCES
        if not path.is_file():
            raise DataError(f"{folder / name} has no {IMPORTANCES}; write the scores of {task} on {model} there.")
        found = read(path).alone()
        check_graph(found.circuit.graph, model, str(path))
        if found.scores is None:
            raise DataError(f"{path} has edges without a score; give every edge of the graph one.")
    if not names:
        raise DataError(f"{folder} is empty; a submission has folders such as {all_names()[0]}.")
    return names


def all_names() -> list[str]:
    """Every folder that the leaderboard knows: ``ioi_gpt2``, ..."""
    return [f"{task}_{model}" for task, models in MIB_TASKS.items() for model in models]
