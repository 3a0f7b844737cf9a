"""Sums of a search that are kept in a file beside its result, so that a killed search goes on where it was."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from torch import Tensor

from ..errors import DataError
from ..json_model import Kept


class KeptSums:
    """A keeper (see methods/partial.py) that writes a file after each batch.

    Args:
        path: the file.
        identity: everything that changes a number; sums of another identity are not taken, but overwritten.
    """

    def __init__(self, path: Path, identity: Kept) -> None:
        self.path, self._identity = path, json.dumps(identity.as_json(), sort_keys=True)
        self._sums, self._batches = self._read()
        self.found = max(self._batches.values(), default=0)

    def load(self, part: int) -> tuple[int, Tensor | None]:
        """Batches in a sum, and the sum."""
        return self._batches.get(part, 0), self._sums.get(part)

    def save(self, part: int, batches: int, total: Tensor) -> None:
        """Writes all sums, whole or not at all."""
        from safetensors.torch import save_file

        self._sums[part], self._batches[part] = total, batches
        begun = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        note = {"identity": self._identity, "batches": json.dumps(self._batches)}
        try:
            save_file({str(number): each.contiguous() for number, each in self._sums.items()}, begun, note)
            begun.replace(self.path)
        except OSError as error:
            raise DataError(f"cannot write {self.path}: {error.strerror}.") from None
        finally:
            begun.unlink(missing_ok=True)

    def remove(self) -> None:
        """The search is finished."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> tuple[dict[int, Tensor], dict[int, int]]:
        from safetensors import SafetensorError, safe_open

        if not self.path.is_file():
            return {}, {}
        try:
            with safe_open(self.path, "pt") as file:
                note = file.metadata() or {}
                if note.get("identity") != self._identity:
                    return {}, {}
                sums = {int(name): file.get_tensor(name).to(torch.float64) for name in file.keys()}
            return sums, {int(part): batches for part, batches in json.loads(note["batches"]).items()}
        except (SafetensorError, OSError, ValueError, KeyError):  # a damaged file is no loss but of time
            return {}, {}
