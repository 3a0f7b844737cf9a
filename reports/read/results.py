"""The content of a store, read once: records, evaluations, and the tidy tables that figures and pages are made from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import pandas as pd

from ...suite.errors import SpecError, unknown
from ...suite.scoring.behaviour import warning_of_all
from ...suite.store.record import BehaviourRecord, EvaluationRecord, Record
from . import tables
from .controls import control_summary, control_table
from .counted import that_count
from .curves import curve_tables
from .evaluations import area_table, evaluation_table, faithfulness_table, measured_on, usual
from .labels import RIVALS
from .plurality import plurality_cells, plurality_shares
from .selected import selected_table
from .sensitivity import Sensitivity, sensitivity
from .stability import prediction_table, stability_summary, stability_table
from .standing import Standing, own_standings
from .stores import Stores
from .structures import structure_table, structures_found

ASKED_FOR = ("task", "model", "method", "parameters", "ablation", "objective", "seed")
"""What a benchmark asks for; the rest of an identity (versions, hashes) says with what it was answered."""


class Results:
    """The content of stores, and the tidy tables made from it. Each table is made when it is first needed.

    Args:
        records: the cells that are reported.
        superseded: how many records were left out as outdated.
        rivals: methods to test those of the user's against, in this order.
        benchmarks: those whose evaluations count; all where there are none.
    """

    def __init__(
        self,
        store: Stores,
        records: list[Record],
        superseded: int,
        rivals: Sequence[str] = RIVALS,
        benchmarks: Sequence[str] = (),
    ) -> None:
        self.store, self.records, self.superseded, self.rivals = store, records, superseded, rivals
        self._benchmarks = tuple(benchmarks)

    @cached_property
    def recovery(self) -> pd.DataFrame:
        return tables.recovery_table(self.records)

    @cached_property
    def aggregate(self) -> pd.DataFrame:
        return tables.aggregate_table(self.recovery)

    @cached_property
    def pairwise(self) -> pd.DataFrame:
        return tables.pairwise_table(self.recovery)

    @cached_property
    def own_standings(self) -> list[Standing]:
        """Where methods of the user's stand among the others; empty where no circuit is known."""
        return [] if self.recovery.empty else own_standings(self.records, self.store.scores, self.rivals)

    @cached_property
    def mismatch(self) -> pd.DataFrame:
        return tables.mismatch_table(self.recovery)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Mean curves over programs, the first of ``curves.curve_tables``."""
        return curve_tables(self.store, self.recovery)[0]

    @cached_property
    def evaluations(self) -> list[EvaluationRecord]:
        """The evaluations that count: of a cell that a benchmark lists, those that a benchmark asks for."""
        return that_count(self.store.evaluations(), self.store.asked_evaluations(*self._benchmarks))

    @cached_property
    def behaviours(self) -> list[BehaviourRecord]:
        """What the models of reported cells do, on the prompts that their circuits are measured on."""
        measured_on = {record.key: {record.identity.data} for record in self.records if record.done}
        for found in self.evaluations:
            if found.identity.cell in measured_on:
                measured_on[found.identity.cell].add(found.identity.data)
        weights = {record.key: record.identity.weights for record in self.records}
        asked = {(data, weights[key]) for key, all_data in measured_on.items() for data in all_data}
        return sorted(
            (each for each in self.store.behaviours() if (each.identity.data, each.identity.weights) in asked),
            key=lambda each: (each.task, each.model, each.key),
        )

    @property
    def warning(self) -> str | None:
        """In one paragraph, which tasks a model hardly does, so that their circuits say little; ``None`` without."""
        return warning_of_all([(each.task, each.model, each.behaviour) for each in self.behaviours])

    @cached_property
    def evaluated(self) -> pd.DataFrame:
        return evaluation_table(self.records, self.evaluations)

    @cached_property
    def _usual(self) -> pd.DataFrame:
        return usual(self.evaluated)

    @cached_property
    def faithfulness(self) -> pd.DataFrame:
        return faithfulness_table(self._usual)

    @property
    def measured_on(self) -> str:
        """What faithfulness is the median over: the prompts of one task, or several tasks."""
        return measured_on(self._usual)

    @cached_property
    def areas(self) -> pd.DataFrame:
        return area_table(self._usual)

    @cached_property
    def sensitivity(self) -> Sensitivity:
        return sensitivity(self.evaluated)

    @cached_property
    def stability(self) -> pd.DataFrame:
        return stability_table(self.records, self.evaluations)

    @cached_property
    def stability_summary(self) -> pd.DataFrame:
        return stability_summary(self.stability)

    @cached_property
    def stability_prediction(self) -> pd.DataFrame:
        return prediction_table(self.stability)

    @cached_property
    def controls(self) -> pd.DataFrame:
        return control_table(self.records, self.evaluations)

    @cached_property
    def control_summary(self) -> pd.DataFrame:
        return control_summary(self.controls)

    @cached_property
    def selected(self) -> pd.DataFrame:
        return selected_table(self.records, self.evaluations, self._usual)

    @cached_property
    def structures(self) -> pd.DataFrame:
        return structures_found(structure_table(self.store, self.records))

    @cached_property
    def plurality(self) -> pd.DataFrame:
        return plurality_cells(self.records)

    @cached_property
    def plurality_shares(self) -> pd.DataFrame:
        return plurality_shares(self.plurality)

    @cached_property
    def failures(self) -> pd.DataFrame:
        return tables.failure_table(self.records, self.evaluations, self.store.damaged)


def read_results(*store_paths: str | Path, rivals: Sequence[str] | None = None) -> Results:
    """Reads a store, or several as one.

    Args:
        rivals: methods to test those of the user's against, in this order; ``RIVALS`` where omitted.

    Raises:
        StoreError: a folder is not a store or a newer version wrote it.
        SpecError: a rival has no cell in the stores.
    """
    store = Stores(store_paths)
    records, superseded = current(store)
    if rivals is None:
        return Results(store, records, superseded)
    there = {record.identity.method for record in records}
    for rival in rivals:
        if rival not in there:
            raise SpecError(unknown("rival", rival, there, "Rivals are methods that were run into the store."))
    return Results(store, records, superseded, rivals)


def within(results: Results, *benchmarks: str) -> Results:
    """The results that belong to some benchmarks, so that medians are over programs that all methods ran on."""
    known = results.store.benchmarks()
    cells = {key for name in benchmarks for key in (known[name].cells if name in known else ())}
    records = [record for record in results.records if record.key in cells]
    return Results(results.store, records, results.superseded, results.rivals, benchmarks)


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
