"""From a benchmark to its cells: every combination once, those without a meaning with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ..setting import Setting
from . import names
from .cell import Cell, Sources
from .subject import Subject, subject

if TYPE_CHECKING:
    from ..methods import Method
    from .evaluation import Evaluation
    from .spec import Grid, MethodChoice, Spec


def expand(spec: Spec) -> tuple[Cell, ...]:
    """The cells of a benchmark in its own order: by task, method, ablation, objective, seed.

    Raises:
        CircuitMeterError: a task, a model or a method that cannot be loaded.
    """
    cells: dict[str, Cell] = {}
    for grid in spec.grid:
        for target in _subjects(grid):
            evaluation = _evaluation(spec, target[1])
            for choice in grid.method:
                for cell in _cells(spec, grid, target, choice):
                    cells.setdefault(cell.key, replace(cell, evaluation=evaluation))
    return tuple(cells.values())


def _subjects(grid: Grid) -> Iterator[tuple[str, Subject]]:
    """(what the task is loaded by, the task on a model) for each task, and each model if it runs on any."""
    from ... import tasks

    for source in dict.fromkeys(name for pattern in grid.task for name in names.tasks(pattern)):
        models = grid.model or (None,) if tasks.load(source).model is None else (None,)
        for model in models:
            yield source, subject(source, model)


def _cells(spec: Spec, grid: Grid, target: tuple[str, Subject], choice: MethodChoice) -> Iterator[Cell]:
    task_source, on = target
    method, parameters = names.method(choice.name), choice.parameters
    sources = Sources(task_source, on.model_source, names.source(choice.name))
    for ablation_name in grid.ablation:
        ablation = names.ablation(ablation_name)
        chance = method.stochastic or ablation.stochastic
        cost_only = {name: parameters[name] for name in sorted(method.cost_only_under(ablation))}
        for objective in _objectives(method, grid, on):
            for seed in (choice.seed or grid.seed) if chance else (None,):
                cell = Cell(
                    task=names.label(on.task.name),
                    data=on.data.hash,
                    model=names.label(on.model_source),
                    weights=on.model.weights_hash,
                    graph=on.model.graph.hash,
                    truth=None if on.truth is None else on.truth.certificate_hash,
                    method=method.name,
                    version=method.version,
                    parameters={name: value for name, value in parameters.items() if name not in cost_only},
                    ablation=str(ablation),
                    objective=objective,
                    seed=seed,
                    sources=sources,
                    cost_only=cost_only,
                )
                yield _marked(cell, spec, _why_undefined(method, ablation_name, objective, on))


def _evaluation(spec: Spec, on: Subject) -> Evaluation | None:
    """What is measured of circuits found on a subject, with what has no meaning there."""
    if spec.evaluation is None:
        return None
    evaluation = spec.evaluation.of(on.task)
    data = on.task.data(evaluation.split)
    reasons = {text: Setting.parse(text).undefined(data, on.model) for text in evaluation.settings}
    return replace(evaluation, undefined={text: reason for text, reason in reasons.items() if reason})


def _objectives(method: Method, grid: Grid, on: Subject) -> tuple[str | None, ...]:
    """A method that looks at no objective has one cell, not one an objective."""
    return (None,) if method.objectives is None else grid.objective or (on.task.objective,)


def _marked(cell: Cell, spec: Spec, reason: str | None) -> Cell:
    """The cell with the reason, if any, for which it is not run."""
    left_out = next((rule.because for rule in spec.left_out if rule.covers(cell)), None)
    return replace(cell, undefined=f"left out of {spec.name}: {left_out}" if left_out else reason)


def _why_undefined(method: Method, ablation_name: str, objective_name: str | None, on: Subject) -> str | None:
    ablation = names.ablation(ablation_name)
    objective = None if objective_name is None else names.objective(objective_name)
    config = on.model.config
    if "truth" in method.needs and on.reference(ablation) is None:
        return f"{method.name} needs a certified truth, and {names.label(on.task.name)} has none under {ablation}"
    return (
        ablation.undefined(on.data)
        or (objective and objective.undefined(on.data, config))
        or method.undefined(ablation, objective, on.data, config)
    )
