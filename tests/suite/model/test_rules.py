"""Backward rules: the forward pass bit for bit, each rule against its formula, and their use inside a model."""

import pytest
import torch
from oracles import ARCHITECTURES, small_data, small_model
from torch.testing import assert_close

from circuitmeter.suite.model import capture
from circuitmeter.suite.model.block import ACTIVATIONS
from circuitmeter.suite.model.capture import contract, gradients
from circuitmeter.suite.model.rules import EXACT, Rules

CLOSE = dict(rtol=1e-9, atol=1e-11)
RULES = {
    "relp": Rules(freeze_norm=True, activation_ratio=True, gate_share=0.5),
    "relp with attention": Rules(freeze_norm=True, activation_ratio=True, freeze_attention=True, gate_share=0.5),
    "gim": Rules(
        freeze_norm=True, softmax_temperature=2.0, query_share=0.25, key_share=0.25, value_share=0.5, gate_share=0.5
    ),
}


def loss(logits):
    weights = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)
    return (logits.tanh() * weights).sum()


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_forward_pass_is_the_plain_one_bit_for_bit(rules, architecture, dtype):
    model, data = small_model(**ARCHITECTURES[architecture]).to(dtype), small_data()
    inputs = model.input_nodes(data.clean)
    plain, _ = model.run(inputs.clone().requires_grad_())
    ruled, _ = model.run(inputs.clone().requires_grad_(), rules=RULES[rules])
    assert torch.equal(plain, ruled) and ruled.requires_grad


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_frozen_norm_s_gradient_is_that_of_a_division_by_a_constant(architecture):
    model = small_model(**ARCHITECTURES[architecture])
    norm, x = model.blocks[0].norm_mlp, torch.randn(3, 4, 12, dtype=torch.float64, requires_grad=True)
    g = torch.randn(3, 4, 12, dtype=torch.float64)
    (found,) = torch.autograd.grad(Rules(freeze_norm=True).norm(norm, x), x, g)
    scale = (
        (x - x.mean(-1, keepdim=True) if norm.kind == "layer" else x).square().mean(-1, keepdim=True) + norm.eps
    ).sqrt()
    expected = g * norm.weight / scale
    expected = expected - expected.mean(-1, keepdim=True) if norm.kind == "layer" else expected
    assert_close(found, expected.detach(), **CLOSE)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("gated", [False, True])
def test_the_identity_and_half_rules_against_their_formulas(activation, gated):
    model = small_model(activation=activation, gated=gated)
    block, x = model.blocks[0], torch.randn(5, 12, dtype=torch.float64, requires_grad=True)
    g = torch.randn(5, 12, dtype=torch.float64)
    (found,) = torch.autograd.grad(Rules(activation_ratio=True, gate_share=0.5).mlp(block, x), x, g)
    into_hidden, act = g @ block.W_out.T, ACTIVATIONS[activation]
    linear = (x @ block.W_in + block.b_in).detach()
    if gated:
        gate = (x @ block.W_gate).detach()
        to_gate = into_hidden * linear * act(gate) / gate / 2
        expected = to_gate @ block.W_gate.T + (into_hidden * act(gate) / 2) @ block.W_in.T
    else:
        expected = (into_hidden * act(linear) / linear) @ block.W_in.T
    assert_close(found, expected, rtol=1e-4, atol=1e-6)  # the ratio is taken 1e-6 beside x


