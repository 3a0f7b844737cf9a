"""Certified models in other tools' formats: the same logits, read back here and by transformers itself."""

import pytest
import torch
from oracles import ARCHITECTURES, small_model
from torch.testing import assert_close

from circuitmeter import ground_truth
from circuitmeter.suite.errors import ModelError
from circuitmeter.suite.interchange.export import export, to_gpt2, to_transformer_lens
from circuitmeter.suite.model.load.by_name import load_model

PROGRAMS = ("reverse", "xproportion", "hist", "sort", "majority_a", "pair_balance")


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


def test_a_trained_model_is_a_gpt2_of_transformers(tmp_path):
    from transformers import GPT2LMHeadModel

    model = small_model(n_layers=2)  # heads as wide as GPT-2 has them
    export(model, tmp_path, "huggingface")
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path, dtype=torch.float64).eval()
    with torch.no_grad():
        assert_close(theirs(tokens_of(model)).logits, model(tokens_of(model)), rtol=1e-9, atol=1e-9)
    assert_close(load_model(tmp_path, device="cpu", dtype=torch.float64)(tokens_of(model)), model(tokens_of(model)))


def test_what_a_format_does_not_have_is_one_line(tmp_path):
    for architecture, write, what in (
        ("llama", to_transformer_lens, "norm 'rms'"),
        ("attention only", to_gpt2, "no MLP"),
        ("no layer norm, ReLU, bidirectional", to_gpt2, "norm 'none'"),
        ("one head", to_gpt2, "not d_model / n_heads wide"),
    ):
        with pytest.raises(ModelError, match=what):
            write(small_model(**ARCHITECTURES[architecture]))
    with pytest.raises(ModelError, match="transformer-lens or huggingface"):
        export(small_model(), tmp_path, "onnx")
