"""Models in half precision: scores near float32's, and sums that are wider than the weights."""

import pytest
import torch
from discovering import discover
from oracles import ARCHITECTURES, small_data, small_model

from circuitmeter.suite.circuit import top_n
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.model.capture import Gradients, contract
from circuitmeter.suite.model.rules import EXACT

HALVES = pytest.mark.parametrize("dtype, near", [(torch.bfloat16, 0.1), (torch.float16, 0.01)])
# As wide as rounding needs to average out, and of every kind of block.
SHAPE = {"n_layers": 2, "d_model": 48, "d_head": 12, "n_heads": 4, "d_mlp": 64}
KINDS = ("gpt2", "llama", "pythia", "gemma-2")


def model_of(architecture, dtype):
    changes = {**ARCHITECTURES[architecture], **SHAPE}
    if changes.get("positions") == "rotary":
        changes["rotary_dims"] = 6
    model = small_model(**changes)
    for weight in model.parameters():  # logits of the order of one, as trained models' are
        weight.data *= 0.4 if weight.ndim > 1 else 1
    return model.to(dtype)


@pytest.mark.parametrize("architecture", KINDS)
@pytest.mark.parametrize("method", ["eap", "eap-ig"])
@HALVES
def test_scores_come_near_those_of_float32(architecture, method, dtype, near):
    data = small_data(n=12)
    exact = discover(method, model_of(architecture, torch.float32), data).scores
    half = discover(method, model_of(architecture, dtype), data).scores
    assert half.values.dtype == torch.float64
    exact, half = (found.values.nan_to_num() for found in (exact, half))
    assert (half - exact).norm() < near * exact.norm()
    assert exact.norm() > 1e-2
    assert (half - exact).norm() > 0  # it is another dtype


@HALVES
def test_sums_are_wider_than_the_weights(dtype, near):
    """Of 4,097 ones: bfloat16 can say 4,096 or 4,112, and float16 4,096 or 4,100."""
    model = small_model(n_layers=1, d_model=17).to(dtype)
    ones = torch.ones(1, 241, 17, dtype=dtype)
    zeros = {name: torch.zeros(1, 2, 241, 6, dtype=dtype) for name in "qkv"}
    taps = [{"residual": ones, **zeros}, {"logits": ones}]
    found = Gradients(taps, None, [zeros | {"mlp": ones}], ones, EXACT)
    scores = contract(model, found, torch.ones(4, 1, 241, 17, dtype=dtype))
    assert scores.dtype == torch.float32
    assert 241 * 17 == 4097 and (scores[:, -1] == 4097).all()
    assert (scores[:3, model.graph.mlp_reader(0)] == 4097).all()


@HALVES
def test_a_circuit_is_scored_in_float64_and_near_float32(dtype, near):
    data, objective = small_data(n=12), OBJECTIVES.get("logit-difference")
    circuit = None
    losses = []
    for kind in (torch.float32, dtype):
        model = model_of("gpt2", kind)
        circuit = circuit or top_n(discover("eap", model, data).scores, 30)
        evaluator = Evaluator(model, data, Ablation.parse("patch"), objective)
        losses.append(evaluator.per_example(torch.stack([circuit.edges, ~circuit.edges])))
    assert losses[1].dtype == torch.float64
    assert (losses[1] - losses[0]).norm() < near * losses[0].norm()
