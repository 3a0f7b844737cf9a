"""Two models share a hash exactly when they are one model: every field of the configuration and every byte counts."""

from dataclasses import fields, replace

import pytest
import torch
from oracles import small_model

from circuitmeter.suite.model.block import Config
from circuitmeter.suite.model.content import content_hash
from circuitmeter.suite.model.transformer import Transformer

BASE = Config(2, 4, 16, 4, 32, 10, 10, 8, n_kv_heads=4, norm="rms", positions="rotary", rotary_dims=4)
CHANGED = {
    "n_layers": 3,
    "n_heads": 2,
    "d_model": 8,
    "d_head": 8,
    "d_mlp": 16,
    "d_vocab": 11,
    "d_out": 3,
    "n_positions": 9,
    "n_kv_heads": 2,
    "norm": "layer",
    "norm_eps": 1e-6,
    "activation": "relu",
    "gated": True,
    "parallel": True,
    "causal": False,
    "positions": "learned",
    "rotary_dims": 2,
    "rotary_base": 500.0,
    "attention_scale": 1.0,
    "unembed_bias": True,
    "rotary_frequencies": (1.0, 0.5),
    "rotary_scale": 2.0,
    "score_cap": 50.0,
    "logit_cap": 30.0,
    "post_norms": True,
    "windows": (2, None),
    "layer_frequencies": ((1.0, 0.5), (1.0, 0.25)),
    "qk_norms": True,
    "joint_qk_norms": True,
    "pre_norms": False,
}
NEEDS = {"joint_qk_norms": {"qk_norms": True}}  # what a change has no meaning without


def test_every_field_of_the_configuration_is_in_the_hash():
    # A field that is added to Config fails here until it is changed above, too.
    assert set(CHANGED) == {field.name for field in fields(Config)}
    hashes = {
        name: Transformer(replace(BASE, **{name: value}, **NEEDS.get(name, {}))).weights_hash
        for name, value in CHANGED.items()
    }
    assert len({Transformer(BASE).weights_hash, *hashes.values()}) == len(CHANGED) + 1


def test_every_weight_is_in_the_hash_and_reading_again_sees_a_change():
    model = small_model("token")
    before = model.weights_hash
    for name, weight in model.named_parameters():
        kept = weight.detach().clone()
        weight.data.view(-1)[-1] += 1
        assert content_hash(model) != before, name
        assert model.weights_hash == before  # the remembered one
        weight.data.copy_(kept)
    assert content_hash(model) == before


@pytest.mark.parametrize("name", ["causal", "activation", "norm_eps", "attention_scale"])
def test_models_of_different_outputs_and_equal_weights_are_told_apart(name):
    torch.manual_seed(0)
    one = Transformer(BASE)
    for weight in one.parameters():
        weight.data.normal_()
    other = Transformer(replace(BASE, **{name: CHANGED[name]}))
    other.load_state_dict(one.state_dict())
    tokens = torch.tensor([[1, 2, 3, 4]])
    assert float((one(tokens) - other(tokens)).abs().max()) > 0
    assert one.weights_hash != other.weights_hash
