"""Whether a model does a task, said before its circuit is looked for."""

from __future__ import annotations

import pytest
import torch

from circuitmeter import tasks
from circuitmeter.suite.model.load.by_name import load_model, on_model
from circuitmeter.suite.scoring.behaviour import DOES, Behaviour, behaviour


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


def test_the_warning_states_its_level():
    assert Behaviour(DOES, 1.0, 16).warning("ioi", "mini") is None
    warning = Behaviour(0.28, -0.5, 16).warning("colored-objects", "smollm2")
    assert warning.startswith(
        "smollm2 hardly does colored-objects (accuracy 0.28, logit difference -0.50 on 16 prompts"
    )
    assert f"from {DOES:.2f}" in warning
