"""A benchmark: a TOML file that reads like a paper's experimental section, and expands to cells.

    description = "what it measures"
    [grid]
    task      = ["tracr/*", "tracr/reverse@fixed"]
    method    = ["eap", { name = "eap-ig", steps = 30 }, { name = "random", seed = [0, 1, 2] }]
    ablation  = ["patch", "zero"]
    objective = ["answer-difference"]        # each task's own where omitted
    seed      = [0]
    model     = ["gpt2", "mini"]             # for tasks that run on any; one that is not here is reported as not run
    prompts   = 50                           # the first of each task's, in the evaluation too; all where omitted

    [[except]]
    method   = "acdc"
    ablation = "zero"
    because  = "why is part of the file"

    [[gate]]                                 # a model that does a task worse than this is not run on it
    task     = "ioi"
    accuracy = 0.9

    [evaluation]                             # of every circuit that is found; left out: recovery alone
    ablation = ["patch", "zero"]             # and any other factor of the ablation grid (setting.py)
    size     = ["true", 0.01, 0.1]

    [evaluation.stability]                   # do circuits stay when prompts are resampled? Left out: not asked
    resamples = 300

    [evaluation.controls]                    # nulls, the worst part of the complement, exact patching? Left out: no
    edges = 100

Several ``[[grid]]`` tables are allowed. A glob stands for the names it matches; variants (``tracr/reverse@fixed``) are
matched only by a glob that has an ``@`` itself. A task may be a prompt file (``prompts.jsonl``, EAP-IG's CSV,
auto-circuit's JSON), with a ``model``. Paths are relative to the folder that the command runs in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import SpecError, unknown
from ..intervention.levels import FACTORS, LEVELS
from ..intervention.setting import grid
from ..reading import read_toml, reading
from ..selection import Selection
from . import names
from .evaluation import SIZES, Evaluation
from .gate import TaskGate
from .spec_values import AnyNumber, OneOrMore, that_is
from .structure_choice import ControlsChoice, StabilityChoice
from .subject import limit_prompts

if TYPE_CHECKING:
    from ...tasks.task import Task
    from ..store.record import Cell

_EXTENSION = ".toml"


def benchmarks() -> list[str]:
    """Names of the built-in benchmarks, sorted."""
    folder = files("circuitmeter.suite.benchmarks")
    return sorted(entry.name.removesuffix(_EXTENSION) for entry in folder.iterdir() if entry.name.endswith(_EXTENSION))


_PromptCount = Annotated[int, Field(gt=0, strict=True)]
_SeedList = OneOrMore[Annotated[int, Field(ge=0, strict=True)]]


class MethodChoice(BaseModel):
    """A method with its parameters: a name, or a table with a preset, seeds of its own, what it is called in store and
    report, and parameters by name."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)
    name: str
    """A registered method, a function of yours, `my_method.py:discover`, or an adapter, `external:MODULE:ADAPTER`."""
    preset: str | None = None
    """A named set of parameters of the method; the other keys of this table override them."""
    seed: _SeedList | None = None
    """Seeds of this method, if it draws by chance; by default those of the grid."""
    called: Annotated[str, that_is(names.own_name)] | None = None
    """The method's name in store and report, which no registered method may have; by default the registered name."""

    @property
    def overrides(self) -> dict[str, Any]:
        """The parameters that the spec gives; the others have the preset's values, or the method's own."""
        return dict(self.model_extra or {})

    @property
    def parameters(self) -> dict[str, Any]:
        """Every parameter of the method. Raises SpecError for one that it does not have."""
        return names.method(self.name).resolve(self.overrides, self.preset)

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Grid(BaseModel):
    """Everything in it is crossed with everything else. ``model`` is for tasks that run on any model; ``prompts``: the
    first how many of a task's prompts, where not all."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
    task: OneOrMore[Annotated[str, that_is(names.tasks)]]
    """Names or globs of tasks, folders that `circuitmeter truth` wrote, prompt files."""
    method: OneOrMore[Annotated[MethodChoice, that_is(lambda choice: choice.parameters)]]
    """Names of methods, or tables (below)."""
    ablation: OneOrMore[Annotated[str, that_is(names.ablation)]]
    """What cut edges carry while a method searches (`circuitmeter list ablations`)."""
    objective: OneOrMore[Annotated[str, that_is(names.objective)]] | None = None
    """What methods optimise (`circuitmeter list objectives`); by default each task's own objective."""
    model: OneOrMore[str] | None = None
    """Models for tasks that run on any model. A model that is not on this machine is reported as not run."""
    seed: _SeedList = (0,)
    """Seeds of methods and ablations that draw by chance; the others run once."""
    prompts: _PromptCount | None = None
    """How many of each task's prompts are used, the first ones (of a program's inputs, as many drawn), in the
    evaluation too; by default all."""


