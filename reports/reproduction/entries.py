"""What a paper's manifest consists of: parts that are run, values that are judged, figures that are drawn."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ...suite.json_model import Values
from ..read.labels import program_of
from ..read.published import WhichCurve

_STRICT = ConfigDict(extra="forbid", frozen=True)

Scalar = str | bool | int | float
Where = dict[str, Scalar | list[Scalar]]
"""Column, or parameter of a method -> its value, or several."""

TableName = Literal[
    "recovery",
    "counted",
    "circuits",
    "evaluated",
    "areas",
    "templates",
    "costs",
    "against_exact",
    "agreement",
    "overlap",
    "manual",
    "manual_roc",
    "reports",
    "comparisons",
]
"""The tables of ``measured.py``, of which values and figures are taken."""

UnitOfValue = Literal["fraction", "probability", "logits", "nats", "edges", "percentage points"]
"""What a value is in. Areas, rates, correlations and normalised faithfulness are fractions."""


class Points(BaseModel):
    """Which published curve an area is taken of, and which area.

    ``edge``, ``node``: under a ROC curve as the ACDC paper takes it. ``cpr``, ``cmd``: MIB's, of faithfulness.
    """

    model_config = _STRICT
    where: WhichCurve
    kind: Literal["edge", "node", "cpr", "cmd"]


class FromTable(BaseModel):
    """Which rows of a table of ``measured.py`` a number is taken from, and how they are summed up.

    ``where``: the value of a column, or several values; a key that names no column names a parameter of the method.
    """

    model_config = _STRICT
    table: TableName
    where: Where = Field(default_factory=dict)
    column: str
    statistic: Literal["mean", "median", "max", "min", "count"] = "mean"


class PaperPart(BaseModel):
    """Cells that a paper needs: a benchmark, and the language model that the paper ran it on, if it is one.

    ``elsewhere`` is the benchmark on any other model, where sizes or steps that suit the paper's make no sense;
    ``sizes`` says which size of circuits there stands beside one of the paper's: pairs of (the paper's, the one there).
    """

    model_config = _STRICT
    name: str = Field(pattern=r"^[a-z0-9-]+$")
    benchmark: str | Values
    model: str | None = None
    elsewhere: Values | None = None
    sizes: tuple[tuple[float, float], ...] = ()

    def tasks_elsewhere(self) -> list[str]:
        """The tasks that are run on another model; nothing where these are the paper's."""
        grids: Any = (self.elsewhere or {}).get("grid", ())
        of_grids = [[grid["task"]] if isinstance(grid["task"], str) else grid["task"] for grid in grids]
        return list(dict.fromkeys(task for tasks in of_grids for task in tasks))

    def counterpart(self, measured: FromTable) -> FromTable | None:
        """What stands beside a number of this part on another model; None where nothing of its task or size does."""
        if self.elsewhere is None:
            return measured
        where, tasks = dict(measured.where), self.tasks_elsewhere()
        if isinstance(task := where.get("task"), str) and task not in tasks:
            there = next((each for each in tasks if program_of(each) == program_of(task)), None)
            if there is None:
                return None
            where["task"] = there
        if isinstance(asked := where.get("asked"), float):
            evaluation: Any = self.elsewhere.get("evaluation", {})
            size = dict(self.sizes).get(asked, asked if asked in evaluation.get("size", ()) else None)
            if size is None:
                return None
            where["asked"] = size
        return measured.model_copy(update={"where": where})


class ReportedValue(BaseModel):
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
    measured: FromTable | None = None


