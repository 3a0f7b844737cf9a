"""What an evaluation is expected to cost grows with everything that it is asked for."""

import pytest

from circuitmeter.suite.methods.cost import Cost
from circuitmeter.suite.plan.expand import expand
from circuitmeter.suite.plan.family import families
from circuitmeter.suite.plan.forecast import evaluation_cost, family_bytes, job_bytes
from circuitmeter.suite.plan.spec import Spec
from circuitmeter.suite.plan.subject import subject_of

GRID = {"task": "ioi", "model": "mini", "prompts": 4, "ablation": "patch", "method": "eap"}
SEARCH = Cost(gradient=100.0)


def cost(**asked):
    evaluation = {"ablation": ["patch"], "size": [0.3], **asked}
    (job,) = expand(Spec.of({"name": "s", "grid": GRID, "evaluation": evaluation})).jobs
    return evaluation_cost(job.evaluation, subject_of(job), SEARCH)


@pytest.mark.parametrize(
    "asked, gradient, cut, weights",
    [
        ({"stability": {"over": ["prompts"], "resamples": 10}}, 100, 0, 0),
        ({"controls": {"nulls": ["reset-weights", "nonsense"], "subsets": 0, "edges": 0}}, 200, 0, 1),
        ({"controls": {"nulls": ["nonsense"], "subsets": 0, "edges": 7}}, 100, 7 * 4, 0),
        ({"controls": {"nulls": [], "subsets": 8, "edges": 0}}, 0, (8 + 2 * 110 + 8) * 4, 0),
    ],
)
def test_stability_and_controls_cost_what_they_run(asked, gradient, cut, weights):
    alone, more = cost(), cost(**asked)
    assert (more.gradient - alone.gradient, more.cut - alone.cut, more.weights) == (gradient, cut, weights)


def test_seeds_that_train_together_need_the_memory_of_their_masks():
    method = {"name": "edge-pruning", "preset": "quick", "seed": [0, 1, 2]}
    family, one = (
        families(expand(Spec.of({"name": "s", "grid": GRID | {"method": each, "objective": "kl"}})).jobs)
        for each in (method, method | {"seed": 0})
    )
    assert [len(each) for each in (*family, *one)] == [3, 1]
    assert family_bytes(family[0]) > family_bytes(one[0]) == job_bytes(family[0][0])
