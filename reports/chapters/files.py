"""Writes what chapters show as files: figures as PDF, SVG and PNG, tables as CSV, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from ..draw import style
from ..draw.render import NARROW, OnDrawn, OnFailed, rendered
from ..page import markup
from ..page.page import Picture
from ..page.table import Table
from .chapter import Plot

DRAWN_FORMATS = (*style.FIGURE_FORMATS, NARROW)
"""What is drawn of a figure: the files, and what the page shows in narrow windows."""


def write_figures(
    folder: Path,
    plots: Sequence[Plot],
    progress: OnDrawn | None = None,
    failed: Mapping[str, OnFailed] | None = None,
) -> dict[str, Picture]:
    """Draws each figure and writes it as PDF, SVG and PNG; returns what the page shows of them, by name.

    ``progress`` and ``failed`` are those of ``rendered``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = rendered({plot.name: plot.draw for plot in plots}, DRAWN_FORMATS, progress, failed)
    pictures = {}
    for plot in (plot for plot in plots if plot.name in files):
        of_plot = files[plot.name]
        for file_format in style.FIGURE_FORMATS:
            if file_format in of_plot:
                (folder / f"{plot.name}.{file_format}").write_bytes(of_plot[file_format])
        narrow = of_plot.get(NARROW, of_plot["svg"])
        pictures[plot.name] = Picture(plot.name, plot.title, plot.caption, of_plot["svg"], narrow)
    return pictures


def write_tables(folder: Path, tables: Sequence[Table]) -> None:
    """Writes tables as Markdown and LaTeX, and their numbers in full as CSV."""
    folder.mkdir(parents=True, exist_ok=True)
    for table in tables:
        (folder / f"{table.name}.md").write_text(markup.markdown(table), encoding="utf-8")
        (folder / f"{table.name}.tex").write_text(markup.latex(table), encoding="utf-8")
    write_data(folder, {table.name: table.data for table in tables if table.data is not None})


def write_data(folder: Path, data: Mapping[str, pd.DataFrame]) -> None:
    """Writes tidy tables as CSV; empty ones are not written."""
    for name, table in data.items():
        if len(table):
            table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