class ReportedTable(BaseModel):
    """Many values at once, from a file beside the manifest: ``tables`` -> group -> row -> numbers in ``columns``.

    With ``rows`` they are areas of published curves: what a row's are found by; a column is (level, method). With
    ``measured`` they are taken of a table: in its ``where``, a text ``{group}``, ``{row}`` or ``{column}`` stands for
    what the value is about, as ``names`` translates it.
    """

    model_config = _STRICT
    file: str
    source: str
    tolerance: float = 0.0005
    part: str | None = None
    rows: dict[str, WhichCurve] = Field(default_factory=dict)
    measured: FromTable | None = None
    names: dict[str, Scalar] = Field(default_factory=dict)

    def filled(self, group: str, row: str, column: str) -> FromTable | None:
        """Where the number of one entry is taken of."""
        if self.measured is None:
            return None
        places = {"{group}": group, "{row}": row, "{column}": column}

        def put(wanted: Scalar | list[Scalar]) -> Scalar | list[Scalar]:
            found = places.get(wanted, wanted) if isinstance(wanted, str) else wanted
            return self.names.get(found, found) if isinstance(found, str) else found

        where = {str(put(name)): put(wanted) for name, wanted in self.measured.where.items()}
        return self.measured.model_copy(update={"where": where, "column": put(self.measured.column)})


class Comparison(BaseModel):
    """What makes the values whose names match comparable with ours, or why they are not. The first that matches counts.

    Args:
        values: a pattern of names.
        quantity: what the paper's number is.
        unit: what it is in.
        on: the paper's model, task, and prompts.
        ours: what ours is and on which task; nothing where there is no number of ours.
        but: what differs and leaves the two comparable all the same, such as other prompts by the same rules.
        unlike: why the two are not the same quantity, so that no verdict says whether one is the other.
    """

    model_config = _STRICT
    values: str
    quantity: str = Field(min_length=1)
    unit: UnitOfValue
    on: str = Field(min_length=1)
    ours: str = ""
    but: str = ""
    unlike: str = ""

    @property
    def sentence(self) -> str:
        """All of it, to be read."""
        parts = (self.ours and f"Ours: {self.ours}", self.but and f"But: {self.but}")
        return ". ".join(filter(None, (f"{self.quantity} ({self.unit}); {self.on}", *parts))) + "."


class Note(BaseModel):
    """Why the values whose names match differ (``because``), or cannot be had whatever is run (``not_run``)."""

    model_config = _STRICT
    values: str
    because: str = ""
    not_run: str = ""


class Drawing(BaseModel):
    """A figure: which rows of which table, which columns are drawn as what, and what the paper reports of it.

    Args:
        draw: the figure function (``reports/draw/``).
        table, where: the rows, as of a value; ``reported`` alone is drawn where there are none.
        panel, series, x, y: columns, or parameters of the method.
        labels: of the axes, with their units.
        log: axes that are logarithmic.
        level: a value at which a line is drawn across.
        reported: a file beside the manifest: ``rows`` of panel, series, x, y.
        part: the part that ours is measured in, or a pattern of several; it says on which model.
    """

    model_config = _STRICT
    name: str = Field(pattern=r"^[a-z0-9_]+$")
    draw: Literal["lines", "scatter", "boxes", "matrix", "histogram"]
    title: str
    caption: str
    table: TableName | None = None
    where: Where = Field(default_factory=dict)
    panel: str = ""
    series: str = "label"
    x: str
    y: str
    labels: tuple[str, str]
    log: tuple[Literal["x", "y"], ...] = ()
    level: float | None = None
    reported: str | None = None
    part: str | None = None
    names: dict[str, str] = Field(default_factory=dict)


class Shown(BaseModel):
    """Figures of the report's chapters that are the manifest's: of which part, and which.

    Args:
        caption: what is added to the captions of the report.
    """

    model_config = _STRICT
    part: str
    figures: tuple[str, ...]
    caption: str = ""


class Card(BaseModel):
    """A sensitivity card: circuits that are certified under one ablation each, measured under several.

    Args:
        circuits: what each is called -> the ablation under which it is the true one.
        ablation: those that the circuits are measured with, crossed with the other factors' usual levels.
        random: random circuits of the same size that each is compared with.
    """

    model_config = _STRICT
    name: str = Field(pattern=r"^[a-z0-9_]+$")
    title: str
    caption: str
    task: str
    circuits: dict[str, str]
    ablation: tuple[str, ...]
    prompts: int = 60
    random: int = 50
