"""What ends while circuits are evaluated is a failed evaluation, whoever runs it, and is not tried again unasked."""

import os
import time
from types import SimpleNamespace

import pytest

from circuitmeter.suite.plan.plan import expansion, plan
from circuitmeter.suite.run.ended import write_end
from circuitmeter.suite.run.executors import ray, slurm
from circuitmeter.suite.run.executors import worker as worker_module
from circuitmeter.suite.run.run import run
from circuitmeter.suite.store.store import Store

TINY = {"task": "tracr/xproportion", "ablation": "patch", "method": "truth"}
HERE = {"executor": "serial", "device": "cpu"}


@pytest.fixture
def benchmark(spec):
    return spec(**TINY, evaluation={"ablation": ["patch"], "size": ["true"]})


@pytest.fixture
def store(spec, tmp_path):
    """With the search of the benchmark, and without its evaluation."""
    run(spec(**TINY), tmp_path / "store", **HERE)
    return Store(tmp_path / "store")


def _begins(pipe):
    pipe.send(worker_module._Ready())
    pipe.recv()
    pipe.send(worker_module._Begun())


def exits(pipe, *given):
    _begins(pipe)
    os._exit(7)


def hangs(pipe, *given):
    _begins(pipe)
    time.sleep(600)


@pytest.mark.parametrize(
    ("life", "limit", "reason"),
    [(exits, 600, "killed: the process ended with status 7"), (hangs, 0.5, "timeout: no result within 0.5 seconds")],
)
def test_a_worker_that_ends_in_an_evaluation_is_a_failure(benchmark, store, monkeypatch, life, limit, reason):
    monkeypatch.setattr(worker_module, "_work", life)
    summary = run(benchmark, store.path, workers=1, device="cpu", time_limit=limit)
    assert summary.exit_status == 1 and summary.done == 0
    assert [why.startswith(reason) for _, why in summary.failed] == [True]
    assert [(each.status, each.kind) for each in store.evaluations()] == [("failed", reason.partition(":")[0])]
    assert not run(benchmark, store.path, **HERE).ran, "a failure is run again when it is asked for"
    again = run(benchmark, store.path, **HERE, retry_failed=True)
    assert again.done == 1 and not again.failed


class RayError(Exception):
    """Ray's, of a node that was lost."""


def ray_says(error):
    kinds = {name: type(name, (RayError,), {}) for name in ("RayTaskError", "OutOfMemoryError")}

    def get(reference):
        raise error

    return SimpleNamespace(get=get, exceptions=SimpleNamespace(RayError=RayError, **kinds))


def lost_by_ray(job, store):
    (event,) = ray._finished(ray_says(RayError("the node died")), None, (job,), store)
    return event.outcome


def lost_by_slurm(job, store):
    submitted = SimpleNamespace(job_id=1, state="TIMEOUT", paths=SimpleNamespace(stderr="1.err"))
    return slurm._obituary(job, submitted, store)


@pytest.mark.parametrize("lost", [lost_by_ray, lost_by_slurm])
def test_a_cluster_that_loses_an_evaluation_is_a_failure(benchmark, store, lost):
    (job,) = expansion(benchmark).jobs
    outcome = lost(job, store)
    assert (outcome.key, outcome.status, outcome.kind) == (job.key, "failed", "killed")
    (failed,) = plan(benchmark, store.path).of("failed")
    assert "its evaluation" in failed.reason and store.record(job.key).done


def test_what_was_finished_just_before_the_end_is_done(benchmark, store):
    (job,) = expansion(benchmark).jobs
    run(benchmark, store.path, **HERE)
    before = store.evaluation(job.evaluation_key)
    assert write_end(job, store, "killed", "a reason", device="cpu").status == "done"
    assert store.evaluation(job.evaluation_key) == before
