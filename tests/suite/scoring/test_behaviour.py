"""Whether a model does a task, said before its circuit is looked for."""

from __future__ import annotations

import pytest
import torch

from circuitmeter import tasks
from circuitmeter.suite.model.load.by_name import load_model, on_model
from circuitmeter.suite.scoring.behaviour import DOES, Behaviour, behaviour, warning_of_all


def test_a_model_that_does_a_task_and_one_that_does_not():
    data = on_model(tasks.load("ioi"), "mini").data("validation")
    model = load_model("mini", device="cpu")
    found = behaviour(model, data, prompts=12)
    assert found.accuracy == 1.0 and found.logit_difference > 1 and found.prompts == 12
    logits = torch.cat([model(batch.clean, batch.read) for batch in data.select(torch.arange(12)).batches(1)])
    order = torch.cat([batch.rows for batch in data.select(torch.arange(12)).batches(1)])
    right, wrong = (ids[order][:, 0] for ids in (data.answers, data.wrong))
    each = torch.arange(12)
    assert found.logit_difference == pytest.approx(float((logits[each, right] - logits[each, wrong]).mean()), rel=1e-5)
    model.unembed.zero_()
    assert behaviour(model, data).accuracy == 0.0  # a tie is not right


def found(accuracy, logit_difference):
    return Behaviour(accuracy=accuracy, logit_difference=logit_difference, prompts=16)


def test_the_warning_states_its_level():
    assert found(DOES, 1.0).warning("ioi", "mini") is None
    warning = found(0.28, -0.5).warning("colored-objects", "smollm2")
    assert warning.startswith(
        "smollm2 hardly does colored-objects (accuracy 0.28, logit difference -0.50 on 16 prompts"
    )
    assert f"from {DOES:.2f}" in warning


def test_one_warning_for_all_tasks_names_those_that_are_not_done():
    done, hardly = found(1.0, 3.0), found(0.25, -1.0)
    assert warning_of_all([]) is warning_of_all([("ioi", "mini", done)]) is None
    assert warning_of_all([("ioi", "mini", done), ("sva", "mini", hardly)]) == hardly.warning("sva", "mini")
    several = warning_of_all([("ioi", "mini", done)] + [(f"t{i}", "mini", hardly) for i in range(14)])
    assert several.startswith("The model hardly does the task in 14 of 15 cases (a task counts as done from 0.75): ")
    assert "mini t0 (accuracy 0.25), mini t1" in several and several.endswith(
        "mini t11 (accuracy 0.25), 2 more. Their circuits say little."
    )


def test_a_model_whose_outputs_are_no_numbers_does_nothing():
    broken = found(1.0, float("nan"))
    assert not broken.does_it and "logit difference no number on 16 prompts" in broken.warning("ioi", "mini")
