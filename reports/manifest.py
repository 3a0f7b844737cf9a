"""A paper's manifest: what it reports, with source and tolerance, and where our number for each value comes from.

    title = "..."                              # and citation, about, measure: what the numbers are
    [[part]]                                   # what is run, as a benchmark; several parts share a store
    name      = "tracr"
    benchmark = { grid = [{ task = [...], method = [...], ablation = [...] }] }    # or the name of a built-in one
    model     = "gpt2"                         # the language model that the paper uses, where it uses one

    [[value]]
    name      = "reverse, patch: ACDC"
    group     = "Tracr"                        # a panel of the figure; row and series place the value in it
    reported  = 1.0
    tolerance = 0.005
    source    = "Figure 5"
    cells     = { task = "tracr/reverse@fixed", label = "acdc", ablation = "patch", metric = "auroc" }
    points    = { where = { task = "ioi", objective = "kl_div" }, kind = "edge" }  # or: from the paper's own points

    [[table]]                                  # many values at once, from a file beside the manifest
    [[note]]                                   # why values differ or are not run, by a pattern of their names
    values    = "* zero: *"
    because   = "..."

Manifests are ``papers/NAME.toml``; files that they name are in ``papers/NAME/``.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..suite.errors import SpecError, unknown

EXTENSION = ".toml"
_STRICT = ConfigDict(extra="forbid", frozen=True)


class Part(BaseModel):
    """Cells that a paper needs: a benchmark, and the language model that the paper ran it on, if it is one."""

    model_config = _STRICT
    name: str = Field(pattern=r"^[a-z0-9-]+$")
    benchmark: str | dict[str, Any]
    model: str | None = None


class Points(BaseModel):
    """Which published curve an area is taken of."""

    model_config = _STRICT
    where: dict[str, str]
    kind: Literal["edge", "node"]


class Cells(BaseModel):
    """Which rows of a store's recovery table a number is taken of, and how they are summed up.

    With ``circuit`` it is taken of the circuits that the method itself returned, not of its scores.
    """

    model_config = _STRICT
    task: str
    label: str | None = None
    method: str | None = None
    ablation: str
    truth_ablation: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    metric: str
    circuit: bool = False
    statistic: Literal["mean", "median", "max"] = "mean"


class Evaluated(BaseModel):
    """Which point of a curve of faithfulness over size a number is taken of."""

    model_config = _STRICT
    task: str
    method: str
    evaluation_ablation: str
    size: float


class Value(BaseModel):
    """A number that a paper reports, and where ours comes from: nowhere, when it cannot be had."""

    model_config = _STRICT
    name: str
    reported: float
    tolerance: float = 0.0005
    source: str = ""
    group: str = ""
    row: str = ""
    series: str = ""
    part: str | None = None
    points: Points | None = None
    cells: Cells | None = None
    evaluated: Evaluated | None = None


class Table(BaseModel):
    """The areas of a paper's table: a value for each of its entries.

    ``rows`` says which published curves an entry is the area of, by the name of its row.
    """

    model_config = _STRICT
    file: str
    source: str
    tolerance: float = 0.0005
    rows: dict[str, dict[str, str]]


class Note(BaseModel):
    """Why the values whose names match differ, or are not run."""

    model_config = _STRICT
    values: str
    because: str


class Manifest(BaseModel):
    """Everything that is reproduced of one paper."""

    model_config = _STRICT
    name: str
    title: str
    citation: str
    about: str
    measure: str = "Value"
    part: tuple[Part, ...] = ()
    value: tuple[Value, ...] = ()
    table: tuple[Table, ...] = ()
    note: tuple[Note, ...] = ()
    points: tuple[str, ...] = ()

    @property
    def values(self) -> tuple[Value, ...]:
        """Every value, those of tables among them."""
        return (*self.value, *(value for table in self.table for value in self._of(table)))

    def because(self, name: str) -> str | None:
        """Why the value of this name differs or is not run: the first note that matches."""
        return next((note.because for note in self.note if fnmatchcase(name, note.values)), None)

    def curves(self) -> list[dict[str, Any]]:
        """The published curves: each has a method, an ablation, a task, an objective, and points."""
        found = []
        for name in self.points:
            contents = self.read(name)
            found += [{"method": "acdc", "ablation": "corrupted", **curve} for curve in contents["curves"]]
        return found

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file beside the manifest."""
        return json.loads(folder().joinpath(self.name, name).read_text(encoding="utf-8"))

    def _of(self, table: Table) -> Iterator[Value]:
        contents = self.read(table.file)
        for ablation, rows in contents["tables"].items():
            for row, numbers in rows.items():
                for (level, method), number in zip(contents["columns"], numbers, strict=True):
                    where = {**table.rows[row], "method": method, "ablation": ablation}
                    yield Value(
                        name=f"{ablation}, {level}: {row}, {method}",
                        reported=number,
                        tolerance=table.tolerance,
                        source=table.source,
                        group=f"{ablation}, {level}",
                        row=row,
                        series=method,
                        points=Points(where=where, kind=level.removesuffix("s")),
                    )


def folder():
    """Where the manifests are."""
    return files(__package__).joinpath("papers")


def papers() -> list[str]:
    """The papers that can be reproduced, sorted."""
    names = (entry.name for entry in folder().iterdir())
    return sorted(name.removesuffix(EXTENSION) for name in names if name.endswith(EXTENSION))


def load(name: str) -> Manifest:
    """The manifest of a paper. Raises SpecError when there is none of this name, or it is no manifest."""
    if name not in papers():
        raise SpecError(unknown("paper", name, papers()))
    contents = tomllib.loads(folder().joinpath(f"{name}{EXTENSION}").read_text(encoding="utf-8"))
    try:
        return Manifest.model_validate({"name": name, **contents})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        raise SpecError(f"the manifest {name}{EXTENSION} is wrong: {problems}.") from error
