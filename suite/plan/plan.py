"""What a benchmark still needs: which of its cells are done, missing, failed, or have no meaning."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..errors import SpecError, unknown
from ..store.keys import why_not_reused
from ..store.record import Cell, Record
from ..store.store import Store
from . import names
from .estimate import Estimator, spoken
from .expand import LEFT_OUT, Expansion, NotRun, expand
from .gated import behind_gates
from .job import Job, labels

if TYPE_CHECKING:
    from .spec import Spec

State = Literal["done", "missing", "unevaluated", "undefined", "failed"]
_STATES: tuple[State, ...] = get_args(State)
ONLY = ("task", "model", "method", "ablation", "objective", "seed")


@dataclass(frozen=True)
class PlannedJob:
    """A job and where it stands; ``reason`` is why it is undefined, failed or must run again."""

    job: Job
    state: State
    reason: str | None


@dataclass(frozen=True, eq=False)
class Plan:
    """Where every job of a benchmark stands.

    Args:
        name: the benchmark's.
        jobs: in the benchmark's order.
        damaged: key and reason of every damaged cell in the store, whether of this benchmark or not.
        estimator: what earlier records say of durations.
        not_run: the models that the benchmark has no cells on, because they are not on this machine, cannot be asked a
            task, or are below its gate.
        not_reused: why older results of the store do not count, and how many they are.
    """

    name: str
    jobs: tuple[PlannedJob, ...]
    damaged: Mapping[str, str]
    estimator: Estimator
    not_run: tuple[NotRun, ...] = ()
    not_reused: Mapping[str, int] = field(default_factory=dict)

    def of(self, state: State) -> tuple[PlannedJob, ...]:
        """The jobs in one state."""
        return tuple(planned for planned in self.jobs if planned.state == state)

    def to_run(self, *, retry_failed: bool = False) -> tuple[Job, ...]:
        """The jobs that a run would do."""
        wanted = ("missing", "unevaluated", *(("failed",) if retry_failed else ()))
        return tuple(planned.job for planned in self.jobs if planned.state in wanted)

    @cached_property
    def labels(self) -> dict[str, str]:
        """What each job is called, by key: two are never called the same."""
        return labels(planned.job for planned in self.jobs)

    @cached_property
    def seconds(self) -> float | None:
        """Estimated seconds on one worker for what is missing; ``None`` where a method does not declare its cost."""
        from .forecast import job_seconds

        return self.estimator.seconds((planned.job for planned in self.of("missing")), job_seconds)

    @property
    def undefined_evaluations(self) -> dict[str, tuple[str, ...]]:
        """Reasons for which settings of the evaluation have no meaning, each with the settings that it holds for."""
        found: dict[str, dict[str, None]] = {}
        for evaluation in {planned.job.evaluation for planned in self.jobs}:
            if evaluation is None:
                continue
            for setting, reason in evaluation.undefined.items():
                found.setdefault(reason, {})[setting] = None
        return {reason: tuple(sorted(settings)) for reason, settings in sorted(found.items())}

    @property
    def not_run_lines(self) -> list[str]:
        """A line for each model that has no cells here: how many, and why."""
        return [f"not run: {each.combinations} cells on {each.model}: {each.reason}" for each in self.not_run]

    @property
    def not_reused_lines(self) -> list[str]:
        """A line for each reason for which older results of the store are kept and not taken for today's."""
        return [f"not reused: {n} cell{'s' * (n > 1)} {reason}" for reason, n in self.not_reused.items()]

    def as_json(self) -> dict[str, Any]:
        """For ``plan --json``."""
        return {
            "benchmark": self.name,
            "counts": {state: len(self.of(state)) for state in _STATES},
            "damaged": dict(self.damaged),
            "estimated_seconds": self.seconds,
            "undefined_evaluations": dict(self.undefined_evaluations),
            "not_run": [asdict(model) for model in self.not_run],
            "not_reused": dict(self.not_reused),
            "cells": [
                {"key": p.job.key, "state": p.state, "reason": p.reason, "identity": p.job.cell.as_json()}
                for p in self.jobs
            ],
        }

    def __str__(self) -> str:
        """Counts and estimate in a line, then a line for each reason, with how many cells it concerns."""
        shown = [state for state in _STATES if state != "unevaluated" or self.of(state)]
        counts = ", ".join(f"{len(self.of(state))} {state}" for state in shown)
        known = self.seconds is not None
        time = f"about {spoken(self.seconds)} on one worker" if known else "time unknown: a method declares no cost"
        left = f"; {time}" if self.of("missing") else ""
        lines = [f"{self.name}: {len(self.jobs)} cells: {counts}{left}"]
        for state in ("undefined", "failed"):
            reasons: dict[str, list[PlannedJob]] = {}
            for planned in self.of(state):
                reasons.setdefault(planned.reason or "", []).append(planned)
            lines += [f"  {state}: {reason} ({self._examples(concerned)})" for reason, concerned in reasons.items()]
        for reason, settings in self.undefined_evaluations.items():
            several = f"{len(settings)} setting{'s' * (len(settings) > 1)}, such as {settings[0]}"
            lines.append(f"  not evaluated: {reason} ({several})")
        lines += [f"  {line}" for line in (*self.not_run_lines, *self.not_reused_lines)]
        lines += [f"  damaged: {key}: {reason}" for key, reason in self.damaged.items()]
        return "\n".join(lines)

    def _examples(self, jobs: Sequence[PlannedJob]) -> str:
        return f"{len(jobs)} cell{'s' * (len(jobs) > 1)}, such as {self.labels[jobs[0].job.key]}"


