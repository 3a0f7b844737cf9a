"""Writing files whole or not at all, the bytes of JSON files, and whether a process lives."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_synced(path: Path, data: bytes) -> None:
    """Writes a file and waits until the disk has it."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_atomically(path: Path, data: bytes) -> None:
    """Writes beside ``path`` and renames, so that a reader sees the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    write_synced(temporary, data)
    os.replace(temporary, path)
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Waits until the disk has the folder's list of names. Without this a power failure may undo a rename."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_name(path: Path) -> Path:
    """``path``, or ``path.1``, ``path.2``, ...: the first that does not exist."""
    candidate, number = path, 0
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}.{number}")
    return candidate


def process_lives(pid: int) -> bool:
    """Whether a process of this machine has this id; one that has ended and was not waited for does not count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    status = Path(f"/proc/{pid}/stat")  # "12 (name) Z ..."; no such file outside Linux
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def encoded(contents: Mapping[str, Any]) -> bytes:
    """The one way in which a store writes JSON: the same content gives the same bytes."""
    return (json.dumps(contents, indent=1, allow_nan=False) + "\n").encode()
