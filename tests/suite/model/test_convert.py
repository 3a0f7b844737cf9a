"""GPT-2 from Hugging Face: logits equal to the source's, whatever the configuration."""

import pytest
import torch
from torch.testing import assert_close
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from circuitmeter.suite.errors import ModelError
from circuitmeter.suite.model.convert import from_huggingface

TINY = dict(n_layer=2, n_head=2, n_embd=16, vocab_size=50, n_positions=12)


def source(**changes):
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**{**TINY, **changes})).eval()
    for weight in model.parameters():  # away from the tiny initial values, biases included
        weight.data.normal_(std=0.3)
    return model


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_head": 1, "n_layer": 1},
        {"activation_function": "relu", "n_inner": 24},
        {"activation_function": "gelu", "layer_norm_epsilon": 1e-3},
        {"scale_attn_weights": False, "tie_word_embeddings": False},
    ],
)
@torch.no_grad()
def test_logits_equal_the_source(changes):
    theirs = source(**changes)
    tokens = torch.randint(0, 50, (3, 9), generator=torch.Generator().manual_seed(1))
    assert_close(from_huggingface(theirs)(tokens), theirs(tokens).logits, rtol=1e-5, atol=1e-5)
    theirs = theirs.double()
    ours = from_huggingface(theirs, inputs="split")
    assert_close(ours(tokens), theirs(tokens).logits, rtol=1e-10, atol=1e-10)
    assert ours.graph.inputs == "split" and ours.dtype == torch.float64


def test_the_converted_model_is_a_copy():
    theirs = source()
    ours = from_huggingface(theirs)
    before = ours.weights_hash
    theirs.transformer.wte.weight.data.zero_()
    assert from_huggingface(theirs).weights_hash != before
    assert ours.embed.abs().max() > 0
    assert not any(weight.requires_grad for weight in ours.parameters())


@pytest.mark.parametrize("changes", [{"activation_function": "tanh"}, {"scale_attn_by_inverse_layer_idx": True}])
def test_what_cannot_be_converted_is_refused(changes):
    with pytest.raises(ModelError, match="cannot be converted"):
        from_huggingface(source(**changes))


def test_an_unknown_architecture_is_refused_by_name():
    tiny = LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)
    with pytest.raises(ModelError, match="'llama'.*gpt2 can"):
        from_huggingface(LlamaForCausalLM(tiny))