def plan(spec: Spec, store_path: str | Path, *, only: Sequence[str] = ()) -> Plan:
    """Compares a benchmark with a store and computes nothing.

    Args:
        store_path: a store, or a folder that does not exist yet.
        only: ``KEY=VALUE`` filters (see ``select``).

    Raises:
        CircuitMeterError: a part of the benchmark that cannot be loaded; a folder that is not a store.
    """
    found = expansion(spec, only)
    store = Store(store_path) if os.path.exists(store_path) else None
    jobs, closed = behind_gates(select(found.jobs, only), store)
    return compare(spec.name, jobs, store, (*found.not_run, *closed))


def expansion(spec: Spec, only: Sequence[str] = ()) -> Expansion:
    """A benchmark's jobs; models that ``model=`` filters leave out are not looked for.

    Raises:
        ModelAbsent: the models asked for are not on this machine.
        SpecError: as ``select``.
    """
    models = filters(only).get("model")
    found = expand(spec, models)
    if models and not found.jobs and found.not_run:  # a name that the benchmark does not have
        raise SpecError(_leaves_nothing("model", models, {each.model for each in found.not_run}))
    return found


def compare(name: str, jobs: Sequence[Job], store: Store | None, not_run: Sequence[NotRun] = ()) -> Plan:
    """Where each job stands in a store, or without one."""
    estimator = Estimator()
    known: dict[str, Record] = {}
    older: Counter[str] = Counter()
    for record in store.records() if store else ():
        known[record.key] = record
        if reason := why_not_reused(record.identity.key_version):
            older[reason] += 1
        if seconds := record.cost.total_seconds:
            estimator.add(record.identity.method, record.identity.task, record.identity.model, seconds)
    damaged = dict(store.damaged) if store else {}
    planned = [PlannedJob(job, *_state(job, known.get(job.key), damaged.get(job.key))) for job in jobs]
    if store:
        planned = [_with_evaluation(each, store) if each.state == "done" else each for each in planned]
    absent = tuple(each for each in not_run if each.reason != LEFT_OUT)  # --only says the rest itself
    return Plan(name, tuple(planned), damaged, estimator, absent, dict(older))


def _state(job: Job, record: Record | None, damage: str | None) -> tuple[State, str | None]:
    if job.undefined:
        return "undefined", job.undefined
    if record is None:
        return "missing", damage
    if record.done:
        return "done", None
    if record.kind != "undefined":
        return "failed", f"{record.kind}: {record.reason}"
    # A row that cost nothing was written because the benchmark said so, and the benchmark now says otherwise. One
    # that cost something is the method's own answer.
    return ("missing", None) if record.cost.total_seconds is None else ("undefined", record.reason)


def _with_evaluation(planned: PlannedJob, store: Store) -> PlannedJob:
    """A job whose search is done, and its state when what is measured of its circuits counts too."""
    key = planned.job.evaluation_key
    if key is None:
        return planned
    if not store.has_evaluation(key):
        return replace(planned, state="unevaluated")
    record = store.evaluation(key)
    if record.done:
        return planned
    return replace(planned, state="failed", reason=f"{record.kind}: its evaluation: {record.reason}")


def select(jobs: Sequence[Job], only: Sequence[str]) -> tuple[Job, ...]:
    """The jobs whose cells match ``KEY=VALUE`` filters: values are names or globs; the same key again adds, another
    narrows.

    Raises:
        SpecError: a filter without ``=``, a key that does not exist, or filters that leave nothing.
    """
    chosen = list(jobs)
    for key, patterns in filters(only).items():
        kept = [job for job in chosen if any(_has(job.cell, key, pattern) for pattern in patterns)]
        if not kept:
            raise SpecError(_leaves_nothing(key, patterns, {_text(job.cell, key) for job in chosen}))
        chosen = kept
    return tuple(chosen)


def _leaves_nothing(key: str, patterns: Sequence[str], present: set[str]) -> str:
    given = " ".join(f"{key}={pattern}" for pattern in patterns)
    return f"--only {given} leaves no cell; there {key} is {', '.join(sorted(present))}."


def filters(only: Sequence[str]) -> dict[str, list[str]]:
    """Key -> patterns of ``KEY=VALUE`` filters. Raises SpecError for one without ``=``, or an unknown key."""
    wanted: dict[str, list[str]] = {}
    for text in only:
        key, equals, value = text.partition("=")
        if not (equals and value):
            raise SpecError(f"--only {text}: give KEY=VALUE, such as method=eap; keys are {', '.join(ONLY)}.")
        if key not in ONLY:
            raise SpecError(f"--only {text}: {unknown('key', key, ONLY)}")
        wanted.setdefault(key, []).append(value)
    return wanted


def _has(cell: Cell, key: str, pattern: str) -> bool:
    return names.matches(_text(cell, key), pattern)


def _text(cell: Cell, key: str) -> str:
    value = getattr(cell, key)
    return "none" if value is None else str(value)
