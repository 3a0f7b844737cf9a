"""Controls in a benchmark: what is kept is what the plain functions find, and what has no meaning says why."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from circuitmeter.suite.circuit import EdgeScores, top_n
from circuitmeter.suite.errors import SpecError
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.faithfulness import measure_circuits
from circuitmeter.suite.intervention.setting import Cut
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.plan import names
from circuitmeter.suite.plan.spec import Spec
from circuitmeter.suite.plan.subject import limit_prompts, subject
from circuitmeter.suite.run.run import run
from circuitmeter.suite.scoring.structure.null_controls import null_data, null_model
from circuitmeter.suite.store.store import Store

CONTROLS = {"nulls": ["reset-weights", "nonsense"], "subsets": 4, "edges": 50}
EVALUATION = {"ablation": ["patch"], "size": ["true"], "prompts": 5, "controls": CONTROLS}
GRID = {"task": "tracr/hist", "ablation": ["patch"], "prompts": 6}


def controls_of(path, method, **changes):
    asked = Spec.of({"name": "s", "grid": GRID | {"method": method}, "evaluation": EVALUATION | changes})
    assert run(asked, path, executor="serial").exit_status == 0
    (found,) = Store(path).evaluations()
    return found


def test_a_null_is_searched_and_judged_on_the_null(tmp_path):
    found = controls_of(tmp_path / "s", "eap").controls
    on, patch, objective = subject("tracr/hist", None, prompts=6), names.ablation("patch"), "answer-difference"
    given = {"ablation": patch, "objective": names.objective(objective)}
    size = int(on.reference(patch).core.sum())
    model, data = null_model("reset-weights", on.model, 0), null_data("reset-weights", on.data, 0)
    circuits = [
        top_n(EdgeScores(on.model.graph, METHODS.get("eap").discover(each, data, **given).scores.values), size)
        for each in (on.model, model)
    ]
    held_out = limit_prompts(on.task.data("test"), 5)
    kept = [
        float(measure_circuits(each, held_out, [circuit], Cut(patch), given["objective"]).faithfulness()[0])
        for each, circuit in zip((on.model, model), circuits, strict=True)
    ]
    null = found.nulls["reset-weights"]
    assert found.size == size and null.faithfulness == pytest.approx(kept[1])
    assert null.beyond == pytest.approx(kept[0] - kept[1]) and null.beyond_low <= null.beyond_high
    scored = [np.abs(METHODS.get("eap").discover(each, data, **given).scores.flat()) for each in (on.model, model)]
    ours, theirs = (set(np.argsort(-each, kind="stable")[:size][np.sort(each)[::-1][:size] > 1e-6]) for each in scored)
    shared = len(ours) * len(theirs) / on.model.graph.n_edges  # of two random sets of these sizes
    assert null.jaccard == pytest.approx(len(ours & theirs) / len(ours | theirs)) and 0 <= null.auroc <= 1
    assert null.chance == pytest.approx(shared / (len(ours) + len(theirs) - shared))
    assert "no answers" in found.nulls["nonsense"].undefined
    assert found.complement.worst <= found.complement.whole + 1 and found.complement.evaluated >= 5
    assert found.exact.edges == 13 and -1 <= found.exact.rank <= 1


@pytest.mark.parametrize("choice", [{"absolute": False}, {"selection": "greedy"}])
def test_controls_are_of_the_circuit_that_is_evaluated(choice, tmp_path):
    changes = {"ablation": ["zero"], "size": [0.3], "controls": {"nulls": ["reset-weights"], "subsets": 2, "edges": 0}}
    grid = {"task": "trained/count_a", "prompts": 6, "ablation": ["zero"], "method": ["eap"]}
    wholes = []
    for name, more in (("usual", {}), ("other", choice)):
        asked = Spec.of({"name": "s", "grid": grid, "evaluation": EVALUATION | changes | more})
        assert run(asked, tmp_path / name, executor="serial").exit_status == 0
        (found,) = Store(tmp_path / name).evaluations()
        assert found.controls.complement.whole == pytest.approx(found.rows[0].faithfulness[0], abs=1e-12)
        wholes.append(found.controls.complement.whole)
    assert wholes[0] != pytest.approx(wholes[1], abs=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_under_an_ablation_over_batches_controls_have_batches_of_their_own(batch_size, tmp_path):
    """The key of the evaluation does not tell the size of a batch, so that it may not change a number."""
    changes = {"batch_size": batch_size, "controls": {"nulls": ["reset-weights"], "subsets": 2, "edges": 0}}
    grid = GRID | {"ablation": ["mean[over=batch]"], "method": ["magnitude"]}
    asked = Spec.of({"name": "s", "grid": grid, "evaluation": EVALUATION | changes})
    assert run(asked, tmp_path / "s", executor="serial").exit_status == 0
    (found,) = Store(tmp_path / "s").evaluations()
    del changes["batch_size"]
    asked = Spec.of({"name": "s", "grid": grid, "evaluation": EVALUATION | changes})
    assert run(asked, tmp_path / "usual", executor="serial").exit_status == 0
    (usual,) = Store(tmp_path / "usual").evaluations()
    assert found.key == usual.key and found.controls == usual.controls


def test_the_circuit_is_as_faithful_beside_its_controls_as_in_its_row(tmp_path):
    """Under zero what dead ends write matters: both are of the circuit without them."""
    changes = {"ablation": ["zero"], "size": [0.3], "controls": {"nulls": [], "subsets": 2, "edges": 0}}
    grid = {"task": "trained/count_a", "prompts": 6, "ablation": ["zero"], "method": [{"name": "random", "seed": [3]}]}
    asked = Spec.of({"name": "s", "grid": grid, "evaluation": EVALUATION | changes})
    assert run(asked, tmp_path / "s", executor="serial").exit_status == 0
    (found,) = Store(tmp_path / "s").evaluations()
    (row,) = found.rows
    on, zero = subject("trained/count_a", None, prompts=6), names.ablation("zero")
    (scores,) = (Store(tmp_path / "s").scores(key) for key in Store(tmp_path / "s").keys())
    circuit = top_n(EdgeScores(on.model.graph, torch.from_numpy(scores).nan_to_num()), found.controls.size)
    assert circuit.pruned().n_edges < circuit.n_edges
    unpruned = measure_circuits(
        on.model,
        limit_prompts(on.task.data("test"), 5),
        [circuit],
        Cut(zero, pruning="unpruned"),
        names.objective(on.task.objective),
    )
    assert found.controls.complement.whole == pytest.approx(row.faithfulness[0], abs=1e-12)
    assert float(unpruned.faithfulness()[0]) != pytest.approx(row.faithfulness[0], abs=1e-3)


def test_random_finds_another_circuit_on_a_null(tmp_path):
    changes = {"controls": {"nulls": ["reset-weights"], "subsets": 0, "edges": 0}}
    grid = GRID | {"method": [{"name": "random", "seed": list(range(12))}]}
    asked = Spec.of({"name": "s", "grid": grid, "evaluation": EVALUATION | changes})
    assert run(asked, tmp_path / "s", executor="serial").exit_status == 0
    nulls = [found.controls.nulls["reset-weights"] for found in Store(tmp_path / "s").evaluations()]
    assert len(nulls) == 12 and abs(np.mean([null.jaccard - null.chance for null in nulls])) < 0.15


def test_the_true_size_comes_first_wherever_it_is_asked_for(tmp_path):
    structure = {"stability": {"over": ["prompts"], "resamples": 10}}
    structure["controls"] = {"nulls": [], "subsets": 0, "edges": 0}
    changes = {"size": [0.5, 0.3, "true"], **structure}
    grid = GRID | {"task": "trained/count_a", "method": "eap"}
    asked = Spec.of({"name": "s", "grid": grid, "evaluation": EVALUATION | changes})
    assert run(asked, tmp_path / "s", executor="serial").exit_status == 0
    (found,) = Store(tmp_path / "s").evaluations()
    assert found.controls.size == found.circuits[2].n_edges < found.circuits[1].n_edges
    assert sum(found.stability["prompts"].inclusion.values()) == pytest.approx(found.controls.size)


def test_none_is_asked_for_with_zeros(tmp_path):
    found = controls_of(tmp_path / "s", "magnitude", controls={"nulls": [], "subsets": 0, "edges": 0})
    assert found.controls.as_json() == {"size": 4, "nulls": {}, "complement": None, "exact": None}
    assert "controls" in found.identity.as_json() and "stability" not in found.identity.as_json()


def test_a_users_method_is_not_run_again_in_this_process(user_method, tmp_path):
    where = user_method("return {'m0->logits': 1.0}")
    found = controls_of(tmp_path / "s", where).controls
    assert "runs in a process of its own" in found.nulls["reset-weights"].undefined
    assert found.complement.undefined is None and found.exact.edges == 13


@pytest.mark.parametrize(
    "wrong, sentence",
    [({"nulls": ["reset"]}, "reset-weights"), ({"subsets": -1}, "subsets"), ({"edge": 3}, "no key 'edge'")],
)
def test_what_is_wrong_with_them_is_said(spec, wrong, sentence):
    with pytest.raises(SpecError, match=sentence):
        spec(evaluation=EVALUATION | {"controls": wrong})


def test_controls_run_as_many_prompts_at_a_time_as_is_asked(tmp_path, monkeypatch):
    at_a_time, original = set(), Evaluator.__init__

    def noted(self, *args, **given):
        original(self, *args, **given)
        at_a_time.add(self.batch_size)

    monkeypatch.setattr(Evaluator, "__init__", noted)
    found = controls_of(tmp_path / "s", "magnitude", batch_size=3, controls=CONTROLS)
    assert found.controls.nulls["reset-weights"].faithfulness is not None
    assert found.controls.complement.evaluated and found.controls.exact.edges and at_a_time == {3}