def test_the_identity_rule_has_a_value_at_zero():
    model = small_model()
    block = model.blocks[0]
    block.b_in.data.zero_()
    x = torch.zeros(2, 12, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(Rules(activation_ratio=True).mlp(block, x).sum(), x)
    assert_close(found, (0.5 * block.W_out.sum(1)) @ block.W_in.T * torch.ones_like(x), rtol=1e-4, atol=1e-6)


def test_the_softmax_derivative_at_another_temperature():
    model = small_model()
    block = model.blocks[0]
    q, k, v = (torch.randn(2, 2, 5, 6, dtype=torch.float64, requires_grad=True) for _ in range(3))
    g = torch.randn(2, 2, 5, 6, dtype=torch.float64)
    rules = Rules(softmax_temperature=2.0, query_share=0.25, key_share=0.25, value_share=0.5)
    found = torch.autograd.grad(rules.attend(block, q, k, v), (q, k, v), g)
    scores = block.scores(q, k).detach()
    into_pattern = g @ v.detach().transpose(-1, -2)
    cool = (scores / 2).softmax(-1)
    into_scores = cool * (into_pattern - (cool * into_pattern).sum(-1, keepdim=True)) * model.config.scale
    assert_close(found[0], 0.25 * into_scores @ k.detach(), **CLOSE)
    assert_close(found[1], 0.25 * into_scores.transpose(-1, -2) @ q.detach(), **CLOSE)
    assert_close(found[2], 0.5 * scores.softmax(-1).transpose(-1, -2) @ g, **CLOSE)


def test_a_frozen_pattern_leaves_queries_and_keys_nothing():
    model = small_model()
    block = model.blocks[0]
    q, k, v = (torch.randn(2, 2, 5, 6, dtype=torch.float64, requires_grad=True) for _ in range(3))
    out = Rules(freeze_attention=True).attend(block, q, k, v)
    found = torch.autograd.grad(out.sum(), (q, k, v), allow_unused=True)
    assert found[0] is None and found[1] is None
    plain = torch.autograd.grad(block.attend(q, k, v).sum(), v)[0]
    assert_close(found[2], plain, **CLOSE)


@pytest.mark.parametrize("rules", [EXACT, *RULES.values()], ids=["exact", *RULES])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_reader_s_gradient_goes_through_its_norm_by_the_same_rules(rules, architecture):
    model, data = small_model(**ARCHITECTURES[architecture]), small_data()
    inputs = model.input_nodes(data.clean)
    found = gradients(model, inputs, loss, rules=rules)
    difference = torch.randn(len(model.graph.writers), *inputs.shape[1:], dtype=torch.float64)
    scores = contract(model, found, difference)
    for layer, (block, parts) in enumerate(zip(model.blocks, found.layers, strict=True)):
        readers = model.graph.qkv(layer)
        for index, name in enumerate("qkv"):
            for head in range(model.config.n_heads):
                x = found.taps[layer]["residual"].clone().requires_grad_()
                its = block.qkv(rules.norm(block.norm_attention, x))[index][:, head]
                (gradient,) = torch.autograd.grad(its, x, parts[name][:, head])
                seen = model.graph.visible(layer)
                expected = (difference[:seen] * gradient).sum((1, 2, 3))
                assert_close(scores[:seen, readers.start + index * model.config.n_heads + head], expected, **CLOSE)


def test_by_example_and_by_writers_are_parts_of_the_whole():
    model, data = small_model(), small_data()
    inputs = model.input_nodes(data.clean)
    found = gradients(model, inputs, loss)
    difference = torch.randn(len(model.graph.writers), *inputs.shape[1:], dtype=torch.float64)
    whole = contract(model, found, difference)
    assert_close(contract(model, found, difference, by_example=True).sum(0), whole, **CLOSE)
    for writers in (slice(0, 1), model.graph.heads(1), slice(-1, None)):
        expected = torch.zeros_like(whole)
        expected[writers] = whole[writers]
        assert_close(contract(model, found, difference, writers=writers), expected, **CLOSE)


@pytest.mark.parametrize("together", [1, 7, 14, 21])
def test_scores_do_not_depend_on_how_many_readers_share_a_product(together, monkeypatch):
    model, data = small_model(), small_data()
    inputs = model.input_nodes(data.clean)
    found = gradients(model, inputs, loss)
    difference = torch.randn(len(model.graph.writers), *inputs.shape[1:], dtype=torch.float64)
    choices = [
        {"writers": writers, "by_example": by_example}
        for writers in (slice(None), slice(1, 4), model.graph.heads(1))
        for by_example in (False, True)
    ]
    assert len(model.graph.readers) > 14  # so that several products are needed
    all_at_once = [contract(model, found, difference, **choice) for choice in choices]
    monkeypatch.setattr(capture, "_TOGETHER", together)
    for expected, choice in zip(all_at_once, choices, strict=True):
        assert_close(contract(model, found, difference, **choice), expected, **CLOSE)


def test_frozen_norms_behind_attention_and_mlp_have_a_constant_scale():
    model = small_model(**ARCHITECTURES["gemma-2"])
    block, rules, generator = model.blocks[1], Rules(freeze_norm=True), torch.Generator().manual_seed(3)

    def random(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def scale(x):
        return (x.square().mean(-1, keepdim=True) + model.config.norm_eps).rsqrt().detach()

    z, weights = random(4, 2, 5, 6).requires_grad_(), random(4, 2, 5, 6)
    found = rules.shares(block, z)
    assert_close(found, block.shares(z), **CLOSE)
    (gradient,) = torch.autograd.grad((found * weights).sum(), z)
    assert_close(gradient, weights * scale(sum(z[h] @ block.W_O[6 * h : 6 * h + 6] for h in range(4))), **CLOSE)

    x, weights = random(2, 5, 12).requires_grad_(), random(2, 5, 12)
    found = rules.mlp(block, x)
    assert_close(found, block.mlp(x), **CLOSE)
    (gradient,) = torch.autograd.grad((found * weights).sum(), x)
    hidden = ACTIVATIONS["gelu_tanh"](x @ block.W_gate) * (x @ block.W_in + block.b_in)
    out = hidden @ block.W_out + block.b_out
    (expected,) = torch.autograd.grad((out * scale(out) * block.norm_after_mlp.weight * weights).sum(), x)
    assert_close(gradient, expected, **CLOSE)
