"""What a batch holds for cut passes, and what is computed only when a pass needs it."""

import pytest
import torch
from oracles import small_data, small_model

from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES


@pytest.mark.parametrize("denoising", [False, True])
def test_differences_of_all_writers_are_computed_for_circuits_that_begin_behind_the_first_layer_only(denoising):
    model = small_model()
    evaluator = Evaluator(model, small_data(), Ablation.parse("patch"), OBJECTIVES.get("l2"), denoising=denoising)
    early, late = (torch.full((1, *model.graph.exists.shape), 0.0 if denoising else 1.0) for _ in range(2))
    early[0, 0, 0] = late[0, 0, -1] = 1.0 if denoising else 0.0
    found = evaluator.loss(early)
    assert all("prefix" not in vars(ready) for ready in evaluator.prepared())
    together = evaluator.loss(torch.cat([early, late]))  # from the first layer on, both
    assert all("prefix" not in vars(ready) for ready in evaluator.prepared())
    alone = evaluator.loss(late)
    assert all("prefix" in vars(ready) for ready in evaluator.prepared())
    torch.testing.assert_close(torch.cat([found, alone]), together)
