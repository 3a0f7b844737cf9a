"""Finished cells computed anew: the same bit for bit where machine and versions are the same, else within rounding."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import CircuitMeterError
from ..plan.expand import expand
from ..plan.job import Job
from ..plan.spec import Spec
from ..store.check import Check
from ..store.merge import EQUAL_SCORES
from ..store.record import Record
from ..store.store import Store
from .environment import deterministic
from .run import run_cell

if TYPE_CHECKING:
    import numpy as np


def replay(found: Check, n: int) -> Check:
    """Computes ``n`` cells of the store anew, in this process, and adds to a check what came out.

    The same cells are drawn every time. Those that the store's benchmarks no longer stand for here (a method whose
    source changed, a model that is not on this machine) cannot be replayed, and are said to be so.
    """
    store = Store(found.store)
    records = [record for record in store.records() if record.done]
    jobs, absent = _jobs(store)
    known = [record for record in records if record.key in jobs]
    drawn = random.Random(0).sample(known, min(n, len(known)))
    lines, differs = list(absent), False
    if len(known) < len(records):
        lines.append(
            f"{len(records) - len(known)} of {len(records)} cells cannot be computed anew: not of a benchmark here"
        )
    with deterministic():
        for record in drawn:
            line, same = _compared(record, store.tensors(record.key), jobs[record.key])
            lines.append(line)
            differs |= not same
    return replace(found, replayed=tuple(lines), replay_differs=differs)


def _jobs(store: Store) -> tuple[dict[str, Job], list[str]]:
    """The jobs that the store's benchmarks stand for here, by key; and a line for each that cannot be read."""
    jobs, absent = {}, []
    for name, benchmark in store.benchmarks().items():
        try:
            jobs |= {job.key: job for job in expand(Spec.of(dict(benchmark.spec))).jobs}
        except CircuitMeterError as error:
            absent.append(f"{name} cannot be computed anew: {error}")
    return jobs, absent


def _compared(record: Record, tensors: Mapping[str, np.ndarray], job: Job) -> tuple[str, bool]:
    """A line about a cell computed anew, and whether it is the same."""
    import numpy as np

    again, new = run_cell(job)
    if not again.done:
        return f"{job}: failed now: {again.reason}", False
    if set(new) != set(tensors) or any(new[name].shape != array.shape for name, array in tensors.items()):
        return f"{job}: has other circuits now", False
    if all(np.array_equal(new[name], array, equal_nan=name == "scores") for name, array in tensors.items()):
        return f"{job}: the same, bit for bit", True
    scores = tensors["scores"]
    largest = float(np.nanmax(np.abs(new["scores"] - scores))) / (float(np.nanmax(np.abs(scores))) or 1.0)
    if _alike(record, again):
        return f"{job}: differs by {largest:.2g} of the largest score, on the same machine and versions", False
    same = largest <= EQUAL_SCORES
    return f"{job}: {'the same up to rounding' if same else 'differs'} ({largest:.2g} of the largest score)", same


def _alike(a: Record, b: Record) -> bool:
    """Whether two results were made by the same versions on the same kind of machine, so that bits are promised."""
    names = ("versions", "platform", "device", "threads")
    return all(getattr(a.provenance, name) == getattr(b.provenance, name) for name in names)
