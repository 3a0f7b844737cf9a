"""Whether a store is whole: its files are what was written, and no cell of its benchmarks is missing. Without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import StoreError
from .published import published_faults
from .reading import CARD, RECORD, SCORES, SUMS, Damaged, StoreReader
from .record import Benchmark, Record
from .store import Store

_STATES = ("done", "undefined", "unevaluated", "failed", "damaged", "missing")


@dataclass(frozen=True)
class Check:
    """What a check of a store found.

    Args:
        store: the folder or address.
        faults: path in the store -> what is wrong with it.
        coverage: benchmark -> how many of its cells are in each of ``_STATES``.
        missing_truths: keys of the cells whose certificate is not in the store.
        not_run: benchmark -> a line for each model that it was not run on, because the model was not there.
        replayed: a line for each cell that was computed again.
        replay_differs: whether some cell gave another result.
    """

    store: str
    faults: dict[str, str]
    coverage: dict[str, dict[str, int]]
    missing_truths: tuple[str, ...]
    not_run: dict[str, list[str]] = field(default_factory=dict)
    replayed: tuple[str, ...] = ()
    replay_differs: bool = False

    @property
    def whole(self) -> bool:
        """Whether nothing is missing or changed, no cell failed, and every replayed cell gave the same result."""
        complete = all(not counts[state] for counts in self.coverage.values() for state in _STATES[2:])
        return complete and not (self.faults or self.missing_truths or self.replay_differs)

    def as_json(self) -> dict[str, Any]:
        """The object that ``check --json`` prints."""
        return {
            "store": self.store,
            "whole": self.whole,
            "faults": self.faults,
            "coverage": self.coverage,
            "missing_truths": list(self.missing_truths),
            "not_run": self.not_run,
            "replayed": list(self.replayed),
        }

    def __str__(self) -> str:
        lines = [f"{self.store}: {'whole' if self.whole else 'not whole'}"]
        for name, counts in self.coverage.items():
            shown = ", ".join(f"{counts[state]} {state}" for state in _STATES if counts[state] or state == "done")
            lines.append(f"  {name}: {sum(counts.values())} cells: {shown}")
            lines += [f"  {name}: not run: {line}" for line in self.not_run.get(name, ())]
        lines += [f"  {path}: {reason}" for path, reason in self.faults.items()]
        lines += [f"  cells/{key}: its certificate is not in the store" for key in self.missing_truths]
        lines += [f"  replayed: {line}" for line in self.replayed]
        return "\n".join(lines)


def check(path: str | Path) -> Check:
    """Looks at everything in a store and changes nothing.

    Raises:
        StoreError: there is no store at ``path``, or a newer version wrote it.
    """
    store = Store(path)
    faults = faults_of(store)
    records = {record.key: record for record in store.records()}
    truths = {record.identity.truth for record in records.values() if record.identity.truth is not None}
    known = {certificate for certificate in truths if store.has_truth(certificate)}
    orphans = [key for key, record in records.items() if record.identity.truth not in {None, *known}]
    outcomes = (*records.values(), *store.evaluations())
    made_in = {name for outcome in outcomes if (name := outcome.provenance.environment) is not None}
    for name in sorted(made_in - set(store.environment_keys())):
        faults[f"environments/{name}.json"] = "is missing: results say that they were computed in it"
    evaluated = set(store.evaluation_keys())
    coverage, not_run = {}, {}
    for name in store.benchmark_names():
        if f"benchmarks/{name}.json" in faults:
            continue
        benchmark = store.benchmark(name)
        for key in sorted(set(benchmark.behaviours) - set(store.behaviour_keys())):
            faults[f"behaviours/{key}.json"] = f"is missing; run {name} again to measure it"
        found = [_state(key, benchmark, records, faults, evaluated) for key in benchmark.cells]
        coverage[name] = {state: found.count(state) for state in _STATES}
        if benchmark.not_run:
            not_run[name] = [str(model) for model in benchmark.not_run]
    return Check(store.name, faults, coverage, tuple(orphans), not_run)


def _state(
    key: str, benchmark: Benchmark, records: dict[str, Record], faults: dict[str, str], evaluated: set[str]
) -> str:
    if key not in records:
        return "damaged" if f"cells/{key}" in faults else "missing"
    record = records[key]
    if record.kind == "undefined" or not record.done:
        return record.kind if record.kind == "undefined" else "failed"
    evaluation = benchmark.evaluations.get(key)
    return "done" if evaluation is None or evaluation in evaluated else "unevaluated"


def faults_of(store: StoreReader) -> dict[str, str]:
    """Everything in the store that is not what was written, by its path, with what is wrong."""
    found = _faults("cells/{}", store.keys(), lambda key: _cell(store, f"cells/{key}", key))
    found |= _faults("failed/{}", store.folder.names("failed"), lambda name: store.cell_files(f"failed/{name}"))
    found |= _faults("evaluations/{}.json", store.evaluation_keys(), store.evaluation)
    found |= _faults("behaviours/{}.json", store.behaviour_keys(), store.behaviour)
    found |= _faults("truths/{}.json", store.truth_keys(), store.truth)
    found |= _faults("environments/{}.json", store.environment_keys(), store.environment)
    found |= _faults("benchmarks/{}.json", store.benchmark_names(), store.benchmark)
    found |= _faults("cards/{}.json", store.card_names(), store.check_card)
    found |= _faults("{}", ["store.json"], lambda name: store.store_file())
    found |= _faults("index/{}", store.folder.names("index"), lambda name: _listed(store, name))
    if store.keys() and not store.benchmark_names():
        found["benchmarks"] = "no benchmark says which cells there should be; run the benchmark again to write it"
    return found | published_faults(store.folder)


def _faults(path: str, names: Iterable[str], read: Callable[[str], Any]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            read(name)
        except StoreError as error:
            found[path.format(name)] = str(error)
    return found


def _cell(store: StoreReader, path: str, key: str) -> None:
    store.record(key)
    unknown = set(store.folder.names(path)) - {RECORD, SCORES, SUMS}
    if unknown:
        raise Damaged(f"{', '.join(sorted(unknown))} was not written by a run")


def _listed(store: StoreReader, name: str) -> None:
    """Raises Damaged for an entry of the index that is not empty, or whose benchmark or card is not there."""
    if store.folder.read(f"index/{name}"):
        raise Damaged("is not what was written: it should be empty")
    if name in store.benchmark_names() or (name.endswith(CARD) and name.removesuffix(CARD) in store.card_names()):
        return
    if name.endswith(CARD):
        raise Damaged(f"cards/{name.removesuffix(CARD)}.json was deleted; reproduce the paper again to write it")
    raise Damaged(f"benchmarks/{name}.json was deleted; run the benchmark again to write it")
