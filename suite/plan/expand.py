"""From a benchmark to its cells: every combination once, those without a meaning with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from ..errors import ModelAbsent, SpecError, TaskUnaskable, one_line
from ..intervention.setting import Setting
from ..json_model import plain
from ..store.keys import KEY_VERSION
from ..store.record import BehaviourIdentity, Cell
from . import names
from .behaviour import behaviour_of
from .job import Job, Sources
from .subject import Subject, limit_prompts, subject

if TYPE_CHECKING:
    from ..methods import Method
    from .evaluation import Evaluation
    from .gate import TaskGate
    from .spec import Grid, MethodChoice, Spec


LEFT_OUT = "left out by --only"


@dataclass(frozen=True)
class NotRun:
    """A model of a benchmark whose cells cannot be made, because what makes their identity is not here, that cannot be
    asked one of the tasks, or that does one worse than the benchmark's gate.

    Args:
        model: its name, and in brackets the task if only that is not there.
        combinations: how many cells the benchmark has on it, those without a meaning among them.
        reason: in one line, with what to do.
    """

    model: str
    combinations: int
    reason: str


@dataclass(frozen=True)
class Expansion:
    """What a benchmark stands for on this machine: a job for each cell, and the models that are not on the machine."""

    jobs: tuple[Job, ...]
    not_run: tuple[NotRun, ...] = ()

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells alone."""
        return tuple(job.cell for job in self.jobs)


def expand(spec: Spec, models: Sequence[str] | None = None) -> Expansion:
    """The jobs of a benchmark in its own order: by task, method, ablation, objective, seed.

    Args:
        models: names or globs; the other models are not even looked for. ``None`` for all.

    Raises:
        ModelAbsent: none of its models is on this machine, or can be fetched.
        TaskUnaskable: none can be asked any of its tasks.
        SpecError: a gate on a task of which it cannot be measured whether a model does it.
        CircuitMeterError: a task, a model or a method that cannot be loaded.
    """
    jobs: dict[str, Job] = {}
    absent: dict[str, ModelAbsent | TaskUnaskable | str] = {}
    combinations: dict[str, int] = {}
    for grid in spec.grid:
        for source, model in _targets(grid):
            on = _subject(source, model, grid.prompts, models, absent)
            if on is None:
                n = sum(1 for choice in grid.method for _ in _combinations(grid, choice, source))
                key = model if model is not None and model in absent else _both(source, model)
                combinations[key] = combinations.get(key, 0) + n
                continue
            evaluation = _evaluation(spec, on, grid.prompts)
            behaviour, gates = _behaviour(spec, on, evaluation)
            for choice in grid.method:
                for job in _jobs(spec, grid, (source, on), choice):
                    whole = replace(job, evaluation=evaluation, behaviour=behaviour, gates=gates)
                    jobs.setdefault(job.key, whole)
    errors = [error for error in absent.values() if not isinstance(error, str)]
    if not jobs and errors:
        raise errors[0]
    not_run = (NotRun(_printable(model), n, one_line(absent[model])) for model, n in combinations.items())
    return Expansion(tuple(jobs.values()), tuple(not_run))


def size(spec: Spec) -> int:
    """How many cells a benchmark has, counted without loading its models."""
    from ... import tasks

    objective_of = cache(lambda source: tasks.load(source).objective)
    found = set()
    for grid in spec.grid:
        parameters = [_by_ablation(choice, grid.ablation) for choice in grid.method]
        for source, model in _targets(grid):
            own = None if grid.objective else objective_of(source)
            for choice, kept in zip(grid.method, parameters, strict=True):
                named = (choice.name, choice.called)
                for ablation, objective, seed in _combinations(grid, choice, source, own):
                    found.add((source, model, grid.prompts, *named, kept[ablation], ablation, objective, seed))
    return len(found)


def _by_ablation(choice: MethodChoice, ablations: Sequence[str]) -> dict[str, str]:
    """Under each ablation, the parameters of a method that tell its cells apart, as text."""
    found = {}
    for ablation in ablations:
        cost_only = _cost_only(choice, ablation)
        found[ablation] = repr({name: value for name, value in choice.parameters.items() if name not in cost_only})
    return found


def _targets(grid: Grid) -> Iterator[tuple[str, str | None]]:
    """(what the task is loaded by, the model's name) for each task, and each model if it runs on any."""
    from ... import tasks

    for source in dict.fromkeys(name for pattern in grid.task for name in names.tasks(pattern)):
        for model in grid.model or (None,) if tasks.runs_on_any_model(source) else (None,):
            yield source, model


def _subject(
    source: str, model: str | None, prompts: int | None, models: Sequence[str] | None, absent: dict
) -> Subject | None:
    """A task on a model; ``None`` where the model is not to be had or cannot be asked, and then ``absent`` says why."""
    wanted = model is None or models is None or any(names.matches(names.label(model), known) for known in models)
    if not wanted:
        absent[model] = LEFT_OUT
    if model in absent:
        return None
    try:
        return subject(source, model, prompts=prompts)
    except ModelAbsent as error:
        absent[model] = error
    except TaskUnaskable as error:
        if model is None:
            raise
        absent[_both(source, model)] = error
    return None


