"""What a task asks Ray for, from the memory that its cells are estimated to need; and that Ray gives it."""

import os
import subprocess
import sys
from dataclasses import asdict

import pytest

from circuitmeter.suite.plan.expand import expand
from circuitmeter.suite.plan.forecast import fits_one_device, job_bytes
from circuitmeter.suite.run.events import Finished, Outcome
from circuitmeter.suite.run.executors import ray as ray_executor
from circuitmeter.suite.run.executors.ray_resources import Gpus, memory_asked, resources
from circuitmeter.suite.run.run import run

GB = 2**30


@pytest.mark.parametrize(
    "need, largest, asked",
    [
        (0.3 * GB, 8 * GB, 0.5 * GB),  # whole steps, so that tasks of like size share Ray's processes
        (1.2 * GB, 8 * GB, 1.5 * GB),
        (20 * GB, 8 * GB, 8 * GB),  # no node has as much: the largest, and all of it
        (20 * GB, 0, 0),  # an autoscaler that has not started a node yet
    ],
)
def test_memory_in_steps(need, largest, asked):
    assert memory_asked(int(need), largest) == asked


@pytest.mark.parametrize(
    "need, one_does, memory, most, asked",
    [
        (7 * GB, True, 80 * GB, 4, 0.1),
        (41 * GB, True, 80 * GB, 4, 0.55),
        (100 * GB, True, 80 * GB, 4, 1.0),  # fewer prompts at a time will do
        (1 * GB, True, 0, 4, 1.0),  # nobody said how large the GPUs are
        (70 * GB, False, 80 * GB, 4, 2.0),  # of 80, 64 are for weights
        (200 * GB, False, 80 * GB, 8, 4.0),
        (900 * GB, False, 80 * GB, 8, 8.0),  # no node has 15: all of one, and a row that says it was too little
        (200 * GB, False, 80 * GB, 0, 1.0),
    ],
)
def test_a_share_of_a_gpu_or_several(need, one_does, memory, most, asked):
    assert Gpus(memory, most).asked(int(need), one_does=one_does) == asked


def job_of(spec, **changes):
    (job,) = expand(spec(**{"method": "eap", "task": "tracr/hist", "ablation": "zero"} | changes)).jobs
    return job


def test_a_cell_needs_more_for_a_larger_model_and_for_a_method_with_a_process_of_its_own(spec, user_method):
    def need(**changes):
        return job_bytes(job_of(spec, **changes))

    assert need() > 0.5e9  # the libraries
    assert need(task="ioi", model="mini") > need()
    assert need(method=user_method("return zeros(model)")) > need()
    evaluated = {"ablation": ["patch"], "size": [0.1]}
    assert need(evaluation=evaluated) >= need()


def test_ray_s_processes_do_without_torch():
    code = "import sys; import circuitmeter.suite.run.executors.ray; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_model_whose_weights_do_not_fit_a_gpu_asks_for_several(spec):
    from circuitmeter.suite.plan.subject import subject_of

    job = job_of(spec, task="ioi", model="mini")
    weights = sum(weight.nbytes for weight in subject_of(job).model.parameters())
    assert fits_one_device(job, int(weights / 0.79)) and not fits_one_device(job, int(weights / 0.81))
    assert resources((job,), 8 * GB, None)["num_gpus"] == 0
    assert 0 < resources((job,), 8 * GB, Gpus(80 * GB, 8))["num_gpus"] < 1
    assert resources((job,), 8 * GB, Gpus(weights, 8))["num_gpus"] == 8
    assert resources((job,), 8 * GB, Gpus(weights, 3))["num_gpus"] == 3


@pytest.mark.slow
def test_ray_gives_a_task_the_gpus_that_it_asks_for(spec, tmp_path, monkeypatch):
    """GPUs that a node of a local cluster only says it has; a task tells which it was given."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    def told(order):  # not of this module, which Ray's processes cannot import
        seen = os.environ["CUDA_VISIBLE_DEVICES"]
        return [{"outcome": asdict(Outcome(job.key, "failed", "error", seen, None, None))} for job in order.family]

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_executor, "_measure", told)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=2, num_gpus=4)
        seen = {}
        for memory in (80 * GB, 1):
            monkeypatch.setattr(ray_executor, "_gpu_bytes", lambda memory=memory: memory)
            benchmark = spec(method=["eap", "magnitude"], task="ioi", model="mini", ablation="zero")
            found = []
            run(
                *(benchmark, tmp_path / str(memory)),
                executor="ray",
                workers=2,
                device="cuda",
                address=cluster.address,
                on_event=lambda event, to=found: to.append(event) if isinstance(event, Finished) else None,
            )
            seen[memory] = {event.outcome.reason for event in found}
    finally:
        cluster.shutdown()
    assert all(given in set("0123") for given in seen[80 * GB])
    assert seen[1] == {"0,1,2,3"}
