"""Several stores read as one, for a leaderboard of results from several places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from ...ground_truth.certificate import Certificate
from ...suite.errors import StoreError
from ...suite.store.record import BehaviourRecord, Benchmark, Environment, EvaluationRecord, Record
from ...suite.store.store import Store


class Stores:
    """The reading half of ``Store``, over several folders.

    A cell that several stores hold counts once: a finished one before a failed one, and else that of the first store.

    Args:
        paths: the folders, one at least.

    Raises:
        StoreError: one of them is no store, or a newer version wrote it.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.stores = [Store(path) for path in paths]
        self.path = self.stores[0].path
        self._holder: dict[str, Store] = {}

    @property
    def damaged(self) -> dict[str, str]:
        """Key -> in what way a cell is not what was written; cells that another store holds undamaged are not."""
        found = {key: reason for store in self.stores for key, reason in store.damaged.items()}
        return {key: reason for key, reason in found.items() if key not in self._holder}

    def records(self) -> Iterator[Record]:
        """Every record once, by key."""
        found: dict[str, Record] = {}
        for store in self.stores:
            for record in store.records():
                key = record.key
                if key not in found or (record.done and not found[key].done):
                    found[key], self._holder[key] = record, store
        yield from (found[key] for key in sorted(found))

    def record(self, key: str) -> Record:
        """The record of a cell. Raises StoreError when no store holds it."""
        return self._of(key).record(key)

    def scores(self, key: str) -> np.ndarray:
        """The edge scores of a finished cell, float64 [W, R]. Raises StoreError when no store holds them."""
        return self._of(key).scores(key)

    def truth(self, certificate_hash: str) -> Certificate:
        """The certificate with this hash. Raises StoreError when no store holds it."""
        holder = next((store for store in self.stores if store.has_truth(certificate_hash)), self.stores[0])
        return holder.truth(certificate_hash)

    def environments(self) -> dict[str, Environment]:
        """Hash -> what cells were computed in; those that were changed are left out, and ``check`` names them."""
        found: dict[str, Environment] = {}
        for store in self.stores:
            for name in store.environment_keys():
                with suppress(StoreError):
                    found[name] = store.environment(name)
        return dict(sorted(found.items()))

    def evaluations(self) -> Iterator[EvaluationRecord]:
        """Every evaluation once, by key; a finished one before a failed one."""
        found: dict[str, EvaluationRecord] = {}
        for store in self.stores:
            for record in store.evaluations():
                key = record.key
                if key not in found or (record.done and not found[key].done):
                    found[key] = record
        yield from (found[key] for key in sorted(found))

    def asked_evaluations(self, *benchmarks: str) -> dict[str, set[str]]:
        """Cell -> the keys of its evaluations that these benchmarks ask for, or all benchmarks where none is named.

        Every cell that one of them lists is there.
        """
        found: dict[str, set[str]] = {}
        for store in self.stores:
            for name, benchmark in store.benchmarks().items():
                for key in benchmark.cells if name in benchmarks or not benchmarks else ():
                    found.setdefault(key, set()).update(filter(None, [benchmark.evaluations.get(key)]))
        return found

    def behaviours(self) -> list[BehaviourRecord]:
        """What models do on the prompts of their cells, each once, by key."""
        found = {record.key: record for store in reversed(self.stores) for record in store.behaviours()}
        return [found[key] for key in sorted(found)]

    def benchmarks(self) -> dict[str, Benchmark]:
        """Name -> the benchmark. The cells that several stores have of one benchmark are taken together."""
        found: dict[str, Benchmark] = {}
        for store in self.stores:
            for name, benchmark in store.benchmarks().items():
                found[name] = benchmark.with_cells_of(found[name]) if name in found else benchmark
        return dict(sorted(found.items()))

    def _of(self, key: str) -> Store:
        if key not in self._holder:
            holder = next((store for store in self.stores if key in store), None)
            if holder is None:
                raise StoreError(f"no cell {key} in any of {', '.join(store.name for store in self.stores)}.")
            self._holder[key] = holder
        return self._holder[key]
