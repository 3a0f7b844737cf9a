"""The store: one small folder per finished cell, written once and atomically, checked whenever it is read.

    store.json                       {"format": 1, "version": "1.0.0rc1"}
    cells/<key>/record.json          identity, outcome, recovery, cost, provenance (``record.Record``)
    cells/<key>/scores.safetensors   scores [W, R] float64; circuit.<i> [W, R] uint8
    cells/<key>/SHA256SUMS           readable by sha256sum -c
    evaluations/<key>.json           what was measured of a cell's circuits, with its own checksum
    behaviours/<key>.json            what a model does on the prompts of a task, with its own checksum
    truths/<certificate hash>.json   every certificate that a cell was scored against
    environments/<hash>.json         every environment that a cell was computed in
    benchmarks/<name>.json           which cells a benchmark consists of, with its own checksum
    cards/<name>.json                sensitivity cards that ``reproduce`` measured, with their own checksums
    index/<name>, index/<name>.card  one empty file per benchmark and card, so that a deleted one is noticed
    damaged/, failed/                what was moved aside: cells that fail their checksums, failures that were retried
    writing/                         cells being written; a writer that was killed leaves one, and it is swept up

Needs neither torch nor the methods, so that results can be read, checked and reported anywhere.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...ground_truth.certificate import Certificate
from ..errors import StoreError
from ..json_model import File
from .files import encoded, free_name, fsync_folder, process_lives, write_atomically, write_synced
from .folder import is_address
from .reading import CARD, RECORD, SCORES, STORE_FORMAT, SUMS, Damaged, StoreReader, digest, misfit, sealed, sums_of
from .record import BehaviourRecord, Benchmark, Environment, EvaluationRecord, Record

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Damaged", "Store"]
FOLDERS = ("cells", "evaluations", "behaviours", "truths", "environments", "benchmarks", "index")


class Store(StoreReader):
    """The results in one folder, for reading and writing.

    Args:
        path: the folder. A store that is only read may be at an address that fsspec knows.
        create: make the folder if it does not exist, and remove what killed writers left.

    Raises:
        StoreError: there is no store at ``path`` (and ``create`` is false), the folder is something else, its
            ``store.json`` cannot be read, or it was written by a newer version of the program.
    """

    def __init__(self, path: str | Path, *, create: bool = False) -> None:
        if create:
            self._create(path)
        super().__init__(path)
        if create:
            self._sweep()

    def write(self, record: Record, tensors: Mapping[str, np.ndarray]) -> bool:
        """Adds a cell, whole or not at all.

        A finished cell is never overwritten: if there is one, nothing happens. A failure is replaced and kept under
        ``failed/``.

        Returns:
            Whether this call's result is the one that is now in the store.
        """
        import numpy as np
        from safetensors.numpy import save as save_tensors

        contents = {RECORD: encoded(record.as_json())}
        if tensors:
            contents[SCORES] = save_tensors({name: np.ascontiguousarray(array) for name, array in tensors.items()})
        problem = misfit(record, tensors)
        if problem:
            raise StoreError(f"cell {record.key} is not written: {problem}.")
        return self.write_files(record.key, contents)

    def write_files(self, key: str, contents: Mapping[str, bytes]) -> bool:
        """Adds a cell like ``write``, from the bytes of its files, which were checked (``cell_files``)."""
        folder = self.path / "writing" / f"{socket.gethostname()}-{os.getpid()}-{key}"
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for name, data in {**contents, SUMS: sums_of(contents).encode()}.items():
                write_synced(folder / name, data)
            fsync_folder(folder)
            return self._publish(folder, key)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)  # the unfinished folder takes space on a disk that may be full
            raise self._refused(error) from error

    def _publish(self, folder: Path, key: str) -> bool:
        """Renames a complete folder into place, unless a finished cell is there already."""
        target = self.path / "cells" / key
        if target.exists() and self._is_replaceable(key):
            self._move(target, "failed")
        try:
            os.rename(folder, target)
        except OSError:
            if not target.is_dir():
                raise
            shutil.rmtree(folder)  # another run finished the same cell first
            return False
        fsync_folder(target.parent)
        return True

    def _is_replaceable(self, key: str) -> bool:
        try:
            return not self.record(key).done
        except Damaged as error:
            self.set_aside(key, str(error))
            return False

    def set_aside(self, key: str, reason: str) -> Path:
        """Moves a damaged cell to ``damaged/``, so that it can be run again and nothing is lost; returns where to."""
        self.damaged[key] = reason
        try:
            return self._move(self.path / "cells" / key, "damaged")
        except OSError as error:
            raise self._refused(error) from error

    def write_evaluation(self, record: EvaluationRecord) -> None:
        """Adds an evaluation, or replaces a damaged or a failed one."""
        if not self.has_evaluation(record.key) or not self.evaluation(record.key).done:
            self._write_keyed("evaluations", record)

    def write_behaviour(self, record: BehaviourRecord) -> None:
        """Adds what a model does on the prompts of a task, or replaces a damaged file; does nothing if there is one."""
        if not self.has_behaviour(record.key):
            self._write_keyed("behaviours", record)

    def write_truth(self, certificate_hash: str, certificate: Certificate) -> None:
        """Keeps a copy of a certificate; does nothing if there is one."""
        if certificate.hash != certificate_hash:
            raise StoreError(f"the certificate {certificate_hash} is not written: that is not the hash of its content.")
        if not self.has_truth(certificate_hash):
            self._write_json(f"truths/{certificate_hash}.json", certificate.as_json())

    def write_environment(self, environment: Environment) -> str:
        """Keeps the environment of a cell; returns the hash by which records name it."""
        name = environment.hash
        if not (self.path / "environments" / f"{name}.json").exists():
            self._write_json(f"environments/{name}.json", environment.as_json())
        return name

    def write_benchmark(self, name: str, benchmark: Benchmark) -> None:
        """Records which cells a benchmark consists of, so that coverage can be checked without the methods."""
        self._write_listed(f"benchmarks/{name}.json", benchmark.as_json(), listed=name)

    def write_card(self, name: str, card: File) -> None:
        """Keeps a sensitivity card that a paper's reproduction measured."""
        self._write_listed(f"cards/{name}.json", card.as_json(), listed=f"{name}{CARD}")

    # Implementation

    def _create(self, path: str | Path) -> None:
        if is_address(path):
            raise StoreError(f"{path} is read only: run into a folder of this machine, and copy or `merge` it there.")
        folder = Path(path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            present = [name for name in os.listdir(folder) if not name.startswith(".")]
            if present and "store.json" not in present:
                raise StoreError(
                    f"{folder} is not a store: it has no store.json, and it is not empty; name another folder."
                )
            if not present:
                written = {"format": STORE_FORMAT, "version": version("circuitmeter")}
                write_atomically(folder / "store.json", encoded({**written, "sha256": digest(written)}))
            for name in FOLDERS:
                (folder / name).mkdir(exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make a store at {folder}: {error.strerror or error}.") from error

    def _sweep(self) -> None:
        """Removes the half-written folders of writers on this machine that no longer live."""
        writing = self.path / "writing"
        for folder in writing.iterdir() if writing.is_dir() else ():
            host, _, rest = folder.name.rpartition("-")[0].rpartition("-")
            if host == socket.gethostname() and rest.isdigit() and not process_lives(int(rest)):
                shutil.rmtree(folder, ignore_errors=True)

    def _move(self, folder: Path, to: str) -> Path:
        (self.path / to).mkdir(exist_ok=True)
        target = free_name(self.path / to / folder.name)
        os.rename(folder, target)
        fsync_folder(target.parent)
        fsync_folder(folder.parent)
        return target

    def _write_keyed(self, folder: str, record: EvaluationRecord | BehaviourRecord) -> None:
        contents = record.as_json()
        self._write_json(f"{folder}/{record.key}.json", {"sha256": digest(contents), "record": contents})

    def _write_json(self, path: str, contents: Mapping[str, Any]) -> None:
        try:
            write_atomically(self.path / path, encoded(contents))
        except OSError as error:
            raise self._refused(error) from error

    def _write_listed(self, path: str, contents: Mapping[str, Any], *, listed: str) -> None:
        """Writes a JSON file with its digest, and an entry of the index that tells when the file is deleted."""
        try:
            for folder in (Path(path).parent, "index"):
                (self.path / folder).mkdir(exist_ok=True)
            write_atomically(self.path / path, sealed(contents))
            (self.path / "index" / listed).touch()
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> StoreError:
        """The error for a failed write, such as on a full disk or in a store that may only be read."""
        return StoreError(f"cannot write to the store {self.name}: {error.strerror or error}.")