class LeftOut(BaseModel):
    """Cells that the benchmark leaves out, and why. Every key that is given must match, by a name or a glob."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
    because: Annotated[str, Field(min_length=1)]
    """The reason, which `plan` prints."""
    task: OneOrMore[Annotated[str, that_is(names.tasks)]] | None = None
    """Names or globs of tasks."""
    method: OneOrMore[Annotated[str, that_is(names.method_pattern)]] | None = None
    """Names or globs of methods."""
    ablation: OneOrMore[Annotated[str, that_is(names.ablation_pattern)]] | None = None
    """Names or globs of ablations."""
    objective: OneOrMore[Annotated[str, that_is(names.objective_pattern)]] | None = None
    """Names or globs of objectives."""

    @model_validator(mode="after")
    def _matches_something(self) -> LeftOut:
        if not self._given:
            raise ValueError("give at least one of task, method, ablation, objective")
        return self

    @property
    def _given(self) -> dict[str, tuple[str, ...]]:
        fields = ("task", "method", "ablation", "objective")
        return {name: getattr(self, name) for name in fields if getattr(self, name) is not None}

    def covers(self, cell: Cell) -> bool:
        """Whether the cell is one of those left out."""
        matches = {"task": names.matches_task}
        return all(
            any(matches.get(name, names.matches)(getattr(cell, name), pattern) for pattern in patterns)
            for name, patterns in self._given.items()
        )


def _level_of(factor: str) -> AfterValidator:
    """A validator that keeps a level of a factor of the ablation grid."""
    checks: dict[str, Callable[[str], Any]] = {"ablation": names.ablation, "objective": names.objective}
    return that_is(checks.get(factor, lambda level: _level(factor, level)))


def _level(factor: str, level: str) -> None:
    if level not in LEVELS[factor]:
        raise SpecError(unknown(factor, level, LEVELS[factor]))


def _size(size: float | str) -> None:
    if size not in SIZES and not (isinstance(size, float) and 0 < size <= 1):
        raise SpecError(f"size {size!r}: give a fraction of the edges, above 0 and at most 1, or {' or '.join(SIZES)}.")


class EvaluationChoice(BaseModel):
    """What is measured of the circuits: all factors of the ablation grid crossed, at every size."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
    ablation: OneOrMore[Annotated[str, _level_of("ablation")]]
    """What cut edges carry when a circuit is run."""
    component: OneOrMore[Annotated[str, _level_of("component")]] = ("edge",)
    """What is cut together."""
    embedding: OneOrMore[Annotated[str, _level_of("embedding")]] = ("own",)
    """Which input nodes the graph has."""
    set: OneOrMore[Annotated[str, _level_of("set")]] = ("complement",)
    """What is cut: all but the circuit, or the circuit itself."""
    direction: OneOrMore[Annotated[str, _level_of("direction")]] = ("noising",)
    """A clean run in which edges are corrupted, or a corrupted run in which edges are clean."""
    pruning: OneOrMore[Annotated[str, _level_of("pruning")]] = ("pruned",)
    """Whether circuits are run without dead ends, or with them."""
    positions: OneOrMore[str] = ("all",)
    """Where edges are cut: `all`, or names of the task's positions, joined by `+`."""
    objective: OneOrMore[Annotated[str, _level_of("objective")]] | None = None
    """What is measured; by default each task's own objective."""
    aggregation: OneOrMore[Annotated[str, _level_of("aggregation")]] = ("ratio-of-means",)
    """How prompts are summed up."""
    reference: OneOrMore[Annotated[str, _level_of("reference")]] = ("cut-graph",)
    """The run that counts as faithfulness 0."""
    size: OneOrMore[Annotated[float | str, that_is(_size)]] = ("true",)
    """A fraction of the edges, above 0 and at most 1; `true` is as many as the certified circuit has, `native`
    are the circuits that the method itself returned; `confident`, the edges whose bootstrap interval over prompts
    excludes 0, and `null`, those above what random signs of the prompts' scores give, find their own size."""
    selection: Selection = "top-n"
    """How a circuit of a size is made from scores."""
    absolute: bool = True
    """Whether edges are ranked by absolute score."""
    by_template: bool = False
    """Whether the faithfulness on each template's prompts is reported as well."""
    split: str | None = None
    """Which of the task's prompts are run; by default `test` if the task has this split, else `train`."""
    batch_size: Annotated[int, Field(gt=0)] | None = None
    """Prompts at a time; by default chosen from the model's size."""
    prompts: _PromptCount | None = None
    """How many prompts of the split are run, the first ones; by default as many as in the grid."""
    stability: StabilityChoice | None = None
    """How much circuits change when prompts are drawn anew (a table, below); by default not measured."""
    controls: ControlsChoice | None = None
    """Nulls, adversaries and exact patching (a table, below); by default not measured."""

    def of(self, task: Task, prompts: int | None = None) -> Evaluation:
        """The evaluation of circuits of a task: on the split asked for, else on its test split where it has one.

        Args:
            prompts: how many the grid takes of the task, which holds here too unless ``prompts`` is given.
        """
        split = self.split or ("test" if "test" in task.splits else "train")
        factors = {name: getattr(self, name) for name in FACTORS}
        settings = grid(**factors | {"objective": self.objective or (task.objective,)})
        chosen = tuple(map(str, settings)), self.size, self.selection, self.absolute
        limit = self.prompts or prompts
        data = limit_prompts(task.data(split), limit)
        structure = (
            None if self.stability is None else self.stability.asked(),
            None if self.controls is None else self.controls.asked(),
        )
        return Evaluation(*chosen, split, data.hash, self.batch_size, limit, self.by_template, *structure)


