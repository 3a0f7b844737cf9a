"""The names of methods and ablations in tables and figures, and their order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...suite.store.record import Cell

BASELINES = ("magnitude", "random", "truth")
"""Methods that measure the benchmark and not themselves: listed last, drawn in grey."""

ORACLE = "truth"
"""The method that is given the answer; it never wins."""

CHANCE = "random"
"""The method that ranks edges by chance."""

RIVALS = (CHANCE, "eap-ig")
"""With whom a user's method is compared unless told otherwise: chance, and one gradient method, named before any result
is known. In this order: the second test counts only where the first did."""

_SPELLED = {"sp": "subnetwork-probing"}
"""Methods by what papers call them, in small letters; others (ACDC, HISP) differ in capitals only."""

_ABLATION_ORDER = ("patch", "resample", "mean", "noise", "optimal", "zero")
_OBJECTIVE_ORDER = ("answer-difference", "logit-difference", "probability-difference", "best-wrong-difference")


def method_labels(identities: Mapping[str, Cell], prompts: Mapping[str, int | None]) -> dict[str, str]:
    """A label for each cell: the method's name, and in brackets whatever else differs between its cells.

    Args:
        identities: cell identities by key.
        prompts: by key, how many prompts were asked for; ``None`` where all were, or nobody wrote it down.
    Returns labels by key: ``eap``; ``eap-ig (steps=30)`` where another cell has other steps; ``exact (l2)`` where
    a task has cells of the method with another objective; ``mine (version 1f3a)`` where two versions of its code ran;
    ``eap (prompts=8)`` where a task and model has cells of the method on other prompts, ``eap (data 3c0d)`` on these
    where the number is the same.
    """
    searched: dict[tuple[str, str, str], dict[str, set[int | None]]] = defaultdict(lambda: defaultdict(set))
    parameters: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    objectives: dict[str, dict[str, set[str | None]]] = defaultdict(lambda: defaultdict(set))
    versions = defaultdict(set)
    for key, identity in identities.items():
        method = identity.method
        searched[method, identity.task, identity.model][identity.data].add(prompts.get(key))
        objectives[method][identity.task].add(identity.objective)
        versions[method].add(identity.version)
        for name, value in identity.parameters.items():
            parameters[method][name].add(value_text(value))

    # Tasks have objectives of their own: only several on one task are several settings of the method.
    several = {method: any(len(found) > 1 for found in by_task.values()) for method, by_task in objectives.items()}

    on_several = {method for (method, *_), found in searched.items() if len(found) > 1}

    def on_prompts(key: str, identity: Cell) -> list[str]:
        # By the number alone where it does: it is the same on every task, and medians are over tasks.
        here, number = searched[identity.method, identity.task, identity.model], prompts.get(key)
        notes = [f"prompts={number}"] if number and identity.method in on_several else []
        return notes + [f"data {identity.data[:4]}"] * (sum(number in numbers for numbers in here.values()) > 1)

    def label(key: str, identity: Cell) -> str:
        method = identity.method
        notes = [str(identity.objective)] if several[method] else []
        if len(versions[method]) > 1:
            notes.append(f"version {identity.version[:4]}")
        notes += [
            _note(name, value)
            for name, value in sorted(identity.parameters.items())
            if len(parameters[method][name]) > 1
        ]
        notes += on_prompts(key, identity)
        return f"{method} ({', '.join(notes)})" if notes else method

    return {key: label(key, identity) for key, identity in identities.items()}


def _note(name: str, value: Any) -> str:
    """A parameter in a label. Circuits to avoid differ from task to task: a label only says that there was one."""
    if name == "avoid":
        return "avoiding a circuit" if value else "avoiding none"
    return f"{name}={value_text(value)}"


def value_text(value: Any) -> str:
    """A parameter's value, as labels have it."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def method_of(label: str) -> str:
    """The method's name in a label."""
    return label.partition(" (")[0]


def canonical(label: str) -> str:
    """The method of a label as this project calls it, however a paper spells it."""
    method = method_of(label).lower()
    return _SPELLED.get(method, method)


def is_own(label: str) -> bool:
    """Whether a method is the user's: it does not come with this package, has its own colour, and comes first."""
    method = canonical(label)
    return method not in BASELINES and method not in _built_in()


@lru_cache(maxsize=1)
def _built_in() -> frozenset[str]:
    """The names of the files of methods. A method has the name of its file."""
    names = (entry.name for entry in (files("circuitmeter.suite") / "methods").iterdir())
    return frozenset(name.removesuffix(".py").replace("_", "-") for name in names)


def program_of(task: str) -> str:
    """The program a task belongs to: its variants (``tracr/reverse@fixed``) share a model and are not independent."""
    return task.partition("@")[0]


def ordered_ablations(ablations: Iterable[str]) -> list[str]:
    """Ablations in a fixed order: patch first, zero last, unknown ones behind, variants beside their kind."""

    def place(ablation: str) -> tuple[int, str]:
        kind = ablation.partition("[")[0].partition("-")[0]
        return (_ABLATION_ORDER.index(kind) if kind in _ABLATION_ORDER else len(_ABLATION_ORDER), ablation)

    return sorted(set(ablations), key=place)


def ordered_objectives(objectives: Iterable[str]) -> list[str]:
    """Objectives in a fixed order: differences first, which are linear in the logits or nearly, then by name."""

    def place(objective: str) -> tuple[int, str]:
        known = objective in _OBJECTIVE_ORDER
        return (_OBJECTIVE_ORDER.index(objective) if known else len(_OBJECTIVE_ORDER), objective)

    return sorted(set(objectives), key=place)


def ordered_labels(labels: Iterable[str]) -> list[str]:
    """Labels by name, baselines last."""
    return sorted(set(labels), key=lambda label: (method_of(label) in BASELINES, label))
