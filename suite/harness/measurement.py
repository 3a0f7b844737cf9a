"""One cell measured: loaded, searched, scored against every truth, written down with what it cost.

Nothing raises out of here but what ends a process: a cell that fails is a row that says why.
"""

from __future__ import annotations

import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CircuitMeterError, DataError, NotFinite, Undefined
from . import names
from .cell import Cell
from .environment import provenance, seed_everything
from .meter import measure
from .record import FORMAT, failure, plain
from .subject import Subject, subject

if TYPE_CHECKING:
    import numpy as np

    from ..circuit import Discovery, Reference

_NO_MEMORY = "can't allocate memory"  # torch raises a bare RuntimeError when the CPU's is used up


def run_cell(cell: Cell, device: str = "cpu") -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Measures a cell.

    Args:
        device: as torch names it.

    Returns:
        The record and the tensors, as ``Store.write`` takes them: for a failure, the row that says why, and none.
    """
    start = time.perf_counter()
    cost: dict[str, Any] = {}
    try:
        on = subject(cell.sources.task, cell.sources.model, device)
        discovery = discover(cell, on, device, cost)
        record, tensors = _scored(cell, on, discovery), _tensors(discovery)
    except Exception as error:  # whatever it is, the other cells are run all the same
        kind, reason = diagnosis(error)
        record, tensors = failure(cell, kind, reason, cost={}, provenance={}), {}
        if not isinstance(error, CircuitMeterError):
            record["diagnostics"] = {"traceback": traceback.format_exc().splitlines()}
    record["cost"] = dict(cell.cost_only) | cost | {"total_seconds": time.perf_counter() - start}
    record["provenance"] = provenance(device)
    return record, tensors


def discover(cell: Cell, on: Subject, device: str = "cpu", cost: dict[str, Any] | None = None) -> Discovery:
    """Runs a cell's method, and raises whatever it raises.

    Args:
        on: what ``subject`` gives for the cell's sources.
        device: as torch names it.
        cost: filled with what the search cost, also when it raises.

    Raises:
        DataError: the task, the model or the method is no longer what it was when the cell was planned.
    """
    method = names.method(cell.sources.method)
    found = (on.data.hash, on.model.weights_hash, on.model.graph.hash, method.version)
    if found != (cell.data, cell.weights, cell.graph, cell.version):
        raise DataError(f"the files behind {cell} changed after the run was planned; run it again.")
    ablation = names.ablation(cell.ablation)
    seed_everything(cell.key)
    spent = {} if cost is None else cost
    with measure(device, spent):
        return method.discover(
            on.model,
            on.data,
            ablation=ablation,
            objective=None if cell.objective is None else names.objective(cell.objective),
            seed=cell.seed or 0,
            truth=on.reference(ablation) if "truth" in method.needs else None,
            **cell.parameters,
            **cell.cost_only,
        )


def _scored(cell: Cell, on: Subject, discovery: Discovery) -> dict[str, Any]:
    """The record of a discovery: its recovery of every certified truth, and its circuit at the true size."""
    from ..scoring.recovery import circuit_recovery, recovery

    truths = _truths(cell, on)
    return {
        "format": FORMAT,
        "key": cell.key,
        "identity": cell.identity(),
        "status": "done",
        "reason": None,
        "kind": None,
        "n_edges": on.model.graph.n_edges,
        "recovery": {name: plain(recovery(discovery.scores, truth)) for name, truth in truths.items()},
        "circuits": [
            {
                "label": plain(native.label),
                "n_edges": native.circuit.n_edges,
                "recovery": {name: plain(circuit_recovery(native.circuit, truth)) for name, truth in truths.items()},
            }
            for native in discovery.circuits
        ],
        "circuit_at_true_size": _at_true_size(cell, on, discovery),
        "diagnostics": plain(discovery.diagnostics),
    }


def _truths(cell: Cell, on: Subject) -> dict[str, Reference]:
    """The truth under the cell's own ablation first, then every other one that is certified."""
    certified = [] if on.truth is None else [str(name) for name in on.truth.ablations]
    found = {name: on.reference(names.ablation(name)) for name in dict.fromkeys([cell.ablation, *certified])}
    return {name: truth for name, truth in found.items() if truth is not None}


def _at_true_size(cell: Cell, on: Subject, discovery: Discovery) -> dict[str, Any] | None:
    """How the circuit of as many edges as the truth has behaves, with all others cut."""
    import torch

    from ..circuit import top_n
    from ..evaluator import Evaluator

    ablation = names.ablation(cell.ablation)
    truth = on.reference(ablation)
    if truth is None:
        return None
    circuit = top_n(discovery.scores, int(truth.core.sum()))
    objective = names.objective(cell.objective or on.task.objective)
    if objective.undefined(on.data, on.model.config):
        return None
    evaluator = Evaluator(on.model, on.data, ablation, objective, seed=cell.seed or 0)
    masks = torch.stack([circuit.edges, on.model.graph.exists])
    cut, full = evaluator.outputs(masks)
    return {
        "n_edges": circuit.n_edges,
        "output_error": plain(float((cut - full).abs().max())),
        "objective": plain(float(objective.value(evaluator.loss(masks[:1])[0]))),
    }


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
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return "error", f"{type(error).__name__}: {message} ({Path(frame.filename).name}:{frame.lineno}, in {frame.name})"
