"""Reads a store: every file is checked against what was written, and becomes a typed value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from ...ground_truth.certificate import Certificate
from ..errors import StoreError
from ..json_model import fault_of, json_hash
from .files import encoded
from .folder import folder_at
from .older import Record1, renewed
from .record import RECORD_FORMAT, BehaviourRecord, Benchmark, Environment, EvaluationRecord, Record, StoreFile

if TYPE_CHECKING:
    import numpy as np

STORE_FORMAT = 1
RECORD, SCORES, SUMS = "record.json", "scores.safetensors", "SHA256SUMS"
CARD = ".card"  # ends the name of a sensitivity card's entry in the index; those of benchmarks are their names
_Value = TypeVar("_Value")
_Keyed = TypeVar("_Keyed", EvaluationRecord, BehaviourRecord)


class Damaged(StoreError):
    """A file is not what was written. The message says how it differs."""


class StoreReader:
    """The results in one folder, or at one address, for reading.

    Args:
        path: a folder, or an address that fsspec knows.

    Raises:
        StoreError: there is no store at ``path``, its ``store.json`` cannot be read, or it was written by a newer
            version of the program.
    """

    def __init__(self, path: str | Path) -> None:
        self.folder = folder_at(path)
        self.name = str(path)
        self.path = Path(path)
        self.damaged: dict[str, str] = {}
        self._check_format()

    # Cells

    def keys(self) -> list[str]:
        """The keys of all cells that have a folder, damaged ones too, sorted."""
        return self.folder.names("cells")

    def __contains__(self, key: str) -> bool:
        return self.folder.has_folder(f"cells/{key}")

    def record(self, key: str) -> Record:
        """The record of a cell, once all of the cell's files were found to be what was written.

        Raises:
            Damaged: a file is missing, truncated or changed, the record does not follow the schema, or the scores do
                not fit the graph.
            StoreError: there is no such cell.
        """
        return self._cell(key)[0]

    def records(self) -> Iterator[Record]:
        """Every undamaged record, by key. The damaged ones are left out and listed in ``.damaged``, with the reason."""
        yield from self._undamaged(self.keys(), self.record)

    def tensors(self, key: str) -> dict[str, np.ndarray]:
        """``scores`` float64 [W, R], NaN where the graph has no edge, and ``circuit.<i>`` uint8 [W, R] for each of
        the record's ``circuits``. Empty for failures. Raises the same errors as ``record``."""
        return self._cell(key)[1]

    def scores(self, key: str) -> np.ndarray:
        """The edge scores of a finished cell, float64 [W, R]. Raises StoreError when the cell holds none: it failed, or
        has no meaning."""
        record, tensors = self._cell(key)
        if "scores" not in tensors:
            what = "is undefined" if record.kind == "undefined" else "failed"
            raise StoreError(f"cell {key} of {self.name} has no scores, because it {what}: {record.reason}")
        return tensors["scores"]

    # Evaluations, truths, benchmarks

    def evaluation_keys(self) -> list[str]:
        """The keys of all evaluations, sorted."""
        return self._stems("evaluations")

    def has_evaluation(self, key: str) -> bool:
        """Whether there is an undamaged evaluation with this key."""
        return _given(self.evaluation, key)

    def evaluation(self, key: str) -> EvaluationRecord:
        """The evaluation with this key. Raises StoreError when it is missing, and Damaged when it was changed."""
        return self._keyed(EvaluationRecord, "evaluations", key)

    def evaluations(self) -> Iterator[EvaluationRecord]:
        """Every undamaged evaluation, by key. The damaged ones are left out and listed in ``.damaged``."""
        yield from self._undamaged(self.evaluation_keys(), self.evaluation)

    def behaviour_keys(self) -> list[str]:
        """The keys of all behaviours, sorted. Stores of older versions hold none."""
        return self._stems("behaviours")

    def has_behaviour(self, key: str) -> bool:
        """Whether there is an undamaged behaviour with this key."""
        return _given(self.behaviour, key)

    def behaviour(self, key: str) -> BehaviourRecord:
        """What a model does on the prompts of a task. Raises the same errors as ``evaluation``."""
        return self._keyed(BehaviourRecord, "behaviours", key)

    def behaviours(self) -> Iterator[BehaviourRecord]:
        """Every undamaged behaviour, by key. The damaged ones are left out and listed in ``.damaged``."""
        yield from self._undamaged(self.behaviour_keys(), self.behaviour)

    def truth_keys(self) -> list[str]:
        """The hashes of the certificates that are kept here, sorted."""
        return self._stems("truths")

    def benchmark_names(self) -> list[str]:
        """The names of the benchmarks that ``run`` was asked for, sorted."""
        return self._stems("benchmarks")

    def truth(self, certificate_hash: str) -> Certificate:
        """The certificate with this hash, as it was when cells were scored against it.

        Raises StoreError when it is missing, and Damaged when it was changed, which the hash shows.
        """
        path = f"truths/{certificate_hash}.json"
        return _typed(Certificate, self._by_hash(path, certificate_hash), path)

    def environment_keys(self) -> list[str]:
        """The hashes of the environments that cells were computed in, sorted."""
        return self._stems("environments")

    def environment(self, environment_hash: str) -> Environment:
        """The environment with this hash, in which cells were computed. Raises the same errors as ``truth``."""
        path = f"environments/{environment_hash}.json"
        return _typed(Environment, self._by_hash(path, environment_hash), path)

    def has_truth(self, certificate_hash: str) -> bool:
        """Whether an undamaged copy of the certificate is kept here."""
        return _given(self.truth, certificate_hash)

    def benchmarks(self) -> dict[str, Benchmark]:
        """The benchmarks that ``run`` was asked to fill this store with, by name."""
        return {name: self.benchmark(name) for name in self.benchmark_names()}

    def benchmark(self, name: str) -> Benchmark:
        """The benchmark with this name. Raises StoreError when it cannot be read, and Damaged when it was changed."""
        path = f"benchmarks/{name}.json"
        return _typed(Benchmark, unsealed(self._json(path), path, "; run the benchmark again to write it"), path)

    def card_names(self) -> list[str]:
        """The names of the sensitivity cards that ``reproduce`` measured, sorted."""
        return self._stems("cards")

    def check_card(self, name: str) -> None:
        """Checks that a sensitivity card is what was written. Raises the same errors as ``benchmark``."""
        path = f"cards/{name}.json"
        unsealed(self._json(path), path, "; remove it, and reproduce the paper again")

    # Implementation

    def _keyed(self, kind: type[_Keyed], folder: str, key: str) -> _Keyed:
        """The record of one kind with this key, in a file with its checksum."""
        path = f"{folder}/{key}.json"
        contents = self._json(path)
        record, stated = contents.get("record"), contents.get("sha256")
        if len(contents) != 2 or not isinstance(record, dict) or stated != digest(record):
            raise Damaged(f"{path} is not what was written: its checksum differs")
        found = _typed(kind, record, path)
        if found.key != key:
            raise Damaged(f"{path} holds the record {found.key}")
        return found

    def _by_hash(self, path: str, wanted: str) -> dict[str, Any]:
        contents = self._json(path)
        if json_hash(contents) != wanted:
            raise Damaged(f"{path} is not what was written: its name is not the hash of its content")
        return contents

    def _undamaged(self, keys: list[str], read: Callable[[str], _Value]) -> Iterator[_Value]:
        for key in keys:
            try:
                yield read(key)
            except StoreError as error:
                self.damaged[key] = str(error)

    def _stems(self, path: str) -> list[str]:
        return [name.removesuffix(".json") for name in self.folder.names(path) if name.endswith(".json")]

    def _check_format(self) -> None:
        try:
            contents = json_object(self.folder.read("store.json"), f"{self.name}/store.json", exactly=False)
        except FileNotFoundError as error:
            hint = f"`circuitmeter run SPEC --store {self.name}` makes one"
            raise StoreError(f"no store at {self.name}; {hint}.") from error
        except OSError as error:
            raise StoreError(f"cannot read {self.name}/store.json: {error.strerror or error}.") from error
        number = contents.get("format")
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise StoreError(
                f'{self.name}/store.json does not say its format; it should hold {{"format": {STORE_FORMAT}}}.'
            )
        if number > STORE_FORMAT:
            raise StoreError(
                f"the store {self.name} has format {number}, written by circuitmeter {contents.get('version', '?')}; "
                f"this is circuitmeter {version('circuitmeter')}, which reads up to format {STORE_FORMAT}: update it, "
                f"or name another folder."
            )

    def store_file(self) -> StoreFile:
        """The content of ``store.json``. Raises Damaged when it was changed."""
        return _typed(StoreFile, unsealed(self._json("store.json"), "store.json"), "store.json")

    def cell_files(self, path: str) -> dict[str, bytes]:
        """The contents of the files of a cell's folder, by name, checked. Raises the same errors as ``record``."""
        try:
            text = self.folder.read(f"{path}/{SUMS}").decode()
            sums = dict(line.split("  ", 1)[::-1] for line in text.splitlines())
            contents = {name: self.folder.read(f"{path}/{name}") for name in sums if name in (RECORD, SCORES)}
        except FileNotFoundError as error:
            if not self.folder.has_folder(path):
                raise StoreError(f"no cell {Path(path).name} in the store {self.name}.") from error
            raise Damaged(f"{Path(str(error.filename or error)).name} is missing") from error
        except OSError as error:
            raise StoreError(f"cannot read {path} of {self.name}: {error.strerror or error}.") from error
        except ValueError as error:  # not text, or not lines of "hash  name"
            raise Damaged(f"{SUMS} is garbled") from error
        for name, data in contents.items():
            if hashlib.sha256(data).hexdigest() != sums[name]:
                raise Damaged(f"{name} is not what was written: its checksum differs")
        if RECORD not in contents:
            raise Damaged(f"{SUMS} does not list {RECORD}")
        if text != sums_of(contents):
            raise Damaged(f"{SUMS} is garbled")
        return contents

    def _cell(self, key: str) -> tuple[Record, dict[str, np.ndarray]]:
        from safetensors import SafetensorError
        from safetensors.numpy import load as load_tensors

        contents = self.cell_files(f"cells/{key}")
        try:
            tensors = load_tensors(contents[SCORES]) if SCORES in contents else {}
        except SafetensorError as error:
            raise Damaged(f"{SCORES} is not a safetensors file") from error
        record = record_in(contents[RECORD])
        if record.key != key:
            raise Damaged("the record's identity belongs to another key")
        problem = misfit(record, tensors)
        if problem:
            raise Damaged(problem)
        return record, tensors

    def _json(self, path: str) -> dict[str, Any]:
        """The JSON object in a file, which has to be byte for byte what this program would write.

        Raises:
            StoreError: the file cannot be read.
            Damaged: the file is not what was written.
        """
        try:
            data = self.folder.read(path)
        except OSError as error:
            raise StoreError(f"cannot read {self.name}/{path}: {error.strerror or error}.") from error
        return json_object(data, f"{self.name}/{path}")


