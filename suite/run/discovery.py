"""A method run in this process on what it must not change, and what its result or its failure is written as."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import CircuitMeterError, DataError, MethodError, NotFinite, Undefined, one_line
from ..plan import names
from ..plan.family import SeedFamily
from ..plan.subject import Subject, forget_subjects
from ..process import Ended
from ..users_line import raised, refused
from .cost import Spent, measure_cost
from .environment import seed_everything

if TYPE_CHECKING:
    import numpy as np

    from ..circuit import Discovery
    from ..store.record import Cell


class Failed(MethodError):
    """A method that failed in its process: ``kind`` as a failed row says it, ``trace`` the lines of its traceback."""

    def __init__(self, kind: str, reason: str, trace: list[str]) -> None:
        super().__init__(reason)
        self.kind, self.trace = kind, trace


def discover_here(family: SeedFamily, on: Subject, device: str, spent: Spent) -> tuple[Discovery, ...]:
    """Runs the method of a family's jobs in this process. Arguments and errors as of ``search.discover``."""
    job, cell = family[0], family[0].cell
    method = names.callable_method(job.sources.method)
    found = (on.data.hash, on.model.weights_hash, on.model.graph.hash, method.version)
    if found != (cell.data, cell.weights, cell.graph, cell.version):
        forget_subjects()
        raise DataError(f"the files behind {cell} changed after the run was planned; run it again.")
    ablation = names.ablation(cell.ablation)
    seed_everything(cell.key)
    try:
        with measure_cost(device, spent):
            return method.discover_each(
                on.model,
                on.data,
                ablation=ablation,
                objective=None if cell.objective is None else names.objective(cell.objective),
                seeds=[each.cell.seed or 0 for each in family],
                truth=on.reference(ablation) if "truth" in method.needs else None,
                **job.parameters,
            )
    finally:
        _check_unchanged(cell, on)


def _check_unchanged(cell: Cell, on: Subject) -> None:
    """Raises MethodError when the bytes of the model or of the data are not those that the cell is about."""
    changed = []
    if on.model.content_hash() != cell.weights:
        changed.append("the model's weights")
    if on.data.content_hash() != cell.data:
        changed.append("the prompts")
    if changed:
        forget_subjects()  # the next cell loads them anew
        raise MethodError(f"{cell.method} changed {' and '.join(changed)} while it searched; it must work on a copy.")


def tensors_of(discovery: Discovery) -> dict[str, np.ndarray]:
    """The scores and circuits as a store keeps them."""
    import numpy as np

    circuits = {f"circuit.{i}": native.circuit.edges for i, native in enumerate(discovery.circuits)}
    return {"scores": discovery.scores.values.cpu().numpy().astype(np.float64)} | {
        name: edges.cpu().numpy().astype(np.uint8) for name, edges in circuits.items()
    }


def diagnosis(error: BaseException) -> tuple[str, str]:
    """(kind, one line) of what went wrong."""
    from .memory import is_out_of_memory

    message = one_line(str(error), 500)
    if isinstance(error, (Ended, Failed)):
        return error.kind, message
    if isinstance(error, Undefined):
        return "undefined", message
    if isinstance(error, (NotFinite, FloatingPointError)):
        return "nan", message
    if is_out_of_memory(error):
        return "memory", message or "out of memory"
    if isinstance(error, CircuitMeterError):
        return "error", one_line(refused(error), 500)
    if isinstance(error, SystemExit):
        return "killed", one_line(f"the method called sys.exit({error.code!r})")
    return "error", raised(error)
