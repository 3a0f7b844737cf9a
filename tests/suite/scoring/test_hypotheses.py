"""The five tests accept certified circuits of compiled models and reject broken, bloated and wrong ones."""

import json

import pytest
import torch
from oracles import small_data, small_model

from circuitmeter import ground_truth, tasks
from circuitmeter.suite.circuit import Circuit, EdgeScores, top_n
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.intervention.setting import Cut
from circuitmeter.suite.scoring.hypotheses import TESTS, hypotheses
from circuitmeter.suite.scoring.hypotheses_statistics import less_often

GOOD = {
    "equivalence": "not refuted",
    "independence": "not refuted",
    "minimality": "not refuted",
    "sufficiency": "holds",
    "partial necessity": "holds",
}


def problem(name="tracr/xproportion", n=100):
    truth = ground_truth.load(name)
    data = tasks.load(name).data()
    return truth, truth.model(), data.select(torch.arange(0, data.n, data.n // n)[:n])


def verdicts(circuit, ablation, name="tracr/xproportion", objective="answer-difference", n=100, **options):
    _, model, data = problem(name, n)
    cut = Cut(Ablation.parse(ablation), **options)
    found = hypotheses(model, data, circuit, cut, OBJECTIVES.get(objective), permutations=2 * n)
    return {test.name: test for test in found}


def certified(ablation, name="tracr/xproportion"):
    reference = ground_truth.load(name).reference(ablation)
    return Circuit(reference.graph, reference.core)


@pytest.mark.parametrize(
    ("name", "ablation"), [("tracr/xproportion", "patch"), ("tracr/xproportion", "zero"), ("tracr/reverse", "patch")]
)
def test_the_truth_is_accepted_with_power(name, ablation):
    found = verdicts(certified(ablation, name), ablation, name)
    assert {test.name: test.verdict for test in found.values()} == GOOD
    for test in found.values():
        assert test.power is None or test.power > 0.9, test.name
        assert test.p_value <= test.corrected <= 1
    best = found["sufficiency"]  # the smallest of five p-values
    assert best.corrected == pytest.approx(5 * best.p_value)


@pytest.mark.parametrize("ablation", ["patch", "zero"])
def test_a_broken_circuit_is_rejected(ablation):
    truth = certified(ablation)
    edges = truth.edges.clone()
    edges[truth.graph.index("a1.h0->logits")] = False
    found = verdicts(Circuit(truth.graph, edges), ablation)
    assert found["equivalence"].verdict == "fails" and found["equivalence"].corrected < 1e-3
    assert found["sufficiency"].verdict == "not shown" and found["sufficiency"].statistic == 0
    assert found["minimality"].verdict == "fails"  # what is left of it does nothing


def test_a_circuit_with_edges_too_many_is_not_minimal_and_they_are_named():
    truth = certified("patch")
    more = ["pos_embed->m0", "m0->logits"]
    bloated = Circuit(truth.graph, truth.edges | truth.graph.matrix(more))
    found = verdicts(bloated, "patch")
    assert found["minimality"].verdict == "fails" and set(found["minimality"].edges) == set(more)
    assert found["equivalence"].verdict == "not refuted" and found["sufficiency"].verdict == "holds"


def test_what_is_left_without_a_wrong_circuit_still_depends_on_the_model():
    truth = certified("patch")
    wrong = Circuit(truth.graph, truth.graph.exists & ~truth.edges)
    found = verdicts(wrong, "patch")
    assert found["independence"].verdict == "fails"
    assert found["partial necessity"].verdict == "not shown" and found["partial necessity"].statistic == 0
    assert found["sufficiency"].statistic == 0


def test_a_circuit_that_does_nothing_wins_no_comparison():
    """Random circuits of one edge do nothing here either: all comparisons are ties."""
    graph = certified("patch").graph
    found = verdicts(Circuit.of(graph, ["pos_embed->logits"]), "patch", n=20)
    assert found["sufficiency"].statistic == found["partial necessity"].statistic == 0
    assert found["partial necessity"].verdict == "not shown"


def test_minimality_is_corrected_for_the_number_of_edges():
    graph = certified("patch").graph
    circuit = Circuit(graph, graph.exists & ~certified("patch").edges)  # no edge of it does anything
    test = verdicts(circuit, "patch", n=20)["minimality"]
    assert test.statistic == 0 and test.p_value == pytest.approx(
        circuit.n_edges * less_often(0, 100, 0.9), rel=1e-6, abs=0
    )
    assert test.corrected == pytest.approx(5 * test.p_value, rel=1e-6, abs=0)


def test_tests_without_a_meaning_say_why():
    truth = certified("patch")
    found = verdicts(truth, "patch", objective="l2", n=20)
    assert "nothing is better" in found["equivalence"].undefined and found["equivalence"].verdict is None
    assert found["sufficiency"].verdict == "holds"
    whole = verdicts(Circuit(truth.graph, truth.graph.exists), "patch", n=20)
    assert "whole graph" in whole["minimality"].undefined
    by_node = verdicts(truth, "patch", component="node", n=20)
    assert "one by one" in by_node["minimality"].undefined and by_node["equivalence"].verdict == "not refuted"
    empty = verdicts(Circuit(truth.graph, torch.zeros_like(truth.edges)), "patch", n=20)
    assert "no edges" in empty["minimality"].undefined and "0 edges" in empty["sufficiency"].undefined


def test_on_a_language_model_with_answers_and_as_rows():
    model, data = small_model(n_layers=2, n_heads=1), small_data(12)
    circuit = top_n(EdgeScores(model.graph, torch.randn(model.graph.exists.shape)), 12)
    found = hypotheses(
        model, data, circuit, Cut(Ablation.parse("resample")), OBJECTIVES.get("logit-difference"), permutations=50
    )
    assert [test.name for test in found] == list(TESTS)
    rows = json.loads(json.dumps([test.row() for test in found]))
    assert all(row["null"] and row["verdict"] and 0 < row["p_value"] <= 1 for row in rows)
    again = hypotheses(
        model, data, circuit, Cut(Ablation.parse("resample")), OBJECTIVES.get("logit-difference"), permutations=50
    )
    assert again == found
