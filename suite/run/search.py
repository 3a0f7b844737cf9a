"""Cells measured: loaded, searched, scored against every truth, written down with what it cost.

Nothing raises out of here but what ends a process: a cell that fails is a row that says why.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, TypeVar

from ..errors import CircuitMeterError
from ..json_model import plain
from ..plan import names
from ..plan.family import SeedFamily
from ..plan.job import Job
from ..plan.subject import Subject, subject_of
from ..process import told
from ..store.record import (
    Cell,
    CircuitRecovery,
    Record,
    RecordedCircuit,
    RecordedCost,
    RecordedPlurality,
    Recovery,
    TrueSize,
    failure,
)
from .apart import discover_apart
from .cost import Spent
from .discovery import Failed, diagnosis, discover_here, tensors_of
from .environment import provenance, undisturbed
from .memory import with_less

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..circuit import Discovery, Reference
    from ..intervention.evaluator import Evaluator

Judged = TypeVar("Judged")


def run_cell(job: Job, device: str = "cpu", seconds: float | None = None) -> tuple[Record, dict[str, np.ndarray]]:
    """Measures the cell of a job.

    Args:
        device: as torch names it.
        seconds: how long a method that has a process of its own may take; ``None``: as long as it needs.

    Returns:
        The record and the tensors, as ``Store.write`` takes them: for a failure, the row that says why, and none.
    """
    return next(run_family((job,), device, seconds))


def run_family(
    family: SeedFamily, device: str = "cpu", seconds: float | None = None
) -> Iterator[tuple[Record, dict[str, np.ndarray]]]:
    """Measures the cells of a family, in its order: what ``run_cell`` returns for each, as soon as it is scored.

    Each of several cells is charged its share of what they cost together, and says so: ``shared_by``. Cells that fail
    together are run one by one, because what goes wrong with one seed is nothing to the others.
    """
    start, spent = time.perf_counter(), Spent()
    on: Subject | None = None
    found: tuple[Discovery | BaseException, ...]
    try:
        on = subject_of(family[0], device)
        found = discover_family(family, on, device, spent, None if seconds is None else seconds * len(family))
    except (Exception, SystemExit) as error:  # whatever it is, the other cells are run all the same
        if len(family) > 1 and getattr(error, "kind", None) != "timeout":
            for job in family:
                yield run_cell(job, device, seconds)
            return
        on, found = None, (error,) * len(family)
    share = spent.share(len(family), time.perf_counter() - start)
    for job, discovery in zip(family, found, strict=True):
        start = time.perf_counter()
        try:
            if isinstance(discovery, BaseException):
                raise discovery
            assert on is not None  # it was loaded: something was found on it
            record, tensors = _scored(job.cell, on, discovery), tensors_of(discovery)
        except (Exception, SystemExit) as error:
            record, tensors = _failed(job.cell, error), {}
        total = (share.total_seconds or 0.0) + time.perf_counter() - start
        parameters = plain(job.cost_only | ({"batch_size": spent.batch_size} if spent.batch_size else {}))
        cost = RecordedCost(**share.as_json() | {"total_seconds": total}, parameters=parameters)
        asked = {} if job.sources.prompts is None else {"prompts": job.sources.prompts}
        yield record.but(cost=cost, provenance=provenance(device), **asked), tensors


def _failed(cell: Cell, error: BaseException) -> Record:
    trace = error.trace if isinstance(error, Failed) else told(error).trace
    stated = isinstance(error, CircuitMeterError) and not isinstance(error, Failed)
    diagnostics = {"traceback": trace} if trace and not stated else {}
    return failure(cell, *diagnosis(error), diagnostics=diagnostics)


def discover_family(
    family: SeedFamily,
    on: Subject,
    device: str = "cpu",
    spent: Spent | None = None,
    seconds: float | None = None,
) -> tuple[Discovery, ...]:
    """Runs the method of a family's jobs, and raises whatever it raises: a built-in one here, any other in a process
    of its own.

    Args:
        on: what ``subject`` gives for the jobs' sources.
        device: as torch names it.
        spent: filled with what the search cost, also when it raises.
        seconds: how long a process of its own may take; ``None``: as long as it needs.

    Raises:
        DataError: the task, the model or the method is no longer what it was when the cells were planned.
        MethodError: it changed the model or the data.
        Ended, Failed: as ``discover_apart``.
    """
    spent = spent or Spent()
    if not names.is_built_in(family[0].sources.method):
        return discover_apart(family, on, device, spent, seconds)

    def search(prompts: int) -> tuple[Discovery, ...]:
        jobs = family
        if prompts:
            spent.batch_size = prompts
            jobs = tuple(replace(job, parameters={**job.parameters, "batch_size": prompts}) for job in family)
        with undisturbed():
            return discover_here(jobs, on, device, spent)

    batch_size = family[0].cost_only.get("batch_size")
    return search(0) if batch_size is None else with_less(search, on, str(family[0]), batch_size)


def _scored(cell: Cell, on: Subject, discovery: Discovery) -> Record:
    """The record of a discovery: its recovery of every certified truth, and its circuit at the true size."""
    from ..circuit import Circuit
    from ..scoring.plurality import plurality, plurality_of_scores
    from ..scoring.recovery import circuit_recovery, recovery

    truths = _truths(cell, on)
    enumerated = {name: truth.minimal for name, truth in truths.items() if truth.minimal}
    avoid = cell.parameters.get("avoid")
    avoided = Circuit.of(on.model.graph, avoid) if isinstance(avoid, list) and avoid else None

    def judged(circuit: Circuit, truth: Reference) -> CircuitRecovery:
        return CircuitRecovery(**circuit_recovery(circuit, truth))

    circuits = [
        RecordedCircuit(
            label=plain(native.label),
            n_edges=native.circuit.n_edges,
            recovery=_against(truths, partial(judged, native.circuit)),
            plurality={
                name: RecordedPlurality(**vars(plurality(native.circuit, minimal, avoided=avoided)))
                for name, minimal in enumerated.items()
            },
        )
        for native in discovery.circuits
    ]
    return Record(
        key=cell.key,
        identity=cell,
        status="done",
        reason=None,
        kind=None,
        n_edges=on.model.graph.n_edges,
        recovery=_against(truths, lambda truth: Recovery(**recovery(discovery.scores, truth))),
        plurality={
            name: RecordedPlurality(**vars(plurality_of_scores(discovery.scores, minimal, avoided=avoided)))
            for name, minimal in enumerated.items()
        },
        circuits=tuple(circuits),
        circuit_at_true_size=_with_less_memory(cell, on, discovery),
        diagnostics=plain(discovery.diagnostics),
    )


def _truths(cell: Cell, on: Subject) -> dict[str, Reference]:
    """The truth under the cell's own ablation first, then every other one that is certified."""
    certified = [] if on.truth is None else [str(name) for name in on.truth.ablations]
    found = {name: _reference(on, name) for name in dict.fromkeys([cell.ablation, *certified])}
    return {name: truth for name, truth in found.items() if truth is not None}


