"""Circuits are evaluated under every setting asked for, once, whether their search was done before or not."""

import json

import pytest

from circuitmeter.suite.circuit import EdgeScores, top_n
from circuitmeter.suite.errors import SpecError
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.plan import names
from circuitmeter.suite.plan.plan import plan
from circuitmeter.suite.plan.subject import subject
from circuitmeter.suite.run import evaluation as module
from circuitmeter.suite.run.run import run
from circuitmeter.suite.store.store import Store

EVALUATION = {"ablation": ["patch", "zero"], "direction": ["noising", "denoising"], "size": ["true", 0.2, "native"]}


@pytest.fixture
def benchmark(spec):
    def make(evaluation=EVALUATION, **changes):
        grid = {"task": "tracr/hist", "method": ["eap", "acdc"], "ablation": ["patch", "zero"]} | changes
        return spec(evaluation=evaluation, **grid)

    return make


def test_discovery_and_evaluation_ablations_are_crossed(benchmark, tmp_path):
    found = run(benchmark(), tmp_path / "store")
    assert found.done == 4 and found.exit_status == 0
    store = Store(tmp_path / "store")
    evaluations = {record.identity.cell: record for record in store.evaluations()}
    assert set(evaluations) == set(store.keys())
    on = subject("tracr/hist", None)
    for record in store.records():
        evaluation = evaluations[record.key]
        rows = {row.setting.split(" | ")[0]: row for row in evaluation.rows}
        assert set(rows) == {"patch", "patch/denoising", "zero", "zero/denoising"}
        assert "corrupted run" in rows["zero/denoising"].undefined
        truth = on.reference(names.ablation(record.identity.ablation))
        sizes = [circuit.size for circuit in evaluation.circuits]
        assert sizes == ["true", 0.2, *["native"] * len(record.circuits)]
        n = int(truth.core.sum())
        assert evaluation.circuits[0].n_edges == n
        # The numbers are the evaluator's own, under the evaluation's ablation and not the search's.
        circuit = top_n(EdgeScores(on.model.graph, scores_of(store, record)), n)
        data, objective = on.task.data("test"), names.objective("answer-difference")
        for ablation in ("patch", "zero"):
            evaluator = Evaluator(on.model, data, names.ablation(ablation), objective)
            value = objective.value(evaluator.loss(circuit.edges[None]))
            assert rows[ablation].values[0] == pytest.approx(float(value), abs=1e-9)
            share = (rows[ablation].values[0] - rows[ablation].nothing) / (rows[ablation].full - rows[ablation].nothing)
            assert rows[ablation].faithfulness[0] == pytest.approx(share)


def scores_of(store, record):
    import torch

    return torch.from_numpy(store.scores(record.key)).nan_to_num()


def test_rules_that_find_their_own_size_are_sizes(benchmark, tmp_path):
    from circuitmeter.suite.methods import METHODS
    from circuitmeter.suite.scoring.recovery import circuit_recovery
    from circuitmeter.suite.selection import BY_PROMPT, circuit_of

    asked = {"ablation": "patch", "size": ["confident", "true", "null"]}
    assert run(benchmark(asked, ablation="patch"), tmp_path / "store", executor="serial").exit_status == 0
    store = Store(tmp_path / "store")
    found = {store.record(each.identity.cell).identity.method: each for each in store.evaluations()}
    on, patch = subject("tracr/hist", None), names.ablation("patch")
    given = {"ablation": patch, "objective": names.objective("answer-difference")}
    by_prompt = METHODS.get("eap").scores_by_prompt(on.model, on.data, **given).numpy()
    sized = {circuit.size: circuit for circuit in found["eap"].circuits}
    assert list(sized) == ["confident", "true", "null"]
    for rule, select in BY_PROMPT.items():
        circuit = circuit_of(on.model.graph, select(by_prompt))
        assert sized[rule].n_edges == circuit.n_edges
        assert sized[rule].recovery.precision == pytest.approx(
            circuit_recovery(circuit, on.reference(patch))["precision"]
        )
    assert sized["true"].recovery is None and len(found["eap"].rows[0].faithfulness) == 3
    assert [circuit.size for circuit in found["acdc"].circuits] == ["true"]  # it has no scores of each prompt


