"""Completeness: classes weigh alike, and what answers one thing only is named."""

import pytest
import torch
from oracles import small_data, small_model

from circuitmeter.suite.circuit import Circuit, EdgeScores, top_n
from circuitmeter.suite.data import Data
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.faithfulness import measure_circuits
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.intervention.setting import Cut
from circuitmeter.suite.scoring.completeness import answer_classes, completeness, summed_up

# Nine prompts whose answer is A, one whose answer is B.
CLASSES = torch.tensor([0] * 9 + [1])
FULL, NOTHING = torch.ones(10).double(), torch.full((10,), 0.5).double()


def test_a_frequent_answer_counts_no_more_than_a_rare_one():
    always_a, always_b = (CLASSES == 0).double(), (CLASSES == 1).double()
    # Over prompts these two would have .9 and .1 right: nothing lost, and more than all lost.
    assert (always_a - NOTHING).mean() / 0.5 == pytest.approx(0.8)
    assert (always_b - NOTHING).mean() / 0.5 == pytest.approx(-0.8)
    for constant in (always_a, always_b):
        found = summed_up(constant, FULL, NOTHING, CLASSES, constant)
        assert found.completeness == pytest.approx(1) and found.accuracy == pytest.approx(0.5)


def test_a_constant_answer_is_named():
    classes = torch.tensor([0, 0, 0, 1, 1, 1])
    full, nothing = torch.ones(6).double(), torch.zeros(6).double()

    def constant(right):
        return summed_up(torch.tensor(right).double(), full, nothing, classes, torch.tensor(right)).constant

    assert constant([1, 1, 1, 0, 0, 0]) is True
    assert constant([1, 1, 0, 0, 0, 0]) is False  # it depends on the prompt
    assert constant([1, 1, 1, 1, 1, 1]) is False and constant([0, 0, 0, 0, 0, 0]) is False
    assert summed_up(full, full, nothing, classes).constant is None
    one_each = torch.arange(6)
    assert summed_up(full, full, nothing, one_each, full).constant is None


def test_what_is_left_class_by_class():
    classes = torch.tensor([0, 0, 1, 1])
    left, full = torch.tensor([1.0, 0.0, 3.0, 1.0]).double(), torch.tensor([2.0, 2.0, 4.0, 4.0]).double()
    found = summed_up(left, full, torch.zeros(4).double(), classes)
    assert found.by_class == (0.25, 0.5) and found.completeness == pytest.approx(1 - 1.25 / 3)


def test_classes_are_sets_of_right_answers():
    read = torch.ones(4, 1, dtype=torch.bool)
    answers = torch.tensor([[3, 5], [5, 3], [3, -1], [5, 3]])
    data = Data(torch.zeros(4, 1, dtype=torch.long), None, read, answers=answers, wrong=answers + 1)
    classes = answer_classes(data)
    assert classes[0] == classes[1] == classes[3] != classes[2] and set(classes.tolist()) == {0, 1}
    assert set(answer_classes(Data(data.clean, None, read)).tolist()) == {0}


def test_knocking_out_everything_and_nothing():
    model, data = small_model(n_layers=2), small_data()
    cut, objective = Cut(Ablation.parse("patch")), OBJECTIVES.get("logit-difference")
    everything = completeness(model, data, Circuit(model.graph, model.graph.exists), cut, objective)
    nothing = completeness(model, data, Circuit(model.graph, model.graph.exists & False), cut, objective)
    assert everything.completeness == pytest.approx(1) and nothing.completeness == pytest.approx(0)
    # With one prompt a class, the classes' mean is the prompts' mean of the knocked-out model.
    data = data.select((answer_classes(data)[:, None] == torch.arange(5)).int().argmax(0))
    circuit = top_n(EdgeScores(model.graph, torch.randn(model.graph.exists.shape)), 30)
    measured = measure_circuits(model, data, [circuit], Cut(Ablation.parse("patch"), set="circuit"), objective)
    found = completeness(model, data, circuit, cut, objective)
    assert len(found.by_class) == data.n == 5
    assert found.completeness == pytest.approx(1 - float(measured.faithfulness()[0]))
    assert 0 <= found.accuracy <= 1 and found.constant is None
