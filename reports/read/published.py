"""The numbers that papers published, in files beside their manifests: points of curves, rows of a figure, tables.

They are defined here, below the rooms that draw and judge them; ``reproduction/manifest.py`` reads the files.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

Level = Literal["edge", "node"]


class RocPoint(NamedTuple):
    """One circuit: the threshold that it was found at (None: no edge, or every edge), and its rates."""

    threshold: float | None
    edge_fpr: float
    edge_tpr: float
    node_fpr: float
    node_tpr: float

    def rates(self, level: Level) -> tuple[float, float]:
        """(false positive rate, true positive rate) of edges or nodes."""
        return (self.edge_fpr, self.edge_tpr) if level == "edge" else (self.node_fpr, self.node_tpr)


class PublishedCurve(BaseModel):
    """A published curve.

    Args:
        points: under a ROC curve, a circuit each.
        faithfulness: (share of all edges, faithfulness) of each circuit, in order of growing size.
        area_edges, area_nodes: the areas that the paper prints.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: str = "acdc"
    task: str
    objective: str = ""
    ablation: str = "corrupted"
    points: tuple[RocPoint, ...] = ()
    faithfulness: tuple[tuple[float, float], ...] = ()
    area_edges: float | None = None
    area_nodes: float | None = None


class WhichCurve(BaseModel):
    """The fields by which a published curve is found. A field that is left out matches any value."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: str | None = None
    task: str | None = None
    objective: str | None = None
    ablation: str | None = None

    def fits(self, curve: PublishedCurve) -> bool:
        """Whether the curve has all that is asked for."""
        return all(wanted is None or getattr(curve, name) == wanted for name, wanted in self)


class _Published(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    source: str = ""
    notes: str = ""


class CurvesFile(_Published):
    """``points = [...]`` of a manifest; ``columns`` says in words what a point consists of."""

    columns: tuple[str, ...] = ()
    curves: tuple[PublishedCurve, ...]


class RowsFile(_Published):
    """``reported`` of a figure: rows of panel, series, x and y."""

    rows: tuple[tuple[str, str, float | str | None, float | str | None], ...]


class TablesFile(_Published):
    """``file`` of a ``[[table]]``: group -> row -> numbers; a column is a name, or (level, method) of an area."""

    columns: tuple[str | tuple[str, str], ...]
    tables: dict[str, dict[str, tuple[float | None, ...]]]
