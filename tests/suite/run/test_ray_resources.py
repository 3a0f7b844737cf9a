"""What a task asks Ray for, from the memory that its cells are estimated to need."""

import pytest

from circuitmeter.suite.plan.expand import expand
from circuitmeter.suite.plan.forecast import job_bytes
from circuitmeter.suite.run.executors.ray import _resources

GB = 2**30


@pytest.mark.parametrize(
    "need, largest, gpu, memory, gpus",
    [
        (0.3 * GB, 8 * GB, None, 0.5 * GB, 0),  # whole steps, so that tasks of like size share Ray's processes
        (1.2 * GB, 8 * GB, None, 1.5 * GB, 0),
        (20 * GB, 8 * GB, None, 8 * GB, 0),  # no node has as much: the largest, and all of it
        (20 * GB, 0, None, 0, 0),  # an autoscaler that has not started a node yet
        (7 * GB, 64 * GB, 80 * GB, 7 * GB, 0.1),
        (41 * GB, 64 * GB, 80 * GB, 41 * GB, 0.55),
        (100 * GB, 200 * GB, 80 * GB, 100 * GB, 1.0),
        (1 * GB, 64 * GB, 0, 1 * GB, 1.0),  # nobody said how large the GPUs are
    ],
)
def test_memory_in_steps_and_the_share_of_a_gpu(need, largest, gpu, memory, gpus):
    assert _resources(int(need), largest, gpu) == {"memory": memory, "num_gpus": gpus}


def test_a_cell_needs_more_for_a_larger_model_and_for_a_method_with_a_process_of_its_own(spec, user_method):
    def need(**changes):
        (job,) = expand(spec(**{"method": "eap", "task": "tracr/hist", "ablation": "zero"} | changes)).jobs
        return job_bytes(job)

    assert need() > 0.5e9  # the libraries
    assert need(task="ioi", model="mini") > need()
    assert need(method=user_method("return zeros(model)")) > need()
    evaluated = {"ablation": ["patch"], "size": [0.1]}
    assert need(evaluation=evaluated) >= need()
