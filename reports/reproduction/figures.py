"""The figures that a paper's manifest asks for: rows of a table, the paper's own numbers, and the function that draws.

Every function of ``figures/`` that is used here takes one tidy table with the columns ``panel``, ``series``, ``x``,
``y`` and ``origin`` (``reported``, ``ours``), so that what a paper reports stands beside what came out here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from ..draw.boxes import boxes
from ..draw.histogram import histogram
from ..draw.lines import lines
from ..draw.matrix import matrix
from ..draw.scatter import scatter
from ..read.published import RowsFile
from .entries import Drawing
from .manifest import Manifest
from .measured import Tables

_COLUMNS = ["panel", "series", "x", "y", "low", "high", "origin"]


def drawn(manifest: Manifest, drawing: Drawing, tables: Tables | None) -> pd.DataFrame:
    """What one ``[[figure]]`` of a manifest shows, in ``_COLUMNS``: reported, then ours, each in the paper's order.

    Args:
        tables: of the store that the manifest's parts were run into; None where nothing was.
    """
    ours, reported = measured_frame(drawing, tables), reported_frame(manifest, drawing)
    names = ["panel", "series", *(["x"] if drawing.draw == "matrix" else [])]
    for name in names:
        ours, reported = (frame.assign(**{name: frame[name].map(manifest.spelled)}) for frame in (ours, reported))
    table = _together(reported, ours)
    # What came out here in the order of what is reported, what is only here behind it; in the paper's order throughout.
    places = {name: manifest.in_order(table[name]) for name in names}
    ours, reported = (
        frame.sort_values(names, key=lambda column: column.map(places[column.name]), kind="stable")
        for frame in (ours, reported)
    )
    return _together(reported, ours)


def has_numbers(drawing: Drawing, table: pd.DataFrame) -> bool:
    """Whether there is anything to draw: ours, or the paper's own."""
    match drawing.draw:
        case "histogram":
            needed = ["x"]
        case "scatter":
            needed = ["x", "y"]
        case _:
            needed = ["y"]
    return bool(table[needed].notna().all(axis=1).any())


def drawer(drawing: Drawing, table: pd.DataFrame, note: str = "", lacking: str = "") -> Callable[[], Figure]:
    """What draws one ``[[figure]]`` of a manifest.

    Args:
        table: ``drawn``'s.
        note: which model ours was measured on, where it is not the paper's.
        lacking: what is said of panels in which nothing is ours, where ours was measured on another model.
    """
    note = note if (table["origin"] == "ours").any() else ""
    x, y = drawing.labels
    match drawing.draw:
        case "lines":
            return partial(lines, table, x, y, log=drawing.log, level=drawing.level, note=note, lacking=lacking)
        case "scatter":
            return partial(scatter, table, x, y, note=note or lacking)
        case "boxes":
            return partial(boxes, table, x, log=drawing.log, level=drawing.level, note=note, lacking=lacking)
        case "matrix":
            return partial(matrix, table, x, x, bar=y, note=note or lacking)
        case "histogram":
            return partial(histogram, table, x, y, note=note or lacking)


def _together(*frames: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)


def measured_frame(drawing: Drawing, tables: Tables | None) -> pd.DataFrame:
    """What came out here, in ``_COLUMNS``.

    Of lines and matrices several rows of one place, such as seeds or tasks, are their mean, from the least to the most.
    """
    if tables is None or drawing.table is None:
        return pd.DataFrame(columns=_COLUMNS)
    rows = tables.rows(drawing.table, drawing.where)
    found = pd.DataFrame(index=rows.index)
    for name in ("panel", "series"):
        parts = [tables.column(rows, part).map(_text) for part in getattr(drawing, name).split(", ") if part]
        texts = [", ".join(filter(None, each)) for each in zip(*parts, strict=True)] if parts else ""
        joined = pd.Series(texts, index=rows.index, dtype=object)
        found[name] = joined.map(lambda text: drawing.names.get(text, text))
    for name in ("x", "y"):
        column = getattr(drawing, name)
        found[name] = tables.column(rows, column) if column else float("nan")
    if drawing.draw == "matrix":
        found["x"] = found["x"].map(lambda text: drawing.names.get(_text(text), _text(text)))
    found = found.assign(low=float("nan"), high=float("nan"), origin="ours")
    if drawing.draw in ("lines", "matrix") and len(found):
        grouped = found.astype({"y": float}).groupby(["panel", "series", "x"], sort=False)["y"]
        found = grouped.agg(y="mean", low="min", high="max", n="count").reset_index().assign(origin="ours")
        alone = (found["n"] < 2) | (found["low"] == found["high"])
        found.loc[alone, ["low", "high"]] = float("nan")
    return _numeric(found[_COLUMNS], drawing)


def reported_frame(manifest: Manifest, drawing: Drawing) -> pd.DataFrame:
    """What the paper reports, in ``_COLUMNS``: the rows of a file beside its manifest."""
    if drawing.reported is None:
        return pd.DataFrame(columns=_COLUMNS)
    rows = manifest.read(RowsFile, drawing.reported).rows
    found = pd.DataFrame(rows, columns=["panel", "series", "x", "y"])
    for name in ("panel", "series"):
        found[name] = found[name].map(lambda text: drawing.names.get(text, text))
    return _numeric(found.assign(low=float("nan"), high=float("nan"), origin="reported")[_COLUMNS], drawing)


def _numeric(found: pd.DataFrame, drawing: Drawing) -> pd.DataFrame:
    for name in ("y",) if drawing.draw in ("matrix", "boxes") else ("x", "y"):
        found[name] = pd.to_numeric(found[name], errors="coerce")
    if drawing.draw == "histogram":
        return found[found["x"].notna()]
    return found[found["y"].notna() & (found["x"].notna() | (drawing.draw == "boxes"))]


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
