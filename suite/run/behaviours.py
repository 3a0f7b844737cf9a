"""What models do on the prompts of their cells, measured before anything is searched: once a store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..plan.behaviour import behaviour_data
from ..plan.job import Job
from ..plan.subject import subject_of
from ..store.record import BehaviourRecord
from ..store.store import Store
from .discovery import diagnosis
from .events import Measured


def measure_behaviours(jobs: Sequence[Job], store: Store) -> Iterator[Measured]:
    """Brings into the store what it lacks of what the models of jobs do, on this machine's CPU: 16 plain passes each.

    A model that cannot be run has no behaviour; its cells say why when they fail.
    """
    from ..scoring.behaviour import behaviour

    seen = set()
    for job in jobs:
        asked = job.behaviour
        if asked is None or job.undefined or asked.key in seen:
            continue
        seen.add(asked.key)
        if store.has_behaviour(asked.key):
            continue
        cell = job.cell
        try:
            on = subject_of(job)
            found = behaviour(on.model, behaviour_data(on, job.evaluation), asked.prompts)
        except Exception as error:  # whatever it is, the cells are run all the same
            what = f"what {cell.model} does on {cell.task} could not be measured: {diagnosis(error)[1]}"
            yield Measured(cell.task, cell.model, None, what)
            continue
        assert found is not None  # a job without answers asks for no behaviour
        record = BehaviourRecord(key=asked.key, identity=asked, task=cell.task, model=cell.model, behaviour=found)
        store.write_behaviour(record)
        yield Measured(cell.task, cell.model, found)
