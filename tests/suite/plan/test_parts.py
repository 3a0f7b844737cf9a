"""How many prompts a part of a search is: by the operations that they take, and no more than fit in a batch."""

from __future__ import annotations

import pytest

from circuitmeter import tasks
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.evaluator import default_batch_size
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.methods.cost import Cost
from circuitmeter.suite.model.load.by_name import load_model
from circuitmeter.suite.plan import parts
from circuitmeter.suite.plan.subject import Subject
from circuitmeter.suite.verbs.discover import batch_size_chosen


@pytest.fixture(scope="module")
def on():
    model, task = load_model("tracr/hist"), tasks.load("tracr/hist")
    return Subject(task, task.data("train"), "tracr/hist", model, None, "train")


def test_a_part_is_of_so_many_operations(on, monkeypatch):
    n, tokens = on.data.n, float(on.data.lengths.double().mean())
    of_a_pass = 2 * tokens * sum(parameter.numel() for parameter in on.model.parameters())
    cost = Cost(forward=2 * n, gradient=5 * n, cut=n)  # of a prompt: 2 + 3 * 5 + 1 passes
    monkeypatch.setattr(parts, "OPERATIONS", 18 * of_a_pass * 3.5)
    assert parts.prompts_of_a_part(cost, on.model, on.data) == 3
    monkeypatch.setattr(parts, "OPERATIONS", 1.0)
    assert parts.prompts_of_a_part(cost, on.model, on.data) == 1
    monkeypatch.setattr(parts, "OPERATIONS", 1e30)
    fit = default_batch_size(on.model, on.data.clean.shape[1])
    assert parts.prompts_of_a_part(cost, on.model, on.data) == fit
    assert parts.prompts_of_a_part(Cost(), on.model, on.data) == fit


@pytest.mark.parametrize(
    ("method", "ablation", "given", "chosen"),
    [
        ("eap-ig", "patch", {}, True),
        ("eap-ig", "patch", {"batch_size": 7}, False),
        ("eap-ig", "mean[over=batch]", {}, False),  # the batch size changes what cut edges carry
        ("exact", "patch", {}, False),  # sums up nothing that is kept
        ("acdc", "patch", {}, False),
        ("ugs", "patch", {}, False),  # has steps of its own
    ],
)
def test_only_sums_that_do_not_depend_on_it_have_another_batch_size(method, ablation, given, chosen, on, monkeypatch):
    monkeypatch.setattr(parts, "OPERATIONS", 1.0)
    its = METHODS.get(method)
    expected = {"batch_size": 1} if chosen else {}
    assert batch_size_chosen(its, on, its.resolve(given), Ablation.parse(ablation)) == expected