class Spec(BaseModel):
    """A benchmark, checked: every name in it exists and every parameter is one that its method has."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """The benchmark's name; by default the file's name without its ending."""
    description: str = ""
    """What it measures."""
    grid: OneOrMore[Grid]
    """The cells, as one product or several."""
    left_out: AnyNumber[LeftOut] = Field(default=(), alias="except")
    """Cells that are not run, each with its reason."""
    gate: AnyNumber[TaskGate] = ()
    """What models must do of tasks before they are searched."""
    evaluation: EvaluationChoice | None = None
    """What is measured of the circuits that are found."""
    timeout_seconds: Annotated[float, Field(gt=0)] | None = None
    """How long one cell may take; `run --time-limit` comes first, and without both it is six hours."""

    @classmethod
    def load(cls, source: str | Path) -> Spec:
        """Reads a benchmark: the path of a TOML file, or the name of a built-in one.

        Raises:
            SpecError: no such benchmark, no TOML, or everything that is wrong with it, in one line.
        """
        path = Path(source)
        if path.suffix != _EXTENSION and str(source) not in benchmarks():
            raise SpecError(unknown("benchmark", str(source), benchmarks(), f"Or give a {_EXTENSION} file."))
        if path.suffix != _EXTENSION:
            path = Path(str(files("circuitmeter.suite.benchmarks").joinpath(f"{source}{_EXTENSION}")))
        contents = read_toml(path, error=SpecError)
        with reading(f"the benchmark {path}", SpecError):
            return cls.of({"name": path.name.removesuffix(_EXTENSION), **contents})

    @classmethod
    def of(cls, contents: dict[str, Any]) -> Spec:
        """Makes a benchmark from what its TOML would hold. Raises SpecError with everything that is wrong."""
        try:
            return cls.model_validate(contents)
        except ValidationError as error:
            problems = dict.fromkeys(_sentence(problem) for problem in error.errors())
            raise SpecError(f"benchmark {contents.get('name', '')}: {'; '.join(problems)}.") from error

    def with_methods(self, methods: Iterable[str | Mapping[str, Any]]) -> Spec:
        """This benchmark with other methods; ``validate`` runs it.

        Args:
            methods: as a grid's ``method`` lists them: names, or tables with parameters.

        Raises:
            SpecError, MethodError: a method that does not exist or cannot be loaded, or a parameter that it does
                not have.
        """
        try:
            choices = tuple(MethodChoice.model_validate(entry) for entry in methods)
        except ValidationError as error:
            raise SpecError(f"{'; '.join(_sentence(problem) for problem in error.errors())}.") from error
        for choice in choices:
            _ = choice.parameters
        return self.model_copy(
            update={"grid": tuple(grid.model_copy(update={"method": choices}) for grid in self.grid)}
        )


def _keys(model: type[BaseModel]) -> list[str]:
    """The keys of a table, as the file has them."""
    return [field.alias or name for name, field in model.model_fields.items()]


_TABLES: dict[str, type[BaseModel]] = {
    "grid": Grid,
    "except": LeftOut,
    "gate": TaskGate,
    "evaluation": EvaluationChoice,
}


def _sentence(problem: Mapping[str, Any]) -> str:
    """One of pydantic's findings, as a clause that names the place, what is wrong and what is allowed."""
    place = [str(part) for part in problem["loc"] if isinstance(part, str)]
    table = _TABLES.get(place[0]) if place else None
    where = f"[{place[0]}]" if table else "the top level"
    message = problem["msg"][0].lower() + problem["msg"][1:]
    match problem["type"]:
        case "extra_forbidden":
            known = _keys(table if table and len(place) > 1 else Spec)
            homes = [] if table else [name for name, model in _TABLES.items() if place[-1] in _keys(model)]
            if homes and place[-1] not in known:
                return f"{place[-1]!r} is a key of {' or '.join(f'[{name}]' for name in homes)}, and stands above it"
            return f"{where} has {unknown('key', place[-1], known)}".rstrip(".")
        case "missing":
            return f"{where if len(place) > 1 else 'it'} lacks {place[-1]!r}"
        case "value_error":
            return str(problem["ctx"]["error"]).rstrip(".")
        case "too_short":
            message = "is empty; give one or more"
        case "model_type":
            message = f"is {problem['input']!r}: give a name or a table"
        case _:
            message = f"is {problem['input']!r}: {message}"
    return f"{' '.join([where, *place[1:]] if table else place)} {message}"
