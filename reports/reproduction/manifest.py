"""A paper's manifest: what it reports, with source and tolerance, and where our number for each value comes from.

    title = "..."                              # and citation, about, measure: what the numbers are
    [[part]]                                   # what is run, as a benchmark; several parts share a store
    name      = "tracr"
    benchmark = { grid = [{ task = [...], method = [...], ablation = [...] }] }    # or the name of a built-in one
    model     = "gpt2"                         # the language model that the paper uses, where it uses one
    elsewhere = { grid = [...] }               # the benchmark on another model; the sizes of circuits there that stand
    sizes     = [[0.03, 0.3]]                  # beside the paper's; its task stands beside the same without a variant

    [[value]]
    name      = "reverse, patch: ACDC"
    group     = "Tracr"                        # a panel of the figure; row and series place the value in it
    reported  = 1.0
    tolerance = 0.005
    source    = "Figure 5"
    measured  = { table = "recovery", where = { task = "tracr/reverse@fixed", own = true }, column = "auroc" }
    points    = { where = { task = "ioi", objective = "kl_div" }, kind = "edge" }  # or: from the paper's own points

    [[comparison]]                             # of every value: what it is, and what makes ours comparable with it
    values    = "reverse, *"                   # a pattern of names; the first that matches counts
    quantity  = "area under the ROC curve over edges"
    unit      = "fraction"
    on        = "Tracr-Reverse, six permutations"
    ours      = "the same on tracr/reverse@permutations3"
    but       = "..."                          # what differs and leaves the two comparable
    unlike    = "..."                          # or why they are not: the verdict is "not comparable"

    [spelling]                                 # our names -> the paper's, in the paper's order
    [objectives]                               # of published points: their names in the files -> the paper's
    acdc      = "ACDC"

    [[table]]                                  # many values at once, from a file beside the manifest
    [[figure]]                                 # what is drawn of a table: measured, reported, or one beside the other
    [[gallery]]                                # figures of the report, of a part's cells alone
    [[card]]                                   # a sensitivity card
    [[note]]                                   # why values differ, by a pattern of their names
    values    = "* zero: *"
    because   = "..."
    not_run   = "..."                          # or why they cannot be had

Manifests are ``papers/NAME.toml``; files that they name are in ``papers/NAME/``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ...suite.errors import SpecError, one_line, unknown
from ...suite.reading import checked, read_json, read_toml, reading
from ..read.published import CurvesFile, PublishedCurve, RowsFile, TablesFile
from .entries import Card, Comparison, Drawing, Note, PaperPart, Points, ReportedTable, ReportedValue, Shown

_BETWEEN = ", |: "
"""What stands between the parts of a name."""

_EXTENSION = ".toml"
Beside = TypeVar("Beside", CurvesFile, RowsFile, TablesFile)


class Manifest(BaseModel):
    """Everything that is reproduced of one paper."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    title: str
    citation: str
    about: str
    measure: str = "Value"
    part: tuple[PaperPart, ...] = ()
    value: tuple[ReportedValue, ...] = ()
    table: tuple[ReportedTable, ...] = ()
    comparison: tuple[Comparison, ...] = ()
    note: tuple[Note, ...] = ()
    figure: tuple[Drawing, ...] = ()
    gallery: tuple[Shown, ...] = ()
    card: tuple[Card, ...] = ()
    points: tuple[str, ...] = ()
    spelling: dict[str, str] = Field(default_factory=dict)
    objectives: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _every_value_says_what_it_is_compared_with(self) -> Manifest:
        for value in self.values:
            found = next((each for each in self.comparison if fnmatchcase(value.name, each.values)), None)
            if found is None:
                raise ValueError(f"the value {value.name!r} is not said to be comparable: no [[comparison]] is of it")
            if bool(found.ours) != bool(value.measured or value.points):
                there = "measured, but not said" if value.measured or value.points else "said, but not measured"
                raise ValueError(f"what ours is of the value {value.name!r} is {there}")
        return self

    def compared(self, name: str) -> Comparison:
        """What makes the value of this name comparable with ours, or not."""
        return next(each for each in self.comparison if fnmatchcase(name, each.values))

    def spelled(self, text: Any) -> Any:
        """A method or task as the paper spells it; each part of a text with commas or colons."""
        if not isinstance(text, str):
            return text
        return "".join(self.spelling.get(part, part) for part in re.split(f"({_BETWEEN})", text))

    def in_order(self, texts: Iterable[Any]) -> dict[Any, int]:
        """The place of each of ``texts``, spelled already: the paper's order, then that in which they come."""
        known = {text: i for i, text in enumerate(dict.fromkeys(self.spelling.values()))}
        parts = {text: re.split(_BETWEEN, str(text)) for text in texts}
        ordered = sorted(parts, key=lambda text: [known.get(part, len(known)) for part in parts[text]])
        return {text: i for i, text in enumerate(ordered)}

    def spelled_curves(self) -> list[PublishedCurve]:
        """The published curves that have points, in the paper's order and spelling."""
        curves = [
            curve.model_copy(
                update={
                    "method": self.spelled(curve.method),
                    "task": self.spelled(curve.task),
                    "objective": self.objectives.get(curve.objective, curve.objective),
                }
            )
            for curve in self.curves()
            if curve.points
        ]
        tasks, methods = (self.in_order(getattr(curve, name) for curve in curves) for name in ("task", "method"))
        return sorted(curves, key=lambda curve: (tasks[curve.task], methods[curve.method]))

    @property
    def values(self) -> tuple[ReportedValue, ...]:
        """Every value, those of tables among them."""
        found = list(self.value)
        for table in self.table:
            with reading(f"{self.name}/{table.file}", SpecError):
                found += self._of(table)
        return tuple(found)

    @property
    def drawn(self) -> list[str]:
        """The titles of the figures that are drawn; those of the report by their names."""
        found = ["Reported and reproduced"] if self.values else []
        if any(curve.points for curve in self.curves()):
            found += [f"Published ROC points, {level}" for level in ("edges", "nodes")]
        found += [drawing.title for drawing in self.figure]
        found += [f"{name}, of the report on {shown.part}" for shown in self.gallery for name in shown.figures]
        return found + [card.title for card in self.card]

    @property
    def promised(self) -> str:
        """What ``reproduce`` does of the paper: ``judges 104 values, draws 5 figures``."""
        n, figures = len(self.values), f"draws {len(self.drawn)} figure{'s' * (len(self.drawn) != 1)}"
        return f"judges {n} value{'s' * (n != 1)}, {figures}" if n else f"judges no value, {figures}"

    def because(self, name: str) -> str | None:
        """Why the value of this name differs: the first such note that matches."""
        return next((note.because for note in self.note if note.because and fnmatchcase(name, note.values)), None)

    def not_run(self, name: str) -> str | None:
        """Why the value of this name cannot be had, whatever is run: the first such note that matches."""
        return next((note.not_run for note in self.note if note.not_run and fnmatchcase(name, note.values)), None)

    def benchmarks(self, part: str) -> list[str]:
        """What the benchmarks of the parts of this name are called in the store: a built-in one by its own name."""
        return [
            each.benchmark if isinstance(each.benchmark, str) else f"{self.name}-{each.name}"
            for each in self.part
            if fnmatchcase(each.name, part)
        ]

    def instead(self, part: str | None, model: str | None) -> str:
        """Which model was taken instead of the paper's, in parts of this name or in any; nothing where it is its."""
        parts = [each for each in self.part if fnmatchcase(each.name, part or "*")]
        wanted = sorted({each.model for each in parts if each.model and not is_the_papers(model, each.model)})
        return f"ours: run on {model}, not on {', '.join(wanted)}" if model and wanted else ""

    def curves(self) -> list[PublishedCurve]:
        """The published curves."""
        return [curve for name in self.points for curve in self.read(CurvesFile, name).curves]

    def read(self, kind: type[Beside], name: str) -> Beside:
        """A JSON file of this kind that is beside the manifest."""
        path = Path(str(papers_folder())) / self.name / name
        return checked(kind, read_json(path, error=SpecError), path, SpecError)

    def _of(self, table: ReportedTable) -> Iterator[ReportedValue]:
        contents = self.read(TablesFile, table.file)
        for group, rows in contents.tables.items():
            for row, numbers in rows.items():
                for column, number in zip(contents.columns, numbers, strict=True):
                    if number is not None:
                        yield self._entry(table, group, row, column, number)

    def _entry(
        self, table: ReportedTable, group: str, row: str, column: str | tuple[str, str], number: float
    ) -> ReportedValue:
        """The value of one entry; of a table of areas a column is (level, method), and the group an ablation."""
        same: dict[str, Any] = {
            "reported": number,
            "tolerance": table.tolerance,
            "source": table.source,
            "part": table.part,
        }
        if isinstance(column, str):
            about: dict[str, Any] = {"name": f"{group}, {row}: {column}", "group": group, "row": row, "series": column}
            return ReportedValue(**same, **about, measured=table.filled(group, row, column))
        level, method = column
        where = table.rows[row].model_copy(update={"method": method, "ablation": group})
        about = {"name": f"{group}, {level}: {row}, {method}", "group": f"{group}, {level}", "row": row}
        points = Points.model_validate({"where": where, "kind": level.removesuffix("s")})
        return ReportedValue(**same, **about, series=method, points=points)


@cache
def is_the_papers(model: str | None, wanted: str) -> bool:
    """Whether a model is the paper's: it has its name, or is a folder with the weights that the name is pinned to."""
    from ...suite.model.load import hub

    return model == wanted or (model is not None and Path(model).is_dir() and hub.is_pinned(Path(model), wanted))


def papers_folder():
    """Where the manifests are."""
    return files(__package__).joinpath("papers")


def papers() -> list[str]:
    """The papers that can be reproduced, sorted."""
    names = (entry.name for entry in papers_folder().iterdir())
    return sorted(name.removesuffix(_EXTENSION) for name in names if name.endswith(_EXTENSION))


def load(name: str) -> Manifest:
    """The manifest of a paper. Raises SpecError when no manifest has this name, or it is not valid."""
    if name not in papers():
        raise SpecError(unknown("paper", name, papers()))
    contents = read_toml(Path(str(papers_folder())) / f"{name}{_EXTENSION}", error=SpecError)
    try:
        return Manifest.model_validate({"name": name, **contents})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        raise SpecError(f"the manifest {name}{_EXTENSION} is wrong: {one_line(problems, 1000)}.") from error
