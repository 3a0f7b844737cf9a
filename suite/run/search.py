"""Cells measured: loaded, searched, scored against every truth, written down with what it cost.

Nothing raises out of here but what ends a process: a cell that fails is a row that says why.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import CircuitMeterError, DataError, NotFinite, Undefined
from ..plan import names
from ..plan.cell import Cell
from ..plan.family import Family
from ..plan.subject import Subject, subject_of
from ..store.record import Cost, NativeCircuit, Record, TrueSize, failure, plain
from ..users_line import raised
from .cost import measure
from .environment import provenance, seed_everything

if TYPE_CHECKING:
    import numpy as np

    from ..circuit import Discovery, Reference

_NO_MEMORY = "can't allocate memory"  # torch raises a bare RuntimeError when the CPU's is used up


def run_cell(cell: Cell, device: str = "cpu") -> tuple[Record, dict[str, np.ndarray]]:
    """Measures a cell.

    Args:
        device: as torch names it.

    Returns:
        The record and the tensors, as ``Store.write`` takes them: for a failure, the row that says why, and none.
    """
    return next(run_family((cell,), device))


def run_family(family: Family, device: str = "cpu") -> Iterator[tuple[Record, dict[str, np.ndarray]]]:
    """Measures the cells of a family, in their order: what ``run_cell`` returns for each, as soon as it is scored.

    Each of several cells is charged its share of what they cost together, and says so: ``shared_by``. Cells that fail
    together are run one by one, because what goes wrong with one seed is nothing to the others.
    """
    start, measured, first = time.perf_counter(), {}, family[0]
    try:
        on = subject_of(first, device)
        found = discover(family, on, device, measured)
    except Exception as error:  # whatever it is, the other cells are run all the same
        if len(family) > 1:
            for cell in family:
                yield run_cell(cell, device)
            return
        on, found = None, (error,)
    spent = _share(measured | {"total_seconds": time.perf_counter() - start}, len(family))
    for cell, discovery in zip(family, found, strict=True):
        start = time.perf_counter()
        try:
            if isinstance(discovery, Exception):
                raise discovery
            record, tensors = _scored(cell, on, discovery), _tensors(discovery)
        except Exception as error:
            record, tensors = _failed(cell, error), {}
        seconds = spent["total_seconds"] + time.perf_counter() - start
        cost = Cost(**spent | {"total_seconds": seconds}, parameters=plain(cell.cost_only))
        yield record.but(cost=cost, provenance=provenance(device)), tensors


def _share(cost: dict[str, Any], n: int) -> dict[str, Any]:
    """One cell's share of what ``n`` cost together; the peak of memory is everyone's."""
    if n == 1:
        return cost
    shared = {name: value if name == "peak_memory_bytes" else value / n for name, value in cost.items()}
    return shared | {"shared_by": n}


def _failed(cell: Cell, error: Exception) -> Record:
    kind, reason = diagnosis(error)
    told = isinstance(error, CircuitMeterError)
    diagnostics = {} if told else {"traceback": "".join(traceback.format_exception(error)).splitlines()}
    return failure(cell.identity(), kind, reason, diagnostics=diagnostics)


def discover(
    family: Family, on: Subject, device: str = "cpu", cost: dict[str, Any] | None = None
) -> tuple[Discovery, ...]:
    """Runs the method of a family's cells, and raises whatever it raises.

    Args:
        on: what ``subject`` gives for the cells' sources.
        device: as torch names it.
        cost: filled with what the search cost, also when it raises.

    Raises:
        DataError: the task, the model or the method is no longer what it was when the cells were planned.
    """
    cell = family[0]
    method = names.method(cell.sources.method)
    found = (on.data.hash, on.model.weights_hash, on.model.graph.hash, method.version)
    if found != (cell.data, cell.weights, cell.graph, cell.version):
        raise DataError(f"the files behind {cell} changed after the run was planned; run it again.")
    ablation = names.ablation(cell.ablation)
    seed_everything(cell.key)
    spent = {} if cost is None else cost
    with measure(device, spent):
        return method.discover_each(
            on.model,
            on.data,
            ablation=ablation,
            objective=None if cell.objective is None else names.objective(cell.objective),
            seeds=[each.seed or 0 for each in family],
            truth=on.reference(ablation) if "truth" in method.needs else None,
            **cell.parameters,
            **cell.cost_only,
        )


def _scored(cell: Cell, on: Subject, discovery: Discovery) -> Record:
    """The record of a discovery: its recovery of every certified truth, and its circuit at the true size."""
    from ..scoring.recovery import circuit_recovery, recovery

    truths = _truths(cell, on)
    circuits = [
        NativeCircuit(
            label=plain(native.label),
            n_edges=native.circuit.n_edges,
            recovery={name: circuit_recovery(native.circuit, truth) for name, truth in truths.items()},
        )
        for native in discovery.circuits
    ]
    return Record(
        key=cell.key,
        identity=cell.identity(),
        status="done",
        reason=None,
        kind=None,
        n_edges=on.model.graph.n_edges,
        recovery={name: recovery(discovery.scores, truth) for name, truth in truths.items()},
        circuits=circuits,
        circuit_at_true_size=_at_true_size(cell, on, discovery),
        diagnostics=plain(discovery.diagnostics),
    )


def _truths(cell: Cell, on: Subject) -> dict[str, Reference]:
    """The truth under the cell's own ablation first, then every other one that is certified."""
    certified = [] if on.truth is None else [str(name) for name in on.truth.ablations]
    found = {name: on.reference(names.ablation(name)) for name in dict.fromkeys([cell.ablation, *certified])}
    return {name: truth for name, truth in found.items() if truth is not None}


def _at_true_size(cell: Cell, on: Subject, discovery: Discovery) -> TrueSize | None:
    """How the circuit of as many edges as the truth has behaves without its dead ends, with all others cut."""
    import torch

    from ..circuit import top_n
    from ..intervention.evaluator import Evaluator

    ablation = names.ablation(cell.ablation)
    truth = on.reference(ablation)
    if truth is None:
        return None
    circuit = top_n(discovery.scores, int(truth.core.sum()))
    objective = names.objective(cell.objective or on.task.objective)
    if objective.undefined(on.data, on.model.config):
        return None
    evaluator = Evaluator(on.model, on.data, ablation, objective, seed=cell.seed or 0)
    masks = torch.stack([circuit.pruned().edges, on.model.graph.exists])
    cut, full = evaluator.outputs(masks)
    return TrueSize(
        n_edges=circuit.n_edges,
        output_error=float((cut - full).abs().max()),
        objective=float(objective.value(evaluator.loss(masks[:1])[0])),
    )


def _tensors(discovery: Discovery) -> dict[str, np.ndarray]:
    import numpy as np

    circuits = {f"circuit.{i}": native.circuit.edges for i, native in enumerate(discovery.circuits)}
    return {"scores": discovery.scores.values.cpu().numpy().astype(np.float64)} | {
        name: edges.cpu().numpy().astype(np.uint8) for name, edges in circuits.items()
    }


def diagnosis(error: Exception) -> tuple[str, str]:
    """(kind, one line) of what went wrong."""
    import torch

    message = " ".join(str(error).split())
    if isinstance(error, Undefined):
        return "undefined", message
    if isinstance(error, (NotFinite, FloatingPointError)):
        return "nan", message
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or _NO_MEMORY in message:
        return "memory", message or "out of memory"
    if isinstance(error, CircuitMeterError):
        return "error", message
    return "error", raised(error)
