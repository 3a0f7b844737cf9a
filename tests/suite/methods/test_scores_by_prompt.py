"""The scores of each prompt: their mean is what the method finds, and each is that of the prompt alone."""

from __future__ import annotations

import pytest
import torch

from circuitmeter.suite.errors import Undefined
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.plan.subject import subject

VARIANTS = [(name, {}) for name in METHODS if METHODS.get(name).per_prompt and name != "hisp"] + [
    ("hisp", {"level": "edge"}),
    ("eap-ig", {"path": "activations", "steps": 2}),
    ("eap-ig", {"path": "activations-all", "steps": 2}),
]


@pytest.mark.parametrize("name, given", VARIANTS)
def test_their_mean_is_the_score_and_each_is_of_one_prompt(name, given):
    on, method = subject("tracr/hist", None, prompts=7), METHODS.get(name)
    asked = {"ablation": Ablation.parse("patch"), "objective": OBJECTIVES.get("answer-difference")}
    asked |= method.resolve(given)
    found = method.scores_by_prompt(on.model, on.data, **asked)
    whole = torch.from_numpy(method.discover(on.model, on.data, **asked).scores.flat())
    assert found.shape == (7, on.model.graph.n_edges)
    torch.testing.assert_close(found.mean(0), whole, atol=1e-6, rtol=1e-5)
    alone = method.discover(on.model, on.data.select(torch.tensor([3])), **asked).scores.flat()
    torch.testing.assert_close(found[3], torch.from_numpy(alone), atol=1e-6, rtol=1e-5)


def test_methods_without_them_say_so():
    on = subject("tracr/hist", None, prompts=3)
    asked = {"ablation": Ablation.parse("patch"), "objective": OBJECTIVES.get("answer-difference")}
    for name, level in (("acdc", {}), ("hisp", {})):
        method = METHODS.get(name)
        with pytest.raises(Undefined, match="no scores of each prompt"):
            method.scores_by_prompt(on.model, on.data, **asked, **method.resolve(level))
