"""Objectives: formulas, signs, reduction, and when they have no meaning."""

import math

import pytest
import torch
from oracles import small_data, small_model
from torch.testing import assert_close

from circuitmeter.suite.data import Data
from circuitmeter.suite.intervention.objective import OBJECTIVES, Targets
from circuitmeter.suite.intervention.plain_runs import Runs


def targets(clean, counterfactual=None, answers=None, wrong=None, example=None):
    example = torch.arange(len(clean)) if example is None else example
    return Targets(clean, counterfactual, answers, wrong, example, int(example.max()) + 1)


def test_formulas():
    out = torch.tensor([[0.5, 1.5, -1.0]], dtype=torch.float64)
    clean, other = torch.tensor([[1.0, 2.0, 0.0]]).double(), torch.tensor([[0.0, 1.0, 3.0]]).double()
    given = targets(clean, other, torch.tensor([[1, -1]]), torch.tensor([[0, 2]]))
    p = [math.exp(x) / sum(math.exp(y) for y in (1, 2, 0)) for x in (1, 2, 0)]
    q = [math.exp(x) / sum(math.exp(y) for y in (0.5, 1.5, -1.0)) for x in (0.5, 1.5, -1.0)]
    expected = {
        "answer-difference": -(0.5 * 1 + 1.5 * 1 + -1.0 * -3),
        "l2": (0.25 + 0.25 + 1) / 3,
        "kl": sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)),
        "logit-difference": -(1.5 - (0.5 - 1.0) / 2),
        "best-wrong-difference": -(1.5 - 0.5),
        "probability-difference": -(q[1] - q[0] - q[2]),
        "renormalized-difference": -(q[1] - q[0] - q[2]) / sum(q),
        "log-probability-difference": -(math.log(q[1]) - (math.log(q[0]) + math.log(q[2])) / 2),
        "cross-entropy": -math.log(q[1]),
        "accuracy": 0.0,
        "exact-match": 0.0,
    }
    assert set(expected) == set(OBJECTIVES)
    for name, loss in expected.items():
        assert_close(OBJECTIVES.get(name).loss(out, given), torch.tensor([loss], dtype=torch.float64))


def test_kl_is_of_the_run_from_the_clean_and_not_the_other_way_round():
    clean, out = torch.tensor([[2.0, 0.0]]).double(), torch.tensor([[0.0, 0.0]]).double()
    kl = OBJECTIVES.get("kl")
    assert abs(float(kl.loss(out, targets(clean))) - float(kl.loss(clean, targets(out)))) > 0.05
    p = 1 / (1 + math.exp(-2))
    assert float(kl.loss(out, targets(clean))) == pytest.approx(p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p)))


def test_damage_raises_every_loss_and_the_quoted_value_has_its_usual_sign():
    model, data = small_model(), small_data()
    runs = Runs(model, data.batch(torch.arange(data.n)))
    for name in OBJECTIVES:
        objective = OBJECTIVES.get(name)
        given = objective.targets(runs)
        clean, other = (float(objective.loss(part[0], given).mean()) for part in (runs.clean, runs.counterfactual))
        if not objective.needs & {"answers", "right answers"} and name != "exact-match":  # answers are random here
            assert other > clean
        assert objective.value(clean) == (objective.offset - clean if objective.higher_is_better else clean)
        if objective.divergence:
            assert clean == pytest.approx(0, abs=1e-12)


def test_an_example_s_loss_is_its_mean_over_read_positions():
    out = torch.tensor([[1.0], [2.0], [6.0]], dtype=torch.float64)
    given = targets(torch.zeros(3, 1).double(), example=torch.tensor([0, 1, 1]))
    assert OBJECTIVES.get("l2").loss(out, given).tolist() == [1, 20]
    many = OBJECTIVES.get("l2").loss(torch.stack([out, 2 * out]), given)
    assert many.tolist() == [[1, 20], [4, 80]]


def test_half_precision_outputs_are_scored_in_float32():
    out = torch.randn(2, 5, dtype=torch.bfloat16)
    assert OBJECTIVES.get("l2").loss(out, targets(out.float())).dtype == torch.float32


def test_without_a_meaning_the_reason_is_given():
    model, data = small_model(), small_data()
    bare = Data(data.clean, None, data.read)
    assert "answer" in OBJECTIVES.get("logit-difference").undefined(bare, model.config)
    assert "counterfactual" in OBJECTIVES.get("answer-difference").undefined(bare, model.config)
    one = small_model(d_out=1).config
    assert "one number" in OBJECTIVES.get("kl").undefined(data, one)
    assert OBJECTIVES.get("l2").undefined(bare, one) is None


def test_shares_are_quoted_as_shares_of_what_is_right():
    out = torch.tensor([[0.0, 1.0, 5.0], [1.0, 1.0, 0.0], [2.0, 0.0, 0.0], [3.0, 0.0, 4.0]]).double()
    given = targets(
        out.roll(1, 0),
        answers=torch.tensor([[1], [0], [0], [0]]),
        wrong=torch.tensor([[0, -1], [1, -1], [1, 2], [2, 1]]),
    )
    accuracy, match = OBJECTIVES.get("accuracy"), OBJECTIVES.get("exact-match")
    # A tie is not right; what is largest outside the answers does not count.
    assert accuracy.value(accuracy.loss(out, given)).tolist() == [1, 0, 1, 0]
    assert match.value(match.loss(out, given)).tolist() == [1, 0, 1, 0]


def test_several_right_answers_are_added_or_averaged_and_padding_is_neither():
    out = torch.tensor([[0.3, 1.1, -0.4, 2.0]]).double()
    p = out.softmax(-1)[0]
    given = targets(out, answers=torch.tensor([[1, 2, -1]]), wrong=torch.tensor([[0, 3, -1]]))
    loss = {name: float(OBJECTIVES.get(name).loss(out, given)) for name in OBJECTIVES if name != "answer-difference"}
    assert loss["cross-entropy"] == pytest.approx(-math.log(p[1] + p[2]))
    assert loss["probability-difference"] == pytest.approx(-float(p[1] + p[2] - p[0] - p[3]))
    assert loss["best-wrong-difference"] == pytest.approx(-((1.1 - 0.4) / 2 - 2.0))
    assert loss["accuracy"] == 1


def test_an_objective_without_a_gradient_is_for_evaluation_only():
    from circuitmeter.suite.intervention.ablation import Ablation
    from circuitmeter.suite.methods import METHODS

    model, data = small_model(), small_data()
    accuracy = OBJECTIVES.get("accuracy")
    assert "needs gradients" in METHODS.get("eap").undefined(Ablation.parse("patch"), accuracy, data, model.config)
    assert METHODS.get("exact").undefined(Ablation.parse("patch"), accuracy, data, model.config) is None
