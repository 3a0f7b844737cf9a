"""The store: one small folder a finished cell, written once and atomically, checked whenever it is read.

    store.json                       {"format": 1, "version": "0.1.0"}
    cells/<key>/record.json          identity, outcome, recovery, cost, provenance
    cells/<key>/scores.safetensors   scores [W, R] float64; circuit.<i> [W, R] uint8
    cells/<key>/SHA256SUMS           readable by sha256sum -c
    evaluations/<key>.json           what was measured of a cell's circuits, with its own checksum
    truths/<certificate hash>.json   every certificate that a cell was scored against
    benchmarks/<name>.json           which cells a benchmark consists of
    damaged/, failed/                what was moved aside: cells that fail their checksums, failures that were retried
    writing/                         cells being written; a writer that was killed leaves one, and it is swept up

Needs neither torch nor the methods, so that results can be read, checked and reported anywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from ..errors import StoreError
from .files import free_name, fsync_folder, process_lives, write_atomically, write_synced
from .record import fault

FORMAT = 1
RECORD, SCORES, SUMS = "record.json", "scores.safetensors", "SHA256SUMS"


class Damaged(StoreError):
    """A cell whose files are not what was written; the message says in what way."""


class Store:
    """The results in one folder.

    Args:
        path: the folder.
        create: make the folder where there is none, and sweep up what killed writers left.

    Raises:
        StoreError: there is no store at ``path`` (and ``create`` is false), the folder is something else, its
            ``store.json`` cannot be read, or it was written by a newer version of the program.
    """

    def __init__(self, path: str | Path, *, create: bool = False) -> None:
        self.path = Path(path)
        self.damaged: dict[str, str] = {}
        if create:
            self._create()
        self._check_format()
        if create:
            self._sweep()

    # Reading

    def keys(self) -> list[str]:
        """The keys of all cells that have a folder, damaged ones too, sorted."""
        cells = self.path / "cells"
        return sorted(entry.name for entry in os.scandir(cells) if entry.is_dir()) if cells.is_dir() else []

    def __contains__(self, key: str) -> bool:
        return (self.path / "cells" / key).is_dir()

    def record(self, key: str) -> dict[str, Any]:
        """The record of a cell, once all of the cell's files were found to be what was written.

        Raises:
            Damaged: a file is missing, truncated or changed, the record does not follow the schema, or the scores do
                not fit the graph.
            StoreError: there is no such cell.
        """
        return self._read(key)[0]

    def records(self) -> Iterator[dict[str, Any]]:
        """Every undamaged record, by key. The damaged ones are left out and listed in ``.damaged``, with the reason."""
        for key in self.keys():
            try:
                yield self.record(key)
            except Damaged as error:
                self.damaged[key] = str(error)

    def tensors(self, key: str) -> dict[str, np.ndarray]:
        """``scores`` float64 [W, R], NaN where the graph has no edge, and ``circuit.<i>`` uint8 [W, R] for each of
        the record's ``circuits``. Empty for failures. Raises as ``record`` does."""
        return self._read(key)[1]

    def scores(self, key: str) -> np.ndarray:
        """The edge scores of a finished cell, float64 [W, R]. Raises StoreError when the cell holds none."""
        tensors = self.tensors(key)
        if "scores" not in tensors:
            raise StoreError(f"cell {key} of {self.path} has no scores: it failed; its record says why.")
        return tensors["scores"]

    def has_evaluation(self, key: str) -> bool:
        """Whether there is an evaluation with this key, and it is what was written."""
        try:
            return bool(self.evaluation(key))
        except StoreError:
            return False

    def evaluation(self, key: str) -> dict[str, Any]:
        """The evaluation with this key. Raises StoreError when there is none, and Damaged when it was changed."""
        contents = self._json(self.path / "evaluations" / f"{key}.json")
        record = contents.get("record")
        if not isinstance(record, dict) or contents.get("sha256") != _digest(record):
            raise Damaged(f"evaluations/{key}.json is not what was written: its checksum differs")
        return record

    def evaluations(self) -> Iterator[dict[str, Any]]:
        """Every undamaged evaluation, by key. The damaged ones are left out and listed in ``.damaged``."""
        folder = self.path / "evaluations"
        for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
            try:
                yield self.evaluation(path.stem)
            except StoreError as error:
                self.damaged[path.stem] = str(error)

    def truth(self, certificate_hash: str) -> dict[str, Any]:
        """The certificate with this hash, as it was when cells were scored against it. Raises StoreError."""
        return self._json(self.path / "truths" / f"{certificate_hash}.json")

    def has_truth(self, certificate_hash: str) -> bool:
        """Whether the certificate is kept here, and can be read."""
        try:
            return bool(self.truth(certificate_hash))
        except StoreError:
            return False

    def benchmarks(self) -> dict[str, dict[str, Any]]:
        """What ``run`` was asked to fill this store with: name -> {"cells": [keys], ...}."""
        return {path.stem: self.benchmark(path.stem) for path in sorted((self.path / "benchmarks").glob("*.json"))}

    def benchmark(self, name: str) -> dict[str, Any]:
        """One of ``benchmarks``. Raises StoreError when it cannot be read."""
        path = self.path / "benchmarks" / f"{name}.json"
        contents = self._json(path)
        if not isinstance(contents.get("cells"), list):
            raise StoreError(f"{path} does not list the benchmark's cells; run the benchmark again to write it.")
        return contents

    def faults(self) -> dict[str, str]:
        """Everything in the folder that is not what was written, by its path in the store, with what is wrong."""
        found: dict[str, str] = {}
        for key in self.keys():
            try:
                self._read(key)
            except StoreError as error:
                found[f"cells/{key}"] = str(error)
        readers = {"evaluations": self.evaluation, "truths": self.truth, "benchmarks": self.benchmark}
        for folder, read in readers.items():
            for path in sorted((self.path / folder).glob("*.json")):
                try:
                    read(path.stem)
                except StoreError as error:
                    found[f"{folder}/{path.name}"] = str(error)
        return found

    # Writing

    def write(self, record: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> bool:
        """Adds a cell, whole or not at all.

        A finished cell is never overwritten: where one is, nothing happens. A failure is kept under ``failed/`` and
        replaced.

        Returns:
            Whether this call's result is the one that is now in the store.
        """
        key = record["key"]
        contents = {RECORD: _encode(record)}
        if tensors:
            contents[SCORES] = save_tensors({name: np.ascontiguousarray(array) for name, array in tensors.items()})
        problem = fault(dict(record), key) or _misfit(record, tensors)
        if problem:
            raise StoreError(f"cell {key} is not written: {problem}.")
        sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in contents.items())
        contents[SUMS] = sums.encode()
        folder = self.path / "writing" / f"{socket.gethostname()}-{os.getpid()}-{key}"
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for name, data in contents.items():
                write_synced(folder / name, data)
            fsync_folder(folder)
            return self._publish(folder, key)
        except OSError as error:
            raise StoreError(f"cannot write to the store {self.path}: {error.strerror or error}.") from error

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
            return self.record(key)["status"] != "done"
        except Damaged as error:
            self.set_aside(key, str(error))
            return False

    def set_aside(self, key: str, reason: str) -> Path:
        """Moves a damaged cell to ``damaged/``, so that it can be run again and nothing is lost; returns where to."""
        self.damaged[key] = reason
        return self._move(self.path / "cells" / key, "damaged")

    def write_evaluation(self, record: Mapping[str, Any]) -> None:
        """Adds an evaluation, or replaces a damaged or a failed one."""
        if not self.has_evaluation(record["key"]) or self.evaluation(record["key"])["status"] != "done":
            contents = {"sha256": _digest(record), "record": record}
            self._write_json(self.path / "evaluations" / f"{record['key']}.json", contents)

    def write_truth(self, certificate_hash: str, certificate: Mapping[str, Any]) -> None:
        """Keeps a copy of a certificate; does nothing where there is one."""
        if not self.has_truth(certificate_hash):
            self._write_json(self.path / "truths" / f"{certificate_hash}.json", certificate)

    def write_benchmark(self, name: str, contents: Mapping[str, Any]) -> None:
        """Notes which cells a benchmark consists of, so that coverage can be checked without the methods."""
        self._write_json(self.path / "benchmarks" / f"{name}.json", contents)

    # How it is done

    def _create(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            present = [name for name in os.listdir(self.path) if not name.startswith(".")]
            if present and "store.json" not in present:
                raise StoreError(
                    f"{self.path} is not a store: it has no store.json, and it is not empty; name another folder."
                )
            if not present:
                written = {"format": FORMAT, "version": version("circuitmeter")}
                write_atomically(self.path / "store.json", _encode(written))
            for name in ("cells", "evaluations", "truths", "benchmarks"):
                (self.path / name).mkdir(exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make a store at {self.path}: {error.strerror or error}.") from error

    def _check_format(self) -> None:
        if not (self.path / "store.json").is_file():
            raise StoreError(f"no store at {self.path}; `circuitmeter run SPEC --store {self.path}` makes one.")
        written = self._json(self.path / "store.json")
        number = written.get("format")
        if not isinstance(number, int):
            raise StoreError(f'{self.path / "store.json"} does not say its format; it should hold {{"format": 1}}.')
        if number > FORMAT:
            raise StoreError(
                f"the store {self.path} has format {number}, written by circuitmeter {written.get('version', '?')}; "
                f"this is circuitmeter {version('circuitmeter')}, which reads up to format {FORMAT}: update it, or "
                f"name another folder."
            )

    def _sweep(self) -> None:
        """Removes what writers on this machine that no longer live left half-written."""
        writing = self.path / "writing"
        for folder in writing.iterdir() if writing.is_dir() else ():
            host, _, rest = folder.name.rpartition("-")[0].rpartition("-")
            if host == socket.gethostname() and rest.isdigit() and not process_lives(int(rest)):
                shutil.rmtree(folder, ignore_errors=True)

    def _read(self, key: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        folder = self.path / "cells" / key
        try:
            sums = dict(line.split("  ", 1)[::-1] for line in (folder / SUMS).read_text().splitlines())
            contents = {name: (folder / name).read_bytes() for name in sums}
        except FileNotFoundError as error:
            if not folder.is_dir():
                raise StoreError(f"no cell {key} in the store {self.path}.") from error
            raise Damaged(f"{Path(error.filename).name} is missing") from error
        except OSError as error:
            raise StoreError(f"cannot read cell {key} of {self.path}: {error.strerror or error}.") from error
        except ValueError as error:  # not text, or not lines of "hash  name"
            raise Damaged(f"{SUMS} is garbled") from error
        for name, data in contents.items():
            if hashlib.sha256(data).hexdigest() != sums[name]:
                raise Damaged(f"{name} is not what was written: its checksum differs")
        try:
            record = json.loads(contents[RECORD])
            tensors = load_tensors(contents[SCORES]) if SCORES in contents else {}
        except KeyError as error:
            raise Damaged(f"{SUMS} does not list {error.args[0]}") from error
        except ValueError as error:
            raise Damaged(f"{RECORD} is not JSON") from error
        except SafetensorError as error:
            raise Damaged(f"{SCORES} is not a safetensors file") from error
        problem = fault(record, key) or _misfit(record, tensors)
        if problem:
            raise Damaged(problem)
        return record, tensors

    def _move(self, folder: Path, to: str) -> Path:
        (self.path / to).mkdir(exist_ok=True)
        target = free_name(self.path / to / folder.name)
        os.rename(folder, target)
        fsync_folder(target.parent)
        fsync_folder(folder.parent)
        return target

    def _write_json(self, path: Path, contents: Mapping[str, Any]) -> None:
        try:
            write_atomically(path, _encode(contents))
        except OSError as error:
            raise StoreError(f"cannot write to the store {self.path}: {error.strerror or error}.") from error

    def _json(self, path: Path) -> dict[str, Any]:
        try:
            contents = json.loads(path.read_text())
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror or error}.") from error
        except ValueError as error:
            raise StoreError(f"{path} is not JSON; restore it from a copy, or name another folder.") from error
        if not isinstance(contents, dict):
            raise StoreError(f"{path} holds no JSON object; restore it from a copy, or name another folder.")
        return contents


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _encode(contents: Mapping[str, Any]) -> bytes:
    return (json.dumps(contents, indent=1, allow_nan=False) + "\n").encode()


def _misfit(record: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> str | None:
    """In what way the tensors are not those of the record, or ``None``."""
    if record["status"] != "done":
        return None
    expected = {"scores", *(f"circuit.{i}" for i in range(len(record["circuits"])))}
    if set(tensors) != expected:
        return f"{SCORES} holds {', '.join(sorted(tensors)) or 'nothing'} instead of {', '.join(sorted(expected))}"
    scores = tensors["scores"]
    if scores.dtype != np.float64 or scores.ndim != 2 or any(a.shape != scores.shape for a in tensors.values()):
        return f"{SCORES} does not hold matrices of one shape"
    if np.count_nonzero(~np.isnan(scores)) != record["n_edges"]:
        return f"the scores do not fit the graph, which has {record['n_edges']} edges"
    return None
