"""Certified models in other tools' formats: the same logits, read back here and by transformers itself."""

import json
from dataclasses import fields

import pytest
import torch
from oracles import ARCHITECTURES, small_model
from safetensors.torch import load_file
from torch.testing import assert_close

from circuitmeter import ground_truth
from circuitmeter.suite.errors import ModelError
from circuitmeter.suite.interchange.export import WRITERS, export, to_gpt2, to_transformer_lens
from circuitmeter.suite.model.block import Config
from circuitmeter.suite.model.convert import from_huggingface
from circuitmeter.suite.model.load.by_name import load_model
from circuitmeter.suite.plan.subject import subject

PROGRAMS = ("reverse", "xproportion", "hist", "sort", "majority_a", "pair_balance")
CAUSAL = (
    "gates/or",
    "gates/position",
    "tracr/identity",
    "tracr/seen_a",
    "tracr/pair_balance",
    "tracr/induction",
    "trained/shift1",
    "trained/seen_a-norm",
)
ROTARY = {"positions": "rotary", "rotary_dims": 4}
# For each field of Config another value than the small model's, and what it needs beside it.
CHANGES = {
    "n_layers": {"n_layers": 3},
    "n_heads": {"n_heads": 3, "d_head": 4},
    "d_model": {"d_model": 14, "d_head": 7},
    "d_head": {"d_head": 3},
    "d_mlp": {"d_mlp": 0},
    "d_vocab": {"d_vocab": 13},
    "d_out": {"d_out": 3},
    "n_positions": {"n_positions": 6},
    "n_kv_heads": {"n_kv_heads": 1},
    "norm": {"norm": "none"},
    "norm_eps": {"norm_eps": 0.1},
    "activation": {"activation": "identity"},
    "gated": {"gated": True},
    "parallel": {"parallel": True},
    "causal": {"causal": False},
    "positions": {"positions": "none"},
    "rotary_dims": ROTARY,
    "rotary_base": {**ROTARY, "rotary_base": 10.0},
    "attention_scale": {"attention_scale": 2.0},
    "unembed_bias": {"unembed_bias": True},
    "rotary_frequencies": {**ROTARY, "rotary_frequencies": (1.0, 0.3)},
    "rotary_scale": {**ROTARY, "rotary_scale": 1.1},
    "score_cap": {"score_cap": 0.5},
    "logit_cap": {"logit_cap": 0.5},
    "post_norms": {"norm": "rms", "post_norms": True},
    "windows": {"windows": (2, None)},
    "layer_frequencies": {**ROTARY, "layer_frequencies": ((1.0, 0.3), (0.5, 0.1))},
    "qk_norms": {"qk_norms": True},
    "joint_qk_norms": {"qk_norms": True, "joint_qk_norms": True},
    "pre_norms": {"pre_norms": False},
}


