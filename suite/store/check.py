"""Is a store whole: are its files what was written, and are all cells of its benchmarks there. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import StoreError
from .record import Record
from .store import Store

STATES = ("done", "undefined", "failed", "damaged", "missing")


@dataclass(frozen=True)
class Check:
    """What was found.

    Args:
        store: the folder.
        faults: path in the store -> what is wrong with it.
        coverage: benchmark -> how many of its cells are in each of ``STATES``.
        missing_truths: keys of the cells whose certificate is not in the store.
        not_run: benchmark -> what was not run of it because the model was not there: a line for each model.
    """

    store: Path
    faults: dict[str, str]
    coverage: dict[str, dict[str, int]]
    missing_truths: tuple[str, ...]
    not_run: dict[str, list[str]] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether everything is there, nothing was changed, and no cell failed."""
        complete = all(not counts[state] for counts in self.coverage.values() for state in STATES[2:])
        return complete and not self.faults and not self.missing_truths

    def as_json(self) -> dict[str, Any]:
        """For ``check --json``."""
        return {
            "store": str(self.store),
            "whole": self.whole,
            "faults": self.faults,
            "coverage": self.coverage,
            "missing_truths": list(self.missing_truths),
            "not_run": self.not_run,
        }

    def __str__(self) -> str:
        lines = [f"{self.store}: {'whole' if self.whole else 'not whole'}"]
        for name, counts in self.coverage.items():
            shown = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state] or state == "done")
            lines.append(f"  {name}: {sum(counts.values())} cells: {shown}")
            lines += [f"  {name}: not run: {line}" for line in self.not_run.get(name, ())]
        lines += [f"  {path}: {reason}" for path, reason in self.faults.items()]
        lines += [f"  cells/{key}: its certificate is not in the store" for key in self.missing_truths]
        return "\n".join(lines)


def check(path: str | Path) -> Check:
    """Looks at everything in a store and changes nothing.

    Raises:
        StoreError: there is no store at ``path``, or a newer version wrote it.
    """
    store = Store(path)
    faults = faults_of(store)
    records = {record.key: record for record in store.records()}
    truths = {record.identity.truth for record in records.values()} - {None}
    known = {certificate for certificate in truths if store.has_truth(certificate)}
    orphans = [key for key, record in records.items() if record.identity.truth not in {None, *known}]
    coverage, not_run = {}, {}
    for file in sorted((store.path / "benchmarks").glob("*.json")):
        if f"benchmarks/{file.name}" not in faults:
            benchmark = store.benchmark(file.stem)
            found = [_state(key, records, faults) for key in benchmark.cells]
            if benchmark.not_run:
                not_run[file.stem] = [str(model) for model in benchmark.not_run]
            coverage[file.stem] = {state: found.count(state) for state in STATES}
    return Check(store.path, faults, coverage, tuple(orphans), not_run)


def faults_of(store: Store) -> dict[str, str]:
    """Everything in the store that is not what was written, by its path, with what is wrong."""
    found: dict[str, str] = {}
    readers = {
        "cells/{}": (store.keys(), store.record),
        "evaluations/{}.json": (store.evaluation_keys(), store.evaluation),
        "truths/{}.json": (store.truth_keys(), store.truth),
        "benchmarks/{}.json": (store.benchmark_names(), store.benchmark),
    }
    for path, (names, read) in readers.items():
        for name in names:
            try:
                read(name)
            except StoreError as error:
                found[path.format(name)] = str(error)
    return found


def _state(key: str, records: dict[str, Record], faults: dict[str, str]) -> str:
    if key not in records:
        return "damaged" if f"cells/{key}" in faults else "missing"
    record = records[key]
    return "undefined" if record.kind == "undefined" else record.status
