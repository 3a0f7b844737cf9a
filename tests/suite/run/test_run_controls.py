"""Controls in a benchmark: what is kept is what the plain functions find, and what has no meaning says why."""

from __future__ import annotations

import pytest

from circuitmeter.suite.circuit import EdgeScores, top_n
from circuitmeter.suite.errors import SpecError
from circuitmeter.suite.intervention.faithfulness import measure
from circuitmeter.suite.intervention.setting import Cut
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.plan import names
from circuitmeter.suite.plan.spec import Spec
from circuitmeter.suite.plan.subject import first, subject
from circuitmeter.suite.run.run import run
from circuitmeter.suite.scoring.structure.null_controls import null_of
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
    model, data = null_of("reset-weights", on.model, on.data, 0)
    circuits = [
        top_n(EdgeScores(on.model.graph, METHODS.get("eap").discover(each, data, **given).scores.values), size)
        for each in (on.model, model)
    ]
    held_out = first(on.task.data("test"), 5)
    kept = [
        float(measure(each, held_out, [circuit], Cut(patch), given["objective"]).faithfulness()[0])
        for each, circuit in zip((on.model, model), circuits, strict=True)
    ]
    null = found.nulls["reset-weights"]
    assert found.size == size and null.faithfulness == pytest.approx(kept[1])
    assert null.beyond == pytest.approx(kept[0] - kept[1]) and null.beyond_low <= null.beyond_high
    both = int((circuits[0].edges & circuits[1].edges).sum())
    assert null.jaccard == pytest.approx(both / (2 * size - both)) and 0 <= null.auroc <= 1
    assert "no answers" in found.nulls["nonsense"].undefined
    assert found.complement.worst <= found.complement.whole + 1 and found.complement.evaluated >= 5
    assert found.exact.edges == 13 and -1 <= found.exact.rank <= 1


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
