"""A benchmark run: what is missing is measured, what is there is left alone.

The same command again continues; a finished store costs only the look at it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SpecError, StoreError
from ..plan import names
from ..plan.estimate import spoken
from ..plan.expand import LEFT_OUT
from ..plan.family import families, shard_of_jobs
from ..plan.gated import behind_gates
from ..plan.job import Job
from ..plan.plan import Plan, compare, expansion, select
from ..plan.released import benchmark_hash, standing
from ..store.merge import take
from ..store.record import Benchmark, ModelNotRun, failure
from ..store.store import Store
from . import executors
from .behaviours import measure_behaviours
from .events import Event, Finished, Outcome, Planned, SetAside, Taken
from .search import run_cell

if TYPE_CHECKING:
    from ..plan.expand import Expansion
    from ..plan.spec import Spec

__all__ = ["DEFAULT_TIME_LIMIT", "Summary", "run", "run_cell"]

DEFAULT_TIME_LIMIT = 6 * 3600.0  # seconds per cell: what hangs costs a worker a quarter of a day, not a week


@dataclass(frozen=True, eq=False)
class Summary:
    """How a run ended.

    Args:
        name, store: the benchmark's name, and where its results are.
        plan: what was found before anything ran.
        ran: the jobs of this run, and how each ended.
        failed: every failed job of the benchmark, now or earlier, with its reason.
        damaged: key and reason of the cells that were moved aside and run again.
        seconds: of this run.
    """

    name: str
    store: Path
    plan: Plan
    ran: Mapping[Job, Outcome]
    failed: tuple[tuple[Job, str], ...]
    damaged: Mapping[str, str]
    seconds: float

    @property
    def done(self) -> int:
        """Finished cells of the benchmark, those of earlier runs too."""
        return len(self.plan.of("done")) + sum(outcome.status == "done" for outcome in self.ran.values())

    @property
    def undefined(self) -> int:
        """Combinations without a meaning."""
        found_out = sum(outcome.kind == "undefined" for outcome in self.ran.values())
        return len(self.plan.of("undefined")) + found_out

    @property
    def exit_status(self) -> int:
        """1 when some cell failed, else 0."""
        return 1 if self.failed else 0

    def __str__(self) -> str:
        now = f"{len(self.ran)} run now in {spoken(self.seconds)}" if self.ran else "nothing to do"
        counts = f"{self.done} done, {self.undefined} undefined, {len(self.failed)} failed"
        absent = sum(each.combinations for each in self.plan.not_run)
        counts += (
            f", {absent} not run ({', '.join(dict.fromkeys(each.model for each in self.plan.not_run))})"
            if absent
            else ""
        )
        hint = "; --retry-failed runs the failed ones again" if self.failed else ""
        return f"{self.name}: {counts} ({now}){hint}"


def run(
    spec: Spec,
    store_path: str | Path,
    *,
    workers: int | None = None,
    device: str = "auto",
    executor: str = "local",
    address: str | None = None,
    shard: tuple[int, int] | None = None,
    time_limit: float | None = None,
    retry_failed: bool = False,
    only: Sequence[str] = (),
    known: Sequence[str | Path] = (),
    on_event: Callable[[Event], None] | None = None,
) -> Summary:
    """Measures the cells of a benchmark that a store does not have.

    Args:
        store_path: the store; a new folder is made if it does not exist.
        workers: how many families at a time; one per core by default, or one per GPU. Never changes a result.
        device: ``auto``, ``cpu`` or ``cuda``.
        executor: what runs the cells (see ``executors``).
        address: where a cluster is, for an executor that runs on one.
        shard: (I, N): only the I-th of N fixed shares of the cells (see ``shard_of_jobs``).
        time_limit: seconds that a cell may take; ``None`` for the benchmark's own, or ``DEFAULT_TIME_LIMIT``.
        retry_failed: whether to run failed cells again; their old rows are kept under ``failed/``.
        only: ``KEY=VALUE`` filters.
        known: other stores, folders or addresses. What they have finished is copied and not run.
        on_event: told what happens, in this process; raising ends the run.

    Raises:
        CircuitMeterError: before anything is computed, for a request that cannot be met.
        StoreError: the store cannot be written to.
        KeyboardInterrupt: when interrupted, once the workers are stopped; what is finished is kept.
    """
    start = time.perf_counter()
    tell = (lambda event: None) if on_event is None else on_event
    execute = executors.EXECUTORS.get(executor)
    if address and executor not in executors.CLUSTERS:
        raise SpecError(f"--address is where a cluster is; --executor {executor} runs on none. Add --executor ray.")
    staff = executors.crew(executor, device, workers)
    expanded = expansion(spec, only)
    chosen = select(expanded.jobs, only)
    chosen = chosen if shard is None else shard_of_jobs(chosen, shard)
    store = Store(Path(store_path).absolute(), create=True)  # workers may be in another folder
    for measured in measure_behaviours(chosen, store):
        tell(measured)
    chosen, closed = behind_gates(chosen, store)
    absent = (*expanded.not_run, *closed)
    found = compare(spec.name, chosen, store, absent)
    for key, reason in found.damaged.items():
        store.set_aside(key, reason)
        tell(SetAside(key, reason))
    if known:
        lacking = found.to_run(retry_failed=True)
        evaluations = [name for job in lacking if (name := job.evaluation_key)]
        taken = take(known, store, [job.key for job in lacking], evaluations)
        tell(Taken(taken.added, taken.damaged))
        found = replace(compare(spec.name, chosen, store, absent), damaged=found.damaged)
    _note(store, spec, expanded, found)
    to_run = found.to_run(retry_failed=retry_failed)
    work = families(to_run)
    staff = staff[: len(work)]
    tell(Planned(found, to_run, len(staff)))

    ran: dict[Job, Outcome] = {}
    # Closed whatever happens, so that no worker outlives an interruption.
    limit = time_limit or spec.timeout_seconds or DEFAULT_TIME_LIMIT
    with closing(execute(work, store=store, devices=staff, timeout_seconds=limit, address=address)) as events:
        for event in events:
            if isinstance(event, Finished):
                ran[event.job] = event.outcome
            tell(event)
    return Summary(
        name=spec.name,
        store=store.path,
        plan=found,
        ran=ran,
        failed=_failed(found, ran),
        damaged=found.damaged,
        seconds=time.perf_counter() - start,
    )


def _note(store: Store, spec: Spec, expanded: Expansion, found: Plan) -> None:
    """Writes what needs no computing: undefined rows, certificates, and which cells the benchmark has."""
    from ..plan.subject import subject_of

    jobs, closed = behind_gates(expanded.jobs, store)
    for planned in found.of("undefined"):
        if planned.job.key not in store:
            store.write(failure(planned.job.cell, "undefined", planned.reason or ""), {})
    for truth, job in {job.cell.truth: job for job in jobs}.items():
        if truth is not None and not store.has_truth(truth) and (certified := subject_of(job).truth) is not None:
            store.write_truth(truth, certified.scored)
    complete = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    evaluated = {job.key: key for job in jobs if (key := job.evaluation_key) and not job.undefined}
    hashed = None if expanded.not_run else benchmark_hash(expanded)
    kept = set(store.behaviour_keys())
    measured = {job.behaviour.key for job in expanded.jobs if job.behaviour and job.behaviour.key in kept}
    benchmark = Benchmark(
        hash=hashed,
        standing=standing(spec.name, hashed) if hashed else "",
        spec=complete,
        cells=tuple(sorted(job.key for job in jobs)),
        evaluations=dict(sorted(evaluated.items())),
        behaviours=tuple(sorted(measured)),
        not_run=tuple(ModelNotRun(**asdict(model)) for model in (*expanded.not_run, *closed)),
    )
    if any(grid.model for grid in spec.grid):
        benchmark = benchmark.but(models=_by_model({job.key: job.cell.model for job in jobs}))
    left_out = {names.label(each.model) for each in expanded.not_run if each.reason == LEFT_OUT}
    if left_out and (before := _recorded(store, spec.name)) and before.spec == complete:
        benchmark = _with_left_out(benchmark, before, left_out, store)
    store.write_benchmark(spec.name, benchmark)


def _recorded(store: Store, name: str) -> Benchmark | None:
    """The benchmark as the store has it; None where it has none, or a damaged one, which is written anew."""
    try:
        return store.benchmark(name) if name in store.benchmark_names() else None
    except StoreError:
        return None


def _by_model(model_of: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The keys of cells by model."""
    return {
        model: tuple(sorted(key for key, its in model_of.items() if its == model))
        for model in sorted({*model_of.values()})
    }


