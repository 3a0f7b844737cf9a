"""What a cell will take before anything like it was run: its method's declared passes, timed on its own model."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import groupby

from ..intervention.setting import Setting
from ..methods.cost import Cost
from ..model.load.by_name import is_ground_truth
from ..model.load.devices import fits_one
from ..scoring.structure.controls_found import BLOCKS
from . import names
from .evaluation import Evaluation
from .family import SeedFamily
from .job import Job
from .speed import Speed
from .subject import Subject, limit_prompts, subject_of

# A certified model takes milliseconds a pass: what is declared (a bound) and what a pass costs on a busy machine
# say little. Cells of known-circuits-1 took .96 CPU seconds on average, those of quick .33.
CERTIFIED_SECONDS = 1.0
_ROUNDS = 2  # of the search for the worst subset


def job_seconds(job: Job) -> float | None:
    """Seconds of a job's search and of its evaluation; ``None`` where its method does not declare what it costs."""
    if is_ground_truth(job.cell.model):
        return CERTIFIED_SECONDS
    on = subject_of(job)
    method = names.method(job.sources.method)
    cost = method.cost_of(on.model.graph, on.data.n, job.parameters)
    if cost is None:
        return None
    cost = cost.with_runs(on.data.n_runs / on.data.n)
    return _speed(on).seconds(cost + evaluation_cost(job.evaluation, on, cost))


def family_bytes(family: SeedFamily) -> int:
    """Memory that a family needs at its peak, of the device that it runs on: an estimate. Seeds that run together train
    as many times the masks."""
    return max(job_bytes(job, len(family)) for job in family)


def job_bytes(job: Job, seeds: int = 1) -> int:
    """Memory that a job needs at its peak, of the device that it runs on, with so many seeds at once: an estimate.

    A method of a user's, which has a process of its own, has a copy of the model there.
    """
    on = subject_of(job)
    cost = names.method(job.sources.method).cost_of(on.model.graph, on.data.n, job.parameters) or Cost()
    cost = replace(cost.with_runs(on.data.n_runs / on.data.n), masks=cost.masks * seeds)
    if not names.is_built_in(job.sources.method):
        cost = replace(cost, weights=cost.weights + 1)
    cost += evaluation_cost(job.evaluation, on, cost)
    return _speed(on).peak_bytes(cost, job.parameters.get("batch_size") or 0)


def fits_one_device(job: Job, memory: int) -> bool:
    """Whether the weights of a job's model leave a device of so many bytes room to work in."""
    return fits_one(subject_of(job).model, memory)


def evaluation_cost(evaluation: Evaluation | None, on: Subject, search: Cost) -> Cost:
    """What measuring the circuits of a cell costs. Stability and each null repeat the cell's own ``search``.

    How often the search for the worst subset goes round is not known before; it is taken to be ``_ROUNDS`` times.
    """
    total = Cost()
    if evaluation is None:
        return total
    n = limit_prompts(on.task.data(evaluation.split), evaluation.prompts).n_runs
    settings = [Setting.parse(text) for text in evaluation.settings if text not in evaluation.undefined]
    for _ in groupby(settings, key=lambda setting: (setting.cut, setting.objective)):
        total += Cost(forward=4 * n, cut=(len(evaluation.sizes) + 1) * n)
    if evaluation.stability is not None:
        total += search
    if (controls := evaluation.controls) is not None:
        total += search * len(controls.nulls)
        tried = controls.subsets and controls.subsets + _ROUNDS * min(BLOCKS, on.model.graph.n_edges)
        total += Cost(cut=(tried + controls.edges) * on.data.n_runs + controls.subsets * n)
        if "reset-weights" in controls.nulls:
            total = replace(total, weights=max(total.weights, search.weights + 1))
    return total


@lru_cache(maxsize=4)
def _speed(on: Subject) -> Speed:
    return Speed(on.model, on.data)
