"""Sums of a search that are kept in a file beside its result, so that a killed search goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import torch
from torch import Tensor

from ..errors import DataError
from ..interchange import Origin
from ..json_model import Kept
from ..reading import parse_json


class SearchIdentity(Kept):
    """All that the sums of a search depend on. The device is not part of it: another one rounds otherwise.

    Args:
        origin: the method and its version, its parameters with the batch size that is used, ablation, objective, seed,
            the prompts and the weights.
        graph: hash of the graph that is searched: its input nodes, positions and features.
        dtype: of the weights, as torch prints it.
        tf32: whether products are rounded to TF32.
        key_version: of the program's numbers (store/keys.py).
    """

    origin: Origin
    graph: str
    dtype: str
    tf32: bool
    key_version: int


class KeptSums:
    """A keeper (see methods/partial.py) that writes a file after each batch.

    Args:
        path: the file.
        identity: everything that changes a number; sums of another identity are not taken, but overwritten.
    """

    def __init__(self, path: Path, identity: Kept) -> None:
        self.path, self._identity = path, json.dumps(identity.as_json(), sort_keys=True)
        self._sums, self._batches, stated = self._read()
        if stated is None or stated != self._digest():  # a damaged file is no loss but of time
            self._sums, self._batches = {}, {}
        self.found = max(self._batches.values(), default=0)

    def load(self, part: int) -> tuple[int, Tensor | None]:
        """Batches in a sum, and the sum."""
        return self._batches.get(part, 0), self._sums.get(part)

    def save(self, part: int, batches: int, total: Tensor) -> None:
        """Writes all sums, whole or not at all."""
        from safetensors.torch import save_file

        self._sums[part], self._batches[part] = total, batches
        begun = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        note = {"identity": self._identity, "batches": json.dumps(self._batches), "sha256": self._digest()}
        try:
            save_file({str(number): each.contiguous() for number, each in self._sums.items()}, begun, note)
            begun.replace(self.path)
        except OSError as error:
            raise DataError(f"cannot write {self.path}: {error.strerror}.") from None
        finally:
            begun.unlink(missing_ok=True)

    def _digest(self) -> str:
        """SHA-256 of the sums and of how many batches are in each."""
        digest = hashlib.sha256(json.dumps(sorted(self._batches.items())).encode())
        for part, total in sorted(self._sums.items()):
            digest.update(f"{part}:{tuple(total.shape)}".encode())
            digest.update(total.double().cpu().numpy().tobytes())
        return digest.hexdigest()

    def remove(self) -> None:
        """The search is finished."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> tuple[dict[int, Tensor], dict[int, int], str | None]:
        """The sums in the file, the batches in each, and what the file says that their digest is; None without any."""
        from safetensors import SafetensorError, safe_open

        if not self.path.is_file():
            return {}, {}, None
        try:
            with safe_open(self.path, "pt") as file:
                note = file.metadata() or {}
                if note.get("identity") != self._identity:
                    return {}, {}, None
                sums = {int(name): file.get_tensor(name).to(torch.float64) for name in file.keys()}
                counts = parse_json(note["batches"])
            return sums, {int(part): int(batches) for part, batches in counts.items()}, note.get("sha256")
        except (SafetensorError, OSError, ValueError, TypeError, AttributeError, KeyError):
            return {}, {}, None