def tokens_of(model):
    generator, config = torch.Generator().manual_seed(0), model.config
    return torch.randint(0, config.d_vocab, (4, min(5, config.n_positions)), generator=generator)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_compiled_model_comes_back_from_transformer_lens_s_format(program, tmp_path):
    model = ground_truth.load(f"tracr/{program}@fixed").model("cpu", torch.float64)
    export(model, tmp_path, "transformer-lens")
    back = load_model(tmp_path, device="cpu", dtype=torch.float64, inputs="split")
    assert_close(back(tokens_of(model)), model(tokens_of(model)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("architecture", ["gpt2", "one head", "attention only", "parallel blocks"])
def test_random_models_come_back_from_transformer_lens_s_format(architecture, tmp_path):
    model = small_model(**ARCHITECTURES[architecture])
    export(model, tmp_path, "transformer-lens")
    back = load_model(tmp_path, device="cpu", dtype=torch.float64)
    assert_close(back(tokens_of(model)), model(tokens_of(model)), rtol=1e-12, atol=1e-12)


def test_a_random_gpt2_is_a_gpt2_of_transformers_and_comes_back(tmp_path):
    model = small_model(n_layers=2)  # heads as wide as GPT-2 has them
    export(model, tmp_path, "huggingface")
    assert_close(of_transformers(tmp_path, model), model(tokens_of(model)), rtol=1e-9, atol=1e-9)
    back = load_model(tmp_path, device="cpu", dtype=torch.float64)
    assert_close(back(tokens_of(model)), model(tokens_of(model)))
    for layer, block in enumerate(model.blocks):
        assert_close(back.blocks[layer].W_QKV, block.W_QKV, rtol=0, atol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": "none", "activation": "relu"},
        {"norm": "none", "n_heads": 3, "d_head": 2, "d_out": 3},  # 24 wide: three heads of 8
        {"norm": "none", "n_heads": 5, "d_head": 7, "attention_scale": 1.0, "d_out": 20},  # 35 wide
        {"n_heads": 3, "d_head": 2, "d_out": 4},
        {"d_head": 3, "attention_scale": 0.8, "d_vocab": 5},
    ],
    ids=str,
)
def test_models_without_norm_with_narrow_heads_and_other_outputs_are_gpt2s(changes, tmp_path):
    model = small_model(**changes)
    export(model, tmp_path, "huggingface")
    theirs = of_transformers(tmp_path, model)
    assert_close(theirs[..., : model.config.d_out], model(tokens_of(model)), rtol=1e-9, atol=1e-9)
    assert not theirs[..., model.config.d_out :].any()


@pytest.mark.parametrize("truth", CAUSAL)
def test_certified_models_are_gpt2s_of_transformers(truth, tmp_path):
    on = subject(truth, None)
    export(on.model, tmp_path, "huggingface")
    tokens = torch.cat([batch.clean for batch in on.data.batches(256)])
    with torch.no_grad():
        ours = on.model(tokens)
        theirs = of_transformers(tmp_path, on.model, tokens)
    assert theirs.dtype == ours.dtype == torch.float32
    assert_close(theirs[..., : on.model.config.d_out], ours, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("truth", [*(f"tracr/{program}" for program in PROGRAMS), *CAUSAL])
def test_certified_models_are_transformer_lens_s(truth, tmp_path):
    """Where TransformerLens before version 4 is installed, which has HookedTransformer."""
    lens = pytest.importorskip("transformer_lens", reason="TransformerLens is not installed here")
    if not hasattr_of(lens, "HookedTransformer"):
        pytest.skip("TransformerLens 4 has no HookedTransformer")
    on = subject(truth, None)
    export(on.model, tmp_path, "transformer-lens")
    made = lens.HookedTransformer(lens.HookedTransformerConfig(**json.loads((tmp_path / "config.json").read_text())))
    made.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=False)
    tokens = torch.cat([batch.clean for batch in on.data.batches(256)])
    with torch.no_grad():
        assert_close(made.eval()(tokens), on.model(tokens), rtol=0, atol=1e-5)


def hasattr_of(lens, name):
    """Whether the package has a name; version 4 raises an ImportError for those that it has no longer."""
    try:
        return hasattr(lens, name)
    except ImportError:
        return False


def of_transformers(folder, model, tokens=None):
    """The logits of a folder as transformers reads it."""
    from transformers import GPT2LMHeadModel

    theirs = GPT2LMHeadModel.from_pretrained(folder, dtype=model.embed.dtype).eval()
    with torch.no_grad():
        return theirs(tokens_of(model) if tokens is None else tokens).logits


@pytest.mark.parametrize("to", WRITERS)
@pytest.mark.parametrize("field", [field.name for field in fields(Config)])
def test_each_field_of_a_configuration_is_written_or_refused(field, to, tmp_path):
    model = small_model(**{"n_layers": 2, **CHANGES[field]})
    assert getattr(model.config, field) != getattr(small_model(n_layers=2).config, field)
    try:
        export(model, tmp_path, to)
    except ModelError:
        return
    back = load_model(tmp_path, device="cpu", dtype=torch.float64)
    logits = model(tokens_of(model))
    assert_close(back(tokens_of(model))[..., : logits.shape[-1]], logits, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("to", WRITERS)
def test_a_gpt_neo_is_written_without_windows_alone(to, tmp_path):
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    given = dict(num_layers=2, num_heads=2, hidden_size=16, vocab_size=20, max_position_embeddings=8)
    given |= {"attention_types": [[["global", "local"], 1]], "bos_token_id": None, "eos_token_id": None}
    narrow, wide = (
        from_huggingface(GPTNeoForCausalLM(GPTNeoConfig(**given, window_size=size)).double()) for size in (3, 8)
    )
    with pytest.raises(ModelError, match="windows of attention"):
        export(narrow, tmp_path, to)
    assert wide.config.windows is None
    longest = small_model().config.n_positions
    for model in (wide, small_model(n_layers=2, windows=(longest, None))):
        export(model, tmp_path, to)
        back = load_model(tmp_path, device="cpu", dtype=torch.float64)
        logits = model(tokens_of(model))
        assert_close(back(tokens_of(model))[..., : logits.shape[-1]], logits, rtol=1e-9, atol=1e-9)


def test_what_a_format_does_not_have_is_one_line(tmp_path):
    for architecture, write, what in (
        ("llama", to_transformer_lens, "norm 'rms'"),
        ("attention only", to_gpt2, "no MLP"),
        ("no layer norm, ReLU, bidirectional", to_gpt2, "attention that looks ahead"),
        ("parallel blocks", to_gpt2, "parallel blocks"),
    ):
        with pytest.raises(ModelError, match=what):
            write(small_model(**ARCHITECTURES[architecture]))
    with pytest.raises(ModelError, match="heads that do not fit into its stream"):
        to_gpt2(small_model(n_heads=3, d_head=7))
    with pytest.raises(ModelError, match="transformer-lens or huggingface"):
        export(small_model(), tmp_path, "onnx")