def _against(truths: Mapping[str, Reference], judge: Callable[[Reference], Judged]) -> dict[str, Judged]:
    """What is said of each truth, by name. Several ablations often have the same true edges: those are judged once."""
    known: dict[tuple, Judged] = {}
    found = {}
    for name, truth in truths.items():
        parts = (truth.core, truth.optional, truth.structural)
        edges = (*(None if part is None else part.cpu().numpy().tobytes() for part in parts), truth.missed)
        if edges not in known:
            known[edges] = judge(truth)
        found[name] = known[edges]
    return found


@lru_cache(maxsize=32)
def _reference(on: Subject, ablation: str) -> Reference | None:
    """A truth, for scoring alone: methods are given one of their own, which they may change."""
    return on.reference(names.ablation(ablation))


def forget_runs() -> None:
    """The next cell runs the whole model anew, and prepares its prompts."""
    for kept in (_evaluator, _full_outputs, _reference):
        kept.cache_clear()


@lru_cache(maxsize=8)  # cells come task by task, and most methods under the same ablations and objectives
def _evaluator(on: Subject, ablation: str, objective: str, seed: int) -> Evaluator:
    from ..intervention.evaluator import Evaluator

    return Evaluator(on.model, on.data, names.ablation(ablation), names.objective(objective), seed=seed)


def _with_less_memory(cell: Cell, on: Subject, discovery: Discovery) -> TrueSize | None:
    """What ``_at_true_size`` returns; with fewer prompts at a time where memory runs out, if that changes no number."""

    def score(prompts: int) -> TrueSize | None:
        if prompts:
            forget_runs()
        return _at_true_size(cell, on, discovery)

    return score(0) if names.ablation(cell.ablation).over_batch else with_less(score, on, f"scoring {cell}")


def _at_true_size(cell: Cell, on: Subject, discovery: Discovery) -> TrueSize | None:
    """How the circuit of as many edges as the truth has behaves without its dead ends, with all others cut."""
    from ..circuit import top_n

    truth = _reference(on, cell.ablation)
    if truth is None:
        return None
    circuit = top_n(discovery.scores, truth.size)
    objective = names.objective(cell.objective or on.task.objective)
    if objective.undefined(on.data, on.model.config):
        return None
    seed = (cell.seed or 0) if names.ablation(cell.ablation).stochastic else 0  # else all seeds share one evaluator
    evaluator = _evaluator(on, cell.ablation, objective.name, seed)
    cut, losses = evaluator.outputs_and_losses(circuit.pruned().edges[None])
    return TrueSize(
        n_edges=circuit.n_edges,
        output_error=float((cut - _full_outputs(evaluator)).abs().max()),
        objective=float(objective.value(losses.mean(1)[0])),
    )


@lru_cache(maxsize=8)
def _full_outputs(evaluator: Evaluator) -> Tensor:
    """The outputs of the whole model, as a run in which no edge is cut."""
    return evaluator.outputs(evaluator.model.graph.exists[None])