def json_object(data: bytes, path: str, *, exactly: bool = True) -> dict[str, Any]:
    """The JSON object in ``data``. Raises Damaged for other JSON, or bytes that a store would not write ``exactly``."""
    try:
        contents = json.loads(data)
    except (ValueError, RecursionError) as error:  # not UTF-8, no JSON, or nested too deeply to be read
        raise Damaged(f"{path} is not JSON; restore it from a copy, or name another folder.") from error
    if not isinstance(contents, dict):
        raise Damaged(f"{path} holds no JSON object; restore it from a copy, or name another folder.")
    try:
        same = not exactly or encoded(contents) == data
    except (ValueError, RecursionError):  # NaN, which no store writes
        same = False
    if not same:
        raise Damaged(f"{path} is not what was written: its bytes are not those that a store writes")
    return contents


def record_in(data: bytes) -> Record:
    """The record in a cell's ``record.json``, converted from older formats. Raises Damaged when it is not valid."""
    try:
        contents = json.loads(data)
        if not isinstance(contents, dict):
            raise Damaged("the record is no JSON object")
        number = contents.get("format")
        if isinstance(number, int) and number > RECORD_FORMAT:
            raise Damaged(f"the record has format {number}, which a newer version wrote")
        return renewed(Record1(**contents)) if number == 1 else Record(**contents)
    except ValidationError as error:
        raise Damaged(f"the record does not follow its schema: {fault_of(error)}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise Damaged(f"{RECORD} is not JSON") from error


def misfit(record: Record, tensors: Mapping[str, np.ndarray]) -> str | None:
    """How the tensors contradict the record, or ``None``."""
    import numpy as np

    if not record.done:
        return None
    expected = {"scores", *(f"circuit.{i}" for i in range(len(record.circuits)))}
    if set(tensors) != expected:
        return f"{SCORES} holds {', '.join(sorted(tensors)) or 'nothing'} instead of {', '.join(sorted(expected))}"
    scores = tensors["scores"]
    if scores.dtype != np.float64 or scores.ndim != 2 or any(a.shape != scores.shape for a in tensors.values()):
        return f"{SCORES} does not hold matrices of one shape"
    if np.count_nonzero(~np.isnan(scores)) != record.n_edges:
        return f"the scores do not fit the graph, which has {record.n_edges} edges"
    return None


def sums_of(contents: Mapping[str, bytes]) -> str:
    """The text of ``SHA256SUMS`` for these files."""
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in contents.items())


def digest(contents: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON object, in hex."""
    return hashlib.sha256(json.dumps(contents, sort_keys=True, allow_nan=False).encode()).hexdigest()


def sealed(contents: Mapping[str, Any]) -> bytes:
    """The bytes of a file that holds a JSON object together with its digest."""
    return encoded({**contents, "sha256": digest(contents)})


def unsealed(contents: dict[str, Any], path: object, hint: str = "") -> dict[str, Any]:
    """A JSON object without its digest, which older versions did not write. Raises Damaged when the digest is wrong."""
    contents = dict(contents)
    stated = contents.pop("sha256", None)
    if stated is not None and stated != digest(contents):
        raise Damaged(f"{path} is not what was written: its checksum differs{hint}")
    return contents


def _typed(kind: type[_Value], contents: Mapping[str, Any], path: str) -> _Value:
    try:
        return kind(**contents)
    except ValidationError as error:
        raise Damaged(f"{path} does not follow its schema: {fault_of(error)}") from error
    except TypeError as error:
        raise Damaged(f"{path} does not follow its schema") from error


def _given(read: Callable[[str], Any], key: str) -> bool:
    try:
        read(key)
    except StoreError:
        return False
    return True
