"""Rows of a data set on the Hugging Face hub, or of its copy in a local folder.

The local folder is what the environment variable ``CIRCUITMETER_DATA`` names. In it, a data set is a folder: as
``hf download --repo-type dataset`` writes it, or with JSON Lines files ``CONFIG.jsonl`` or ``CONFIG/SPLIT.jsonl``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..suite.errors import DataError

FOLDER = "CIRCUITMETER_DATA"
DEFAULT = "default"


def rows(name: str, repository: str, config: str | None, split: str) -> Iterator[dict[str, Any]]:
    """The rows of a split.

    Args:
        name: the data set's folder in the local folder.
        repository: its name on the hub.
        config: which part of it; None where it has one only.
        split: as the hub calls it.

    Raises:
        DataError: it is neither here nor can be fetched; or it has no such part.
    """
    local = Path(os.environ[FOLDER]) / name if os.environ.get(FOLDER) else None
    for file in () if local is None else _files(local, config, split):
        if file.is_file():
            yield from _lines(file)
            return
    yield from _load(repository if local is None or not local.is_dir() else str(local), name, repository, config, split)


def _files(folder: Path, config: str | None, split: str) -> tuple[Path, Path]:
    return folder / f"{config or DEFAULT}.jsonl", folder / (config or DEFAULT) / f"{split}.jsonl"


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            yield json.loads(line)
        except ValueError as error:
            raise DataError(f"{file}, line {number}: not JSON ({error}).") from error


def _load(source: str, name: str, repository: str, config: str | None, split: str) -> Iterator[dict[str, Any]]:
    import datasets

    datasets.disable_progress_bars()
    try:
        found = datasets.load_dataset(source, config, split=split)
    # No connection, no such data set, no such part: each is one of these, with a first line that says which.
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"the data set {repository}{f' ({config})' if config else ''} is not on this machine and cannot be fetched "
            f"({reason}). Run `hf download --repo-type dataset {repository}` here, where the hub can be reached; or "
            f"copy its folder to this machine as {name} and set {FOLDER} to the folder that holds it."
        ) from error
    yield from found