def _printable(name: str) -> str:
    """A name as it is recorded and shown: a folder or a file may be called anything."""
    return name if name.isprintable() else one_line(name)


def _both(source: str, model: str | None) -> str:
    return f"{names.label(model or source)} ({names.label(source)})"


def _combinations(
    grid: Grid, choice: MethodChoice, task_source: str, objective: str | None = None
) -> Iterator[tuple[str, str | None, int | None]]:
    """(ablation, objective, seed) of a method's cells on a task and a model.

    A method that looks at no objective has one cell, not one per objective; only what draws by chance has a seed.

    Args:
        objective: the task's own on the model at hand; what the task says of itself where it is not loaded. They differ
            for a prompt file whose answers the model's tokenizer parts into several tokens.
    """
    from ... import tasks

    method = names.method(choice.name)
    objectives = (
        (None,) if method.objectives is None else grid.objective or (objective or tasks.load(task_source).objective,)
    )
    for ablation in grid.ablation:
        chance = method.stochastic or names.ablation(ablation).stochastic
        for objective in objectives:
            for seed in (choice.seed or grid.seed) if chance else (None,):
                yield ablation, objective, seed


def _cost_only(choice: MethodChoice, ablation: str) -> list[str]:
    return sorted(names.method(choice.name).cost_only_under(names.ablation(ablation)))


def _jobs(spec: Spec, grid: Grid, target: tuple[str, Subject], choice: MethodChoice) -> Iterator[Job]:
    task_source, on = target
    method, parameters = names.method(choice.name), choice.parameters
    sources = Sources(task_source, on.model_source, names.source(choice.name), grid.prompts)
    minimal = None if on.truth is None else on.truth.minimal_hash
    listed = {"minimal": minimal} if minimal else {}  # left out where there is none, so that other keys stay
    for ablation_name, objective, seed in _combinations(grid, choice, task_source, on.task.objective):
        cost_only = _cost_only(choice, ablation_name)
        cell = Cell(
            key_version=KEY_VERSION,
            task=_printable(names.label(on.task.name)),
            data=on.data.hash,
            model=_printable(names.label(on.model_source)),
            weights=on.model.weights_hash,
            graph=on.model.graph.hash,
            truth=None if on.truth is None else on.truth.certificate_hash,
            method=_printable(choice.called or method.name),
            version=method.version,
            parameters=plain({name: value for name, value in parameters.items() if name not in cost_only}),
            ablation=str(names.ablation(ablation_name)),
            objective=objective,
            seed=seed,
            **listed,
        )
        left_out = next((rule.because for rule in spec.left_out if rule.covers(cell)), None)
        no_meaning = _why_undefined(method, ablation_name, objective, on)
        yield Job(cell, sources, parameters, f"left out of {spec.name}: {left_out}" if left_out else no_meaning)


def _evaluation(spec: Spec, on: Subject, prompts: int | None) -> Evaluation | None:
    """What is measured of circuits found on a subject, with what has no meaning there."""
    if spec.evaluation is None:
        return None
    evaluation = spec.evaluation.of(on.task, prompts)
    data = limit_prompts(on.task.data(evaluation.split), evaluation.prompts)
    reasons = {text: Setting.parse(text).undefined(data, on.model) for text in evaluation.settings}
    return replace(evaluation, undefined={text: reason for text, reason in reasons.items() if reason})


def _behaviour(
    spec: Spec, on: Subject, evaluation: Evaluation | None
) -> tuple[BehaviourIdentity | None, tuple[TaskGate, ...]]:
    """What is measured of a subject's model before its cells run, and the gates on it.

    Raises:
        SpecError: a gate asks what cannot be measured.
    """
    found = behaviour_of(on, evaluation)
    task, model = names.label(on.task.name), names.label(on.model_source)
    gates = tuple(gate for gate in spec.gate if gate.covers(task, model))
    if not isinstance(found, str):
        return found, gates
    if gates:
        raise SpecError(f"the gate on {task} cannot be measured: {found}; leave this task out of it.")
    return None, ()


def _why_undefined(method: Method, ablation_name: str, objective_name: str | None, on: Subject) -> str | None:
    ablation = names.ablation(ablation_name)
    objective = None if objective_name is None else names.objective(objective_name)
    config = on.model.config
    if "truth" in method.needs and on.reference(ablation) is None:
        return (
            f"{method.name} needs a certified truth, and {names.label(on.task.name)} is not certified under {ablation}"
        )
    return (
        ablation.undefined(on.data)
        or (objective and objective.undefined(on.data, config))
        or method.undefined(ablation, objective, on.data, config)
    )
