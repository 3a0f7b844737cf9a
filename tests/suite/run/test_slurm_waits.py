"""What the driver of Slurm jobs takes for finished, step by step through what a job writes."""

import shutil
from types import SimpleNamespace

import pytest

from circuitmeter.suite.plan.plan import expansion
from circuitmeter.suite.run.ended import stored_outcome
from circuitmeter.suite.run.evaluation import failed_evaluation
from circuitmeter.suite.run.executors import slurm
from circuitmeter.suite.run.family_work import complete
from circuitmeter.suite.run.search import run_cell
from circuitmeter.suite.store.record import failure
from circuitmeter.suite.store.store import Store

TINY = {"task": "tracr/xproportion", "ablation": "patch", "method": "truth"}


@pytest.fixture
def job(spec):
    (job,) = expansion(spec(**TINY, evaluation={"ablation": ["patch"], "size": ["true"]})).jobs
    return job


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", create=True)


def search(job, store):
    assert store.write(*run_cell(job))


def evaluate(job, store):
    list(complete((job,), store, "cpu"))


def nothing(job, store):
    """Nothing is there yet."""


def failed_search(job, store):
    store.write(failure(job.cell, "memory", "out of memory"), {})


def failed_evaluation_of(job, store):
    search(job, store)
    store.write_evaluation(failed_evaluation(job, "killed", "a reason"))


def evaluation_alone(job, store):
    """The cell was damaged and set aside; its evaluation is as it was."""
    search(job, store)
    evaluate(job, store)
    store.set_aside(job.key, "a reason")


STEPS = {
    nothing: (search, evaluate),
    failed_search: (search, evaluate),
    search: (evaluate,),
    failed_evaluation_of: (evaluate,),
}


@pytest.mark.parametrize("was", STEPS, ids=lambda was: was.__name__)
def test_it_is_finished_with_its_evaluation_and_not_before(job, store, was):
    was(job, store)
    before = slurm._stamp(store, job)
    for step in STEPS[was]:
        assert not slurm._is_finished(job, store, before)
        step(job, store)
    assert slurm._is_finished(job, store, before)
    assert stored_outcome(job, store).status == "done"


@pytest.mark.parametrize("was", [nothing, failed_search], ids=lambda was: was.__name__)
def test_a_search_that_fails_is_finished_without_one(job, store, was):
    was(job, store)
    before = slurm._stamp(store, job)
    failed_search(job, store)
    assert slurm._is_finished(job, store, before) and stored_outcome(job, store).kind == "memory"


def test_an_evaluation_that_outlived_its_cell_is_that_of_the_new_one(job, store):
    evaluation_alone(job, store)
    before = slurm._stamp(store, job)
    assert not slurm._is_finished(job, store, before)
    search(job, store)
    assert slurm._is_finished(job, store, before) and stored_outcome(job, store).status == "done"


def test_a_cell_that_is_just_replaced_is_not_finished(job, store):
    """Between the moves of the old folder and of the new one, and while its files are read."""
    failed_search(job, store)
    before, folder = slurm._stamp(store, job), store.path / "cells" / job.key
    shutil.move(folder, store.path / "aside")
    assert not slurm._is_finished(job, store, before)
    search(job, store)
    (folder / "SHA256SUMS").unlink()
    assert not slurm._is_finished(job, store, before)


def test_a_retry_of_a_cell_that_had_failed_is_waited_for_to_the_end(job, store, monkeypatch):
    """The driver's own loop: it looks after each thing that the job writes, and cancels nothing."""
    failed_search(job, store)
    steps, cancelled = [search, evaluate], []

    def work(seconds):
        steps.pop(0)(job, store)

    submitted = SimpleNamespace(job_id=1, done=lambda: not steps, cancel=lambda: cancelled.append(1))
    executor = SimpleNamespace(batch=slurm.suppress, submit=lambda *given: submitted)
    monkeypatch.setattr(slurm, "_executor", lambda *given: executor)
    monkeypatch.setattr(slurm, "time", SimpleNamespace(sleep=work))
    (event,) = slurm.execute([(job,)], store=store, devices=["cpu"], timeout_seconds=None)
    assert event.outcome.status == "done" and not steps and not cancelled
