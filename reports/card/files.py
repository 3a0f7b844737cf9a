"""The files of a card: its content, its figure in each format, and a table where it has one."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from ...suite.errors import DataError
from ...suite.json_model import File
from ..draw.style import FIGURE_FORMATS, render


def write_card(card: File, figure: Figure, out: Path, settings: pd.DataFrame | None = None) -> None:
    """``card.json``, the figure in each format, and ``settings.csv``. Raises DataError where they cannot be written."""
    try:
        if settings is not None:
            settings.to_csv(out / "settings.csv", index=False, lineterminator="\n")
        (out / "card.json").write_text(json.dumps(card.as_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        for file_format in FIGURE_FORMATS:
            (out / f"card.{file_format}").write_bytes(render(figure, file_format))
    except OSError as error:
        raise DataError(f"cannot write {error.filename or out}: {error.strerror}.") from None
