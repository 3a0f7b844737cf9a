"""Rows of a data set on the Hugging Face hub, or of its copy in a local folder.

The environment variable ``CIRCUITMETER_DATA`` names the local folder. Each data set is a folder in it, either as
``hf download --repo-type dataset`` writes it, or with JSON Lines files ``CONFIG.jsonl`` or ``CONFIG/SPLIT.jsonl``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..suite.errors import DataError
from ..suite.reading import Unreadable, parse_json, read_text, shown, text_lines

FOLDER = "CIRCUITMETER_DATA"
DEFAULT = "default"
# Data and descriptions; no file that could run.
_FROM_HUB = ["README.md", "*.parquet", "*.json", "*.jsonl", "*.csv"]
_HUB_SECONDS = 5.0


def rows(
    name: str, repository: str, config: str | None, split: str, columns: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """The rows of a split.

    Args:
        name: the data set's folder in the local folder.
        repository: its name on the hub.
        config: the part of the data set; None when it has only one.
        split: the split's name on the hub.
        columns: the columns that every row must have.

    Raises:
        DataError: the data set is not here and cannot be fetched, or it lacks the part or a column.
    """
    for row in _rows(name, repository, config, split):
        lacking = [column for column in columns if column not in row]
        if lacking:
            raise DataError(
                f"the data set {name} ({config or split}) has a row without {lacking[0]!r}; fetch it again."
            )
        yield row


def _rows(name: str, repository: str, config: str | None, split: str) -> Iterator[dict[str, Any]]:
    local = Path(os.environ[FOLDER]) / name if os.environ.get(FOLDER) else None
    for file in () if local is None else _files(local, config, split):
        if file.is_file():
            yield from _lines(file)
            return
    folder = local if local is not None and local.is_dir() else _fetch(name, repository)
    import datasets

    datasets.disable_progress_bars()
    try:
        found = datasets.load_dataset(str(folder), config, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"{folder} has no split {split!r} of {config or name}: {_first_line(error)}") from error
    yield from found


def _files(folder: Path, config: str | None, split: str) -> tuple[Path, Path]:
    return folder / f"{config or DEFAULT}.jsonl", folder / (config or DEFAULT) / f"{split}.jsonl"


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text_lines(read_text(file)), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except Unreadable as problem:
            raise DataError(f"{file}, line {number}: {problem}.") from None
        if not isinstance(row, dict):
            raise DataError(f"{file}, line {number}: {shown(row)} is no JSON object.")
        yield row


def snapshot(repository: str, patterns: Sequence[str], *, revision: str | None = None, kind: str = "model") -> Path:
    """The folder of a repository on the hub. It is fetched when the hub answers; otherwise it is that of the cache.

    The hub is asked once first, because its own client tries for half a minute when there is no connection.

    Args:
        patterns: the files that are wanted.
        revision: a commit; None for the newest.
        kind: ``model`` or ``dataset``.

    Raises:
        OSError, ValueError: it is not in the cache and cannot be fetched. The hub's client raises several of each kind.
    """
    from huggingface_hub import snapshot_download

    where = {"repo_type": kind, "revision": revision}
    offline = not _answers(repository, **where)
    return Path(snapshot_download(repository, allow_patterns=list(patterns), local_files_only=offline, **where))


def _answers(repository: str, **where: str | None) -> bool:
    """Whether the hub can be reached. Whether it has the repository is for the next request to tell."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        get_hf_file_metadata(hf_hub_url(repository, "README.md", **where), timeout=_HUB_SECONDS)
    except (HfHubHTTPError, HFValidationError):
        return True
    except Exception:  # no connection: the errors for it differ between versions of the client
        return False
    return True


def _fetch(name: str, repository: str) -> Path:
    """The data set's folder in the hub's cache. Raises DataError that says what is missing and how to provide it."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return snapshot(repository, _FROM_HUB, kind="dataset")
    except (OSError, ValueError) as error:  # no connection, no such data set, no permission
        offline = isinstance(error, LocalEntryNotFoundError)
        why = "the Hugging Face hub cannot be reached." if offline else f"cannot be fetched: {_first_line(error)}"
        raise DataError(
            f"the data set {repository} is not on this machine, and {why} Run "
            f"`hf download --repo-type dataset {repository}` here, where the hub can be reached; or copy its folder to "
            f"this machine as {name} and set {FOLDER} to the folder that holds it."
        ) from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
