"""What is measured of the structure of the circuits that a cell's method finds: whether they stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import CircuitMeterError, Undefined
from ..plan import names
from ..plan.job import Job
from ..scoring.structure.stability_card import CircuitChange
from ..store.record import StabilityAsked
from .environment import seed_everything, undisturbed

if TYPE_CHECKING:
    from torch import Tensor

    from ..plan.subject import Subject


def stability_of(job: Job, on: Subject, asked: StabilityAsked, sizes: Sequence[int]) -> dict[str, CircuitChange]:
    """By what is resampled, how alike the circuits are that resamples of the cell's prompts give.

    Args:
        job: whose cell is finished. Its method runs again, in this process, so as to keep prompts apart.
        sizes: of the circuits, edges; inclusion and recovery are told of the first.
    """
    from ..scoring.structure.circuit_change import circuit_change, over_resamples

    kept = [size for size in dict.fromkeys(sizes) if size > 0]
    if not kept:
        return {over: CircuitChange(undefined="there is no circuit of a size to compare") for over in asked.over}
    try:
        by_prompt = _by_prompt(job, on).numpy()
    except CircuitMeterError as error:
        return {over: CircuitChange(undefined=str(error)) for over in asked.over}
    templates = None if on.data.templates is None else on.data.templates.numpy()
    truth, found = on.reference(names.ablation(job.cell.ablation)), {}
    for over in asked.over:
        try:
            change, _ = over_resamples(by_prompt, templates, sorted(kept), over=over, resamples=asked.resamples)
        except CircuitMeterError as error:
            found[over] = CircuitChange(undefined=str(error))
            continue
        found[over] = circuit_change(change, on.model.graph, kept[0], truth)
    return found


def _by_prompt(job: Job, on: Subject) -> Tensor:
    """The scores of each prompt [N, E]. Raises Undefined for a method without them."""
    cell = job.cell
    if not names.is_built_in(job.sources.method):
        raise Undefined(
            f"{cell.method} does not come with this package and runs in a process of its own, which gives no scores of "
            f"each prompt"
        )
    method = names.method(job.sources.method)
    with undisturbed():
        seed_everything(cell.key)
        return method.scores_by_prompt(
            on.model,
            on.data,
            ablation=names.ablation(cell.ablation),
            objective=None if cell.objective is None else names.objective(cell.objective),
            seed=cell.seed or 0,
            **job.parameters,
        )