def test_a_new_setting_is_measured_without_searching_again(benchmark, tmp_path, monkeypatch):
    store = tmp_path / "store"
    run(benchmark(evaluation=None), store, executor="serial")
    assert not list(Store(store).evaluations())
    before = plan(benchmark(), store)
    assert len(before.of("unevaluated")) == 4 and not before.of("missing") and "4 unevaluated" in str(before)

    def no_search(*args):
        raise AssertionError("searched again")

    monkeypatch.setattr("circuitmeter.suite.run.family_work.run_family", no_search)
    assert len(run(benchmark(), store, executor="serial").ran) == 4
    assert not run(benchmark(), store, executor="serial").ran
    wider = EVALUATION | {"component": ["edge", "node"]}
    assert len(run(benchmark(wider), store, executor="serial").ran) == 4
    assert len(list(Store(store).evaluations())) == 8


def test_what_goes_wrong_in_an_evaluation_is_a_failed_row_and_tried_again_when_asked(benchmark, tmp_path, monkeypatch):
    store, evaluate = tmp_path / "store", module.evaluate

    def broken(job, *args):
        if job.cell.method == "eap":
            raise MemoryError("no room")
        return evaluate(job, *args)

    monkeypatch.setattr(module, "evaluate", broken)
    first = run(benchmark(), store, executor="serial")
    assert first.exit_status == 1 and {reason for _, reason in first.failed} == {"memory: no room"}
    found = plan(benchmark(), store)
    assert {each.reason for each in found.of("failed")} == {"memory: its evaluation: no room"}
    monkeypatch.setattr(module, "evaluate", evaluate)
    assert not run(benchmark(), store, executor="serial").ran
    again = run(benchmark(), store, executor="serial", retry_failed=True)
    assert len(again.ran) == 2 and again.exit_status == 0


def test_a_changed_evaluation_is_noticed_and_measured_again(benchmark, tmp_path):
    run(benchmark(method="eap"), tmp_path / "store", executor="serial")
    path = sorted((tmp_path / "store" / "evaluations").iterdir())[0]
    contents = json.loads(path.read_text())
    contents["record"]["rows"][0]["full"] += 1
    path.write_text(json.dumps(contents))
    store = Store(tmp_path / "store")
    assert len(list(store.evaluations())) == 1 and "is not what was written" in store.damaged[path.stem]
    assert len(run(benchmark(method="eap"), tmp_path / "store", executor="serial").ran) == 1
    assert len(list(Store(tmp_path / "store").evaluations())) == 2


def test_a_plan_lists_the_settings_without_a_meaning(benchmark, tmp_path):
    found = plan(benchmark(EVALUATION | {"positions": ["all", "end"]}), tmp_path / "none")
    reasons = found.as_json()["undefined_evaluations"]
    assert len(reasons["the task names no positions"]) == 3
    assert "not evaluated: the task names no positions (3 settings, such as" in str(found)


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        ({"ablation": "nothing"}, "no ablation 'nothing'"),
        ({"ablation": "zero", "size": [1.5]}, "size 1.5: give a fraction"),
        ({"ablation": "zero", "component": "nodes"}, "no component 'nodes'. Did you mean 'node'?"),
        ({"ablation": "zero", "selection": "best"}, "selection is 'best'"),
        ({"component": "node"}, "[evaluation] lacks 'ablation'"),
        ({"ablation": "zero", "level": 1}, "[evaluation] has no key 'level'"),
    ],
)
def test_a_wrong_evaluation_is_refused_before_anything_runs(benchmark, wrong, sentence):
    with pytest.raises(SpecError) as error:
        benchmark(wrong)
    assert sentence in str(error.value)


def test_templates_are_told_when_asked_for_and_only_then(spec, tmp_path):
    wanted = {"ablation": ["patch"], "size": [0.5], "split": "validation", "by_template": True}
    grid = {"task": "sva", "model": "mini", "method": ["eap"], "ablation": ["patch"], "prompts": 8}
    run(spec(evaluation=wanted, **grid), tmp_path / "store", executor="serial")
    run(spec(evaluation=wanted | {"by_template": False}, **grid), tmp_path / "store", executor="serial")
    plain, told = sorted(Store(tmp_path / "store").evaluations(), key=lambda found: found.identity.by_template)
    data = subject("sva", "mini").task.data("validation")
    (row,), counts = told.rows, data.templates.bincount()
    assert plain.rows[0].by_template == {} and plain.key != told.key
    assert row.faithfulness == plain.rows[0].faithfulness
    assert {int(number) for number in row.by_template} == set(data.templates.tolist())
    # Of one template alone nothing but that template's prompts counts.
    assert all(len(values) == 1 for values in row.by_template.values()) and int(counts.sum()) == data.n
    assert len({round(values[0], 6) for values in row.by_template.values()}) > 1
