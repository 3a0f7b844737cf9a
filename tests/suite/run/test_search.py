"""Scoring a cell: what is measured once for several truths or cells is what each of them would have been given."""

import pytest
import torch
from oracles import small_data, small_model

from circuitmeter.suite.circuit import EdgeScores, Reference
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.plan.plan import expansion
from circuitmeter.suite.plan.spec import Spec
from circuitmeter.suite.run import search
from circuitmeter.suite.scoring.recovery import recovery


def truths():
    """Five truths on one graph: the second equals the first, each other one differs in one part."""
    graph = small_model().graph
    core = graph.exists & (torch.rand(graph.exists.shape, generator=torch.Generator().manual_seed(0)) < 0.3)
    none, some = torch.zeros_like(core), graph.exists & ~core
    optional = none.clone()
    optional[tuple(some.nonzero()[0])] = True
    return {
        "patch": Reference("patch", graph, core, none, graph.exists),
        "zero": Reference("zero", graph, core.clone(), none.clone(), graph.exists.clone()),
        "mean": Reference("mean", graph, core, optional, graph.exists),
        "resample": Reference("resample", graph, core, none, core),
        "noise": Reference("noise", graph, core, none, graph.exists, missed=("f1",)),
    }


def test_truths_with_the_same_edges_are_judged_once():
    known, judged = truths(), []
    scores = EdgeScores(known["patch"].graph, torch.rand(known["patch"].core.shape, dtype=torch.float64))

    def judge(truth):
        judged.append(truth.name)
        return recovery(scores, truth)

    found = search._against(known, judge)
    assert judged == ["patch", "mean", "resample", "noise"] and list(found) == list(known)
    for name, truth in known.items():
        assert found[name] == pytest.approx(recovery(scores, truth), nan_ok=True, abs=0), name
    assert len({tuple(each.items()) for each in found.values()}) == 4


@pytest.mark.parametrize("ablation", ["patch", "zero", "resample"])
def test_outputs_and_losses_of_one_run_are_those_of_two(ablation):
    model, data = small_model(), small_data()
    evaluator = Evaluator(model, data, Ablation.parse(ablation), OBJECTIVES.get("kl"))
    drawn = torch.rand(3, *model.graph.exists.shape, generator=torch.Generator().manual_seed(0)) < 0.6
    outputs, losses = evaluator.outputs_and_losses(drawn)
    assert outputs.equal(evaluator.outputs(drawn)) and losses.equal(evaluator.per_example(drawn))
    assert losses.std() > 0


@pytest.mark.parametrize(
    ("ablation", "methods"), [("patch", ["random", "truth"]), ("resample", [{"name": "random", "seed": [0, 3]}])]
)
def test_a_cell_is_scored_as_if_it_were_alone(ablation, methods):
    grid = {"task": ["tracr/hist"], "method": methods, "ablation": [ablation]}
    jobs = expansion(Spec.of({"name": "small", "grid": [grid | {"objective": ["l2"]}]}), []).jobs
    together = [search.run_cell(job)[0].circuit_at_true_size for job in jobs]
    assert len(jobs) == 2 and together[0] != together[1]
    for job, found in zip(jobs, together, strict=True):
        for cache in (search._evaluator, search._full_outputs, search._reference):
            cache.cache_clear()
        assert search.run_cell(job)[0].circuit_at_true_size == found
