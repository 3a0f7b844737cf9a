"""Models of other libraries: logits equal to the source's, whatever the configuration, or a refusal."""

import math
import re
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import transformers
from oracles import Wide
from torch.testing import assert_close

from circuitmeter.suite.errors import DataError, ModelError
from circuitmeter.suite.model.capture import contract, gradients
from circuitmeter.suite.model.convert import CONVERTERS, check_logits, from_huggingface

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
LINEAR = {"rope_type": "linear", "factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
# One factor for each pair of rotated dimensions of PHI3.
LONGROPE = {"rope_type": "longrope", "short_factor": [1.0, 1.5], "long_factor": [1.0, 4.0]}
SMALL = dict(
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=50,
    max_position_embeddings=64,
)
GPT2 = dict(n_layer=2, n_head=2, n_embd=16, vocab_size=50, n_positions=32)
NEOX = {**SMALL, "max_position_embeddings": 32, "rotary_pct": 0.5}
del NEOX["num_key_value_heads"]
GEMMA = {**SMALL, "head_dim": 8, "query_pre_attn_scalar": 5, "attn_logit_softcapping": 2.0}
GEMMA |= {"final_logit_softcapping": 3.0, "pad_token_id": None}

GEMMA3 = {**SMALL, "head_dim": 8, "query_pre_attn_scalar": 5, "pad_token_id": None, "sliding_window": 6}
GEMMA3 |= {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
PHI3 = {**SMALL, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
GPTJ = dict(n_layer=2, n_head=2, n_embd=16, vocab_size=50, n_positions=32, rotary_dim=4)
NEO = dict(num_layers=2, num_heads=2, hidden_size=16, vocab_size=50, max_position_embeddings=32, window_size=5)
NEO |= {"attention_types": [[["global", "local"], 1]], "bos_token_id": None, "eos_token_id": None}

OLMO2 = {**SMALL, "pad_token_id": None, "eos_token_id": None}

# name: (configuration class, options)
SOURCES = {
    "gpt2": ("GPT2", GPT2),
    "gpt2, one head, one layer": ("GPT2", {**GPT2, "n_head": 1, "n_layer": 1}),
    "gpt2, relu, its own width": ("GPT2", {**GPT2, "activation_function": "relu", "n_inner": 24}),
    "gpt2, gelu": ("GPT2", {**GPT2, "activation_function": "gelu", "layer_norm_epsilon": 1e-3}),
    "gpt2, unscaled, untied": ("GPT2", {**GPT2, "scale_attn_weights": False, "tie_word_embeddings": False}),
    "pythia": ("GPTNeoX", NEOX),
    "gpt-neox, sequential, no biases": ("GPTNeoX", {**NEOX, "use_parallel_residual": False, "attention_bias": False}),
    "pythia, tied, scaled": (
        "GPTNeoX",
        {**NEOX, "tie_word_embeddings": True, "rope_scaling": LINEAR},
    ),
    "llama 1": ("Llama", {**SMALL, "num_key_value_heads": 4}),
    "llama 2, grouped, tied": ("Llama", {**SMALL, "tie_word_embeddings": True}),
    "llama 3": ("Llama", {**SMALL, "rope_theta": 500000.0, "rope_scaling": LLAMA3, "head_dim": 12}),
    "llama, linear": ("Llama", {**SMALL, "rope_scaling": LINEAR}),
    "llama, yarn": ("Llama", {**SMALL, "rope_scaling": YARN}),
    "llama, biases": ("Llama", {**SMALL, "attention_bias": True, "hidden_act": "gelu"}),
    "mistral": ("Mistral", {**SMALL, "sliding_window": None}),
    "mistral, windows": ("Mistral", {**SMALL, "sliding_window": 20}),
    "qwen-3": ("Qwen3", {**SMALL, "head_dim": 6}),
    "qwen-3, windows, biases, tied": (
        "Qwen3",
        {
            **SMALL,
            "use_sliding_window": True,
            "sliding_window": 7,
            "max_window_layers": 1,
            "attention_bias": True,
            "tie_word_embeddings": True,
        },
    ),
    "qwen-3, llama3": ("Qwen3", {**SMALL, "rope_scaling": LLAMA3, "rope_theta": 500000.0, "hidden_act": "gelu"}),
    "qwen-3, linear": ("Qwen3", {**SMALL, "rope_scaling": LINEAR, "num_key_value_heads": 1, "rms_norm_eps": 1e-2}),
    "qwen-3, yarn": ("Qwen3", {**SMALL, "rope_scaling": YARN, "num_key_value_heads": 4}),
    "phi-3": ("Phi3", PHI3),
    "phi-3, rotated in part": ("Phi3", {**PHI3, "head_dim": 8, "partial_rotary_factor": 0.5}),
    "phi-3, ungrouped, gelu": (
        "Phi3",
        {**PHI3, "num_key_value_heads": 4, "hidden_act": "gelu", "rms_norm_eps": 1e-2, "rope_theta": 500.0},
    ),
    "phi-3, windows, tied": ("Phi3", {**PHI3, "sliding_window": 9, "tie_word_embeddings": True}),
    "olmo-2": ("Olmo2", OLMO2),
    "olmo-2, ungrouped, tied, gelu": (
        "Olmo2",
        {**OLMO2, "num_key_value_heads": 4, "tie_word_embeddings": True, "hidden_act": "gelu", "rms_norm_eps": 1e-2},
    ),
    "olmo-2, one key, linear": ("Olmo2", {**OLMO2, "num_key_value_heads": 1, "rope_scaling": LINEAR}),
    "olmo-2, llama3": ("Olmo2", {**OLMO2, "rope_scaling": LLAMA3, "rope_theta": 500000.0}),
    "olmo-2, yarn": ("Olmo2", {**OLMO2, "rope_scaling": YARN}),
    "gemma-3": ("Gemma3Text", GEMMA3),
    "gemma-3, capped, untied": (
        "Gemma3Text",
        {
            **GEMMA3,
            "final_logit_softcapping": 3.0,
            "tie_word_embeddings": False,
            "head_dim": 6,
            "query_pre_attn_scalar": 9,
            "hidden_activation": "gelu",
        },
    ),
    "gemma-3, full": ("Gemma3Text", {**GEMMA3, "layer_types": ["full_attention"] * 3, "num_key_value_heads": 1}),
    "gemma-3, windows alone": ("Gemma3Text", {**GEMMA3, "layer_types": ["sliding_attention"] * 3, "sliding_window": 4}),
    "gemma-3, two rotations, linear": (
        "Gemma3Text",
        {**GEMMA3, "rope_scaling": LINEAR, "rope_theta": 500000.0, "rope_local_base_freq": 100.0, "rms_norm_eps": 1e-2},
    ),
    "gpt-j": ("GPTJ", GPTJ),
    "gpt-j, tied, relu": (
        "GPTJ",
        {**GPTJ, "tie_word_embeddings": True, "activation_function": "relu", "layer_norm_epsilon": 1e-2},
    ),
    "gpt-j, rotated whole, its own width": ("GPTJ", {**GPTJ, "rotary_dim": 8, "n_inner": 24}),
    "gpt-neo": ("GPTNeo", NEO),
    "gpt-neo, its own width": ("GPTNeo", {**NEO, "intermediate_size": 24, "activation_function": "relu"}),
    "gpt-neo, untied": ("GPTNeo", {**NEO, "tie_word_embeddings": False, "layer_norm_epsilon": 1e-2}),
    "gpt-neo, global": ("GPTNeo", {**NEO, "attention_types": [[["global"], 2]]}),
    "gpt-neo, local": ("GPTNeo", {**NEO, "attention_types": [[["local"], 2]]}),
    "gpt-neo, a window of all": ("GPTNeo", {**NEO, "window_size": 32}),
    "qwen-2.5": ("Qwen2", {**SMALL, "tie_word_embeddings": True}),
    "gemma-2": ("Gemma2", GEMMA),
    "gemma-2, windows, untied": ("Gemma2", {**GEMMA, "sliding_window": 16, "tie_word_embeddings": False}),
    "gemma-2, no caps": ("Gemma2", {**GEMMA, "attn_logit_softcapping": None, "final_logit_softcapping": None}),
}


def source(name, **changes):
    kind, options = SOURCES[name]
    config = getattr(transformers, f"{kind}Config")(**deepcopy({**options, **changes}))  # which changes its arguments
    torch.manual_seed(0)
    # The plain attention: the fused ones of older versions leave out what they have no argument for (caps, scales).
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for weight in model.parameters():  # away from the small initial values; biases and gains included
        weight.data.normal_(std=0.3)
    return model


def prompts(length, n=3):
    return torch.randint(0, 50, (n, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", SOURCES)
@torch.no_grad()
def test_logits_equal_the_source_in_float64(name):
    with Wide():
        theirs = source(name).double()
        ours = from_huggingface(theirs, inputs="split")
        tokens = prompts(min(24, ours.config.n_positions))
        assert_close(ours(tokens), theirs(tokens).logits, rtol=1e-10, atol=1e-10)
    assert ours.graph.inputs == "split" and ours.dtype == torch.float64
    assert ours(tokens).std() > 0.1


@pytest.mark.parametrize("name", ["gpt2", "pythia", "llama 3", "qwen-2.5", "gemma-2"])
@torch.no_grad()
def test_logits_equal_the_source_in_float32_and_come_near_it_in_half(name):
    theirs = source(name)
    tokens = prompts(16)
    assert_close(from_huggingface(theirs)(tokens), theirs(tokens).logits, rtol=1e-4, atol=1e-4)
    assert check_logits(from_huggingface(theirs), theirs) < 1e-4
    for dtype, near in ((torch.bfloat16, 0.15), (torch.float16, 0.02)):
        half = source(name).to(dtype)
        ours = from_huggingface(half)
        assert ours.dtype == dtype and ours(tokens).dtype == dtype
        assert check_logits(ours, half) < near


def test_every_architecture_is_tested():
    kinds = {getattr(transformers, f"{kind}Config").model_type for kind, _ in SOURCES.values()}
    assert kinds == set(CONVERTERS)


def test_the_converted_model_is_a_copy_unless_it_is_told_to_share():
    theirs = source("llama 2, grouped, tied")
    ours, sharing = from_huggingface(theirs), from_huggingface(theirs, copy=False)
    assert ours.weights_hash == sharing.weights_hash
    assert sharing.embed.data_ptr() == sharing.unembed.data_ptr() == theirs.model.embed_tokens.weight.data_ptr()
    before = ours.weights_hash
    theirs.model.embed_tokens.weight.data.zero_()
    assert ours.embed.abs().max() > 0 and sharing.embed.abs().max() == 0
    assert from_huggingface(theirs).weights_hash != before
    assert not any(weight.requires_grad for weight in [*ours.parameters(), *sharing.parameters()])


def test_models_that_differ_in_their_rotations_alone_have_different_hashes():
    plain, scaled = (from_huggingface(source("llama, linear", rope_scaling=rope)) for rope in (None, LINEAR))
    assert torch.equal(plain.blocks[0].W_QKV, scaled.blocks[0].W_QKV)
    assert plain.weights_hash != scaled.weights_hash


WINDOWED = (
    "mistral, windows",
    "gemma-2, windows, untied",
    "qwen-3, windows, biases, tied",
    "phi-3, windows, tied",
    "gemma-3",
    "gemma-3, windows alone",
    "gpt-neo",
    "gpt-neo, local",
)


@pytest.mark.parametrize("name", WINDOWED)
@torch.no_grad()
def test_windows_shorter_than_the_prompt_are_computed(name):
    theirs = source(name)
    ours = from_huggingface(theirs)
    window = min(each for each in ours.config.windows if each)
    tokens = prompts(window + 6)
    assert_close(ours(tokens), theirs(tokens).logits, rtol=1e-4, atol=1e-4)
    wide = from_huggingface(theirs)
    for block in wide.blocks:
        block.pattern = replace(block.pattern, window=None)
    assert_close(wide(tokens)[:, :window], ours(tokens)[:, :window], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(wide(tokens)[:, -1], ours(tokens)[:, -1], atol=1e-3), "the window hides something"


@torch.no_grad()
def test_a_prompt_longer_than_the_model_takes_is_refused():
    ours = from_huggingface(source("mistral"))
    with pytest.raises(DataError, match="a prompt has 70 tokens, and the model takes 64"):
        ours(prompts(70))


@pytest.mark.parametrize("name", ["qwen-3", "olmo-2", "gemma-3", "gpt-j", "gpt-neo"])
def test_attribution_is_the_derivative_of_cutting(name):
    """Norms of queries and keys, windows and two kinds of blocks: every edge's score is its mask's gradient."""
    model = from_huggingface(source(name).double())
    tokens, read = prompts(9), torch.zeros(3, 9, dtype=torch.bool)
    read[:, -1] = True
    inputs = model.input_nodes(tokens)
    _, run = model.run(inputs)
    _, other = model.run(model.input_nodes(prompts(9).flip(0)))
    alternative = model.alternative(other, 9)
    mask = torch.ones(1, *model.graph.exists.shape, dtype=torch.float64, requires_grad=True)
    model.run_cut(mask, alternative, inputs=inputs, read=read)[..., 3].sum().backward()
    found = gradients(model, inputs, lambda logits: logits[:, 3].sum(), read)
    scores = contract(model, found, model.difference(other, run))
    exists = model.graph.exists
    assert_close(scores[exists], -mask.grad[0][exists], rtol=1e-6, atol=1e-8)
    assert scores[exists].abs().max() > 0.01


REFUSED = [
    ("gpt2", {"activation_function": "tanh"}, "activation 'tanh'"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True"),
    ("llama 1", {"mlp_bias": True}, "mlp_bias=True"),
    ("llama 1", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "change with the length"),
    ("qwen-2.5", {"num_key_value_heads": 8}, "4 heads and 8 of keys and values"),
    ("gemma-2", {"attention_bias": True}, "attention_bias=True"),
    ("gemma-3", {"attn_logit_softcapping": 2.0}, "attn_logit_softcapping=2.0"),
    ("gemma-3", {"attention_bias": True}, "attention_bias=True"),
    ("gemma-3", {"use_bidirectional_attention": True}, "use_bidirectional_attention=True"),
    ("qwen-3", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "change with the length"),
    ("olmo-2", {"attention_bias": True}, "attention_bias=True"),
    ("olmo-2", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "change with the length"),
    ("phi-3", {"hidden_act": "tanh"}, "activation 'tanh'"),
    ("phi-3", {"rope_scaling": LONGROPE, "original_max_position_embeddings": 16}, "change with the length"),
    ("gpt-j", {"rotary_dim": 0}, "rotary_dim='no'"),
]


@pytest.mark.parametrize("name, changes, reason", REFUSED)
def test_what_cannot_be_converted_is_refused(name, changes, reason):
    with pytest.raises(ModelError, match="cannot be converted") as error:
        from_huggingface(source(name, **changes))
    assert reason in str(error.value)


# Sizes, and what training, generation and caching alone read.
NO_OPTION = re.compile(
    r"_|vocab_size|hidden_size|n_embd|num_(hidden_)?layers|n_layer|num_(attention_)?heads|n_head|intermediate_size"
    r"|n_positions|max_position_embeddings|initializer_range|use_cache|\w+_token_id|\w*dropout|\w+_pdrop"
)


@pytest.mark.parametrize("kind", ["Qwen3", "Olmo2", "Gemma3Text", "Phi3", "GPTJ", "GPTNeo"])
def test_every_option_of_a_family_takes_two_values_or_is_refused(kind):
    tried = [(name, {}) for name, (its, _) in SOURCES.items() if its == kind]
    tried += [(name, changes) for name, changes, _ in REFUSED if SOURCES[name][0] == kind]
    given = [source(name, **changes).config.to_dict() for name, changes in tried]
    common = set(transformers.PretrainedConfig().to_dict()) - {"tie_word_embeddings"}
    options = {name for config in given for name in config if name not in common and not NO_OPTION.match(name)}
    fixed = {name for name in options if len({repr(config.get(name)) for config in given}) == 1}
    assert not fixed


def test_an_unknown_architecture_is_refused_by_name():
    tiny = transformers.BloomConfig(hidden_size=8, n_layer=1, n_head=1, vocab_size=9)
    with pytest.raises(ModelError, match="'bloom'.*gemma2, .*gpt2, .*llama, mistral, .*phi3, qwen3.* can"):
        from_huggingface(transformers.BloomForCausalLM(tiny))


@pytest.mark.parametrize(
    "name, change",
    [
        ("llama 3", {"rotary_frequencies": None, "rotary_base": 500000.0}),
        ("gemma-2", {"score_cap": None}),
        ("gemma-2", {"logit_cap": 2.9}),
        ("pythia", {"parallel": False}),
        ("qwen-2.5", {"norm_eps": 1e-2}),
    ],
)
def test_an_option_that_was_overlooked_is_caught_by_the_comparison_at_loading(name, change):
    from dataclasses import replace

    from circuitmeter.suite.model.transformer import Transformer

    theirs = source(name)
    right = from_huggingface(theirs)
    wrong = Transformer(replace(right.config, **change))
    wrong.load_state_dict(right.state_dict())
    with pytest.raises(ModelError, match="the conversion of this .* is wrong: its logits are"):
        check_logits(wrong, theirs)


def test_nan_is_not_equal():
    theirs = source("gpt2")
    ours = from_huggingface(theirs)
    ours.embed.data[:] = math.nan
    with pytest.raises(ModelError, match="is wrong"):
        check_logits(ours, theirs)
