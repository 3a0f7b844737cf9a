"""Where a store lies: a folder of this machine, or an address of fsspec (``s3://bucket/results``), read only."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any, Protocol

from ..errors import StoreError


class Folder(Protocol):
    """The operations that reading a store needs. Paths are relative to the folder, with ``/`` between parts."""

    def read(self, path: str) -> bytes:
        """A file's bytes. Raises FileNotFoundError, or another OSError."""
        ...

    def names(self, path: str) -> list[str]:
        """The names in a folder, sorted, without hidden ones; empty when there is no such folder."""
        ...

    def has_folder(self, path: str) -> bool:
        """Whether there is a folder."""
        ...


class LocalFolder:
    """A folder of this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, path: str) -> bytes:
        place = os.path.join(self.path, path)
        kind = os.stat(place).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):  # opening a pipe would wait for its writer
            raise OSError(errno.EINVAL, "it is a pipe or a device", place)
        with open(place, "rb") as file:
            return file.read()

    def names(self, path: str) -> list[str]:
        try:
            return sorted(name for name in os.listdir(os.path.join(self.path, path)) if not name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def has_folder(self, path: str) -> bool:
        return os.path.isdir(os.path.join(self.path, path))


class RemoteFolder:
    """An address of fsspec.

    Raises:
        StoreError: fsspec does not know the protocol, or lacks the package for it.
    """

    def __init__(self, address: str) -> None:
        import fsspec

        self._files: Any
        try:
            self._files, self._root = fsspec.url_to_fs(address)
        except (ImportError, ValueError) as error:
            raise StoreError(f"cannot open {address}: {error}") from error

    def read(self, path: str) -> bytes:
        return self._asked(self._files.cat_file, path)

    def names(self, path: str) -> list[str]:
        try:
            found = self._asked(self._files.ls, path, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        names = (each.rstrip("/").rpartition("/")[2] for each in found)
        return sorted(name for name in names if name and not name.startswith("."))

    def has_folder(self, path: str) -> bool:
        return self._asked(self._files.isdir, path)

    def _asked(self, question: Any, path: str, **options: Any) -> Any:
        try:
            return question(f"{self._root}/{path}", **options)
        except OSError:
            raise
        except Exception as error:  # each service has its own errors, such as for a missing account
            raise OSError(f"{type(error).__name__}: {error}") from error


def is_address(path: str | Path) -> bool:
    """Whether ``path`` is an address such as ``s3://bucket/results``, and no folder of this machine."""
    return "://" in str(path)


def folder_at(path: str | Path) -> Folder:
    """The folder at a path or an address. Raises StoreError for an address that fsspec cannot open."""
    return RemoteFolder(str(path)) if is_address(path) else LocalFolder(Path(path))
