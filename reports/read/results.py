"""What a store holds, read once: records, evaluations, and the tidy tables that figures and pages are made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ...suite.store.record import Record
from ..chapters.diagnostics import structure_table, structures
from ..chapters.sensitivity import Sensitivity, sensitivity
from . import tables
from .evaluations import area_table, evaluation_table, faithfulness_table, usual
from .stores import Stores

ASKED_FOR = ("task", "model", "method", "parameters", "ablation", "objective", "seed")
"""What a benchmark asks for; the rest of an identity (versions, hashes) says with what it was answered."""


class Results(NamedTuple):
    """What stores hold and the tidy tables made from it; ``superseded`` counts the records left out as outdated."""

    store: Stores
    records: list[Record]
    recovery: pd.DataFrame
    superseded: int
    aggregate: pd.DataFrame
    pairwise: pd.DataFrame
    mismatch: pd.DataFrame
    evaluated: pd.DataFrame
    faithfulness: pd.DataFrame
    areas: pd.DataFrame
    sensitivity: Sensitivity
    structures: pd.DataFrame
    failures: pd.DataFrame


def read(*store_paths: str | Path) -> Results:
    """Reads a store, or several as one. Raises StoreError when one is none or a newer version wrote it."""
    store = Stores(store_paths)
    records, superseded = current(store)
    return _of(store, records, superseded)


def within(results: Results, *benchmarks: str) -> Results:
    """What of it belongs to some benchmarks: medians over programs are to be over programs that all methods ran on."""
    known = results.store.benchmarks()
    cells = {key for name in benchmarks for key in (known[name].cells if name in known else ())}
    return _of(results.store, [record for record in results.records if record.key in cells], results.superseded)


def _of(store: Stores, records: list[Record], superseded: int) -> Results:
    evaluations = list(store.evaluations())
    recovery = tables.recovery_table(records)
    evaluated = evaluation_table(records, evaluations)
    shown = usual(evaluated)
    return Results(
        store=store,
        records=records,
        recovery=recovery,
        superseded=superseded,
        aggregate=tables.aggregate_table(recovery),
        pairwise=tables.pairwise_table(recovery),
        mismatch=tables.mismatch_table(recovery),
        evaluated=evaluated,
        faithfulness=faithfulness_table(shown),
        areas=area_table(shown),
        sensitivity=sensitivity(evaluated),
        structures=structures(structure_table(store, records)),
        failures=tables.failure_table(records, evaluations, store.damaged),
    )


def current(store: Stores) -> tuple[list[Record], int]:
    """The records to report, and how many were left out because a benchmark now asks for a newer cell in their place.

    A store keeps every cell it ever held. When a method's source or a program's weights change, the benchmark's cells
    get new keys; the old ones answer a question that is no longer asked, and would stand beside the new as if they were
    rivals.
    """
    records = list(store.records())
    asked = {key for benchmark in store.benchmarks().values() for key in benchmark.cells}

    def question(record: Record) -> str:
        return json.dumps([getattr(record.identity, name) for name in ASKED_FOR], sort_keys=True)

    answered = {question(record) for record in records if record.key in asked}
    kept = [record for record in records if record.key in asked or question(record) not in answered]
    return kept, len(records) - len(kept)