def _with_left_out(benchmark: Benchmark, before: Benchmark, left_out: set[str], store: Store) -> Benchmark:
    """A benchmark with what was recorded of the models that ``--only`` leaves out, when it asked the same.

    These are not loaded, so that their cells are not known from the benchmark. What the whole benchmark asks is known
    from before where that has all that the other models have now.

    Args:
        before: what the store has; one of an older version does not say which cell is on which model, but records do.
        left_out: the models, by the name in cells.
    """

    def is_left_out(each: ModelNotRun) -> bool:
        return names.label(each.model.partition(" (")[0]) in left_out

    asked = set(before.cells)
    models = before.models or _by_model({r.key: r.identity.model for r in store.records() if r.key in asked})
    kept = {model: keys for model, keys in models.items() if model in left_out}
    cells = {key for keys in kept.values() for key in keys}
    told = [each for each in before.not_run if is_left_out(each) and each.reason != LEFT_OUT]
    known = {*kept, *(names.label(each.model.partition(" (")[0]) for each in told)}
    others = [each for each in benchmark.not_run if not is_left_out(each) or names.label(each.model) not in known]
    same = asked >= set(benchmark.cells) and before.evaluations.items() >= benchmark.evaluations.items()
    whole = same and all(is_left_out(each) for each in benchmark.not_run)
    evaluations = {key: name for key, name in before.evaluations.items() if key in cells} | benchmark.evaluations
    return benchmark.but(
        hash=before.hash if whole else None,
        standing=before.standing if whole else "",
        cells=tuple(sorted({*benchmark.cells, *cells})),
        evaluations=dict(sorted(evaluations.items())),
        behaviours=tuple(sorted({*benchmark.behaviours, *before.behaviours})),
        not_run=tuple(told + others),
        models=dict(sorted({**kept, **benchmark.models}.items())),
    )


def _failed(found: Plan, ran: Mapping[Job, Outcome]) -> tuple[tuple[Job, str], ...]:
    before = {planned.job: planned.reason or "" for planned in found.of("failed")}
    now = {job: f"{end.kind}: {end.reason}" for job, end in ran.items()}
    gone_wrong = {job for job, end in ran.items() if end.status == "failed" and end.kind != "undefined"}
    kept = {job: reason for job, reason in before.items() if job not in ran}
    return tuple(kept.items()) + tuple((job, now[job]) for job in ran if job in gone_wrong)
