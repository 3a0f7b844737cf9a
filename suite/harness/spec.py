"""A benchmark: a TOML file that reads like a paper's experimental section, and expands to cells.

    description = "what it measures"
    [grid]
    task      = ["tracr/*", "tracr/reverse@fixed"]
    method    = ["eap", { name = "eap-ig", steps = 30 }, { name = "random", seed = [0, 1, 2] }]
    ablation  = ["patch", "zero"]
    objective = ["answer-difference"]        # each task's own where omitted
    seed      = [0]

    [[except]]
    method   = "acdc"
    ablation = "zero"
    because  = "why is part of the file"

Several ``[[grid]]`` tables are allowed. A glob stands for the names it matches; variants (``tracr/reverse@fixed``) are
matched only by a glob that has an ``@`` itself.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from ..errors import CircuitMeterError, SpecError, unknown
from . import names
from .cell import Cell

EXTENSION = ".toml"


def benchmarks() -> list[str]:
    """Names of the built-in benchmarks, sorted."""
    folder = files("circuitmeter.suite.benchmarks")
    return sorted(entry.name.removesuffix(EXTENSION) for entry in folder.iterdir() if entry.name.endswith(EXTENSION))


def _that_is(check: Callable[[str], Any]) -> AfterValidator:
    """A validator that keeps a value when ``check`` accepts it; pydantic gathers what the checks say."""

    def validate(value: Any) -> Any:
        try:
            check(value)
        except CircuitMeterError as error:
            raise ValueError(str(error)) from error
        return value

    return AfterValidator(validate)


_listed = BeforeValidator(lambda value: value if isinstance(value, (list, tuple)) else [value])
_some = Field(min_length=1)
TaskName = Annotated[str, _that_is(names.tasks)]
AblationName = Annotated[str, _that_is(names.ablation)]
ObjectiveName = Annotated[str, _that_is(names.objective)]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0, strict=True)], ...], _listed, _some]
Patterns = Annotated[tuple[str, ...], _listed, _some]


class MethodChoice(BaseModel):
    """A method with its parameters: a name, or a table with a preset, seeds of its own, and parameters by name."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str
    preset: str | None = None
    seed: Seeds | None = None

    @property
    def overrides(self) -> dict[str, Any]:
        """The parameters that the spec gives; the others have the preset's values, or the method's own."""
        return dict(self.model_extra or {})

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


def _resolves(choice: MethodChoice) -> None:
    names.method(choice.name).resolve(choice.overrides, choice.preset)


class Grid(BaseModel):
    """Everything in it is crossed with everything else. ``model`` is for tasks that run on any model."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    task: Annotated[tuple[TaskName, ...], _listed, _some]
    method: Annotated[tuple[Annotated[MethodChoice, _that_is(_resolves)], ...], _listed, _some]
    ablation: Annotated[tuple[AblationName, ...], _listed, _some]
    objective: Annotated[tuple[ObjectiveName, ...], _listed, _some] | None = None
    model: Patterns | None = None
    seed: Seeds = (0,)


class Exception_(BaseModel):
    """Cells that the benchmark leaves out, and why; each key given must match (names or globs)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    because: Annotated[str, Field(min_length=1)]
    task: Patterns | None = None
    method: Patterns | None = None
    ablation: Patterns | None = None
    objective: Patterns | None = None

    def covers(self, cell: Cell) -> bool:
        """Whether the cell is one of those left out."""
        fields = ("task", "method", "ablation", "objective")
        given = {name: getattr(self, name) for name in fields if getattr(self, name) is not None}
        return bool(given) and all(
            any(names.matches(getattr(cell, name), pattern) for pattern in patterns) for name, patterns in given.items()
        )


class Spec(BaseModel):
    """A benchmark, checked: every name in it exists and every parameter is one that its method has.

    Args:
        name: the benchmark's name; a file's is its stem.
        description: what it measures.
        grid: the cells, as one or several products.
        exceptions: the ``[[except]]`` tables: cells that are left out, each with its reason.
        timeout_seconds: how long one cell may take; ``None`` is as long as it needs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    description: str = ""
    grid: Annotated[tuple[Grid, ...], _listed, _some]
    exceptions: Annotated[tuple[Exception_, ...], _listed] = Field(default=(), alias="except")
    timeout_seconds: Annotated[float, Field(gt=0)] | None = None

    @classmethod
    def load(cls, source: str | Path) -> Spec:
        """Reads a benchmark: the path of a TOML file, or the name of a built-in one.

        Raises:
            SpecError: no such benchmark, no TOML, or everything that is wrong with it, in one line.
        """
        path = Path(source)
        if path.suffix == EXTENSION or path.exists():
            try:
                return cls.parse(path.read_text(), name=path.stem, folder=path.parent)
            except OSError as error:
                raise SpecError(f"cannot read the benchmark {path}: {error.strerror or error}.") from error
            except UnicodeDecodeError as error:
                raise SpecError(f"{path} is not a text file; a benchmark is TOML.") from error
        if str(source) not in benchmarks():
            raise SpecError(unknown("benchmark", str(source), benchmarks(), "Or give the path of a TOML file."))
        text = files("circuitmeter.suite.benchmarks").joinpath(f"{source}{EXTENSION}").read_text()
        return cls.parse(text, name=str(source))

    @classmethod
    def parse(cls, text: str, *, name: str, folder: Path | None = None) -> Spec:
        """Reads a benchmark from TOML text; paths in it are relative to ``folder``. Raises SpecError."""
        try:
            contents = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SpecError(f"the benchmark {name!r} is not TOML: {error}.") from error
        with names.relative_to(folder or Path.cwd()):
            return cls.of({"name": name, **contents})

    @classmethod
    def of(cls, contents: dict[str, Any]) -> Spec:
        """Makes a benchmark from what its TOML would hold. Raises SpecError with everything that is wrong."""
        try:
            return cls.model_validate(contents)
        except ValidationError as error:
            problems = dict.fromkeys(_sentence(problem) for problem in error.errors())
            raise SpecError(f"benchmark {contents.get('name', '')!r}: {'; '.join(problems)}.") from error
