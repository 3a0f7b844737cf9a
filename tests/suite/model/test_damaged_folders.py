"""Model folders with something wrong in them: one line that names the file and the weight, before weights are read."""

from __future__ import annotations

import json
import shutil
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from circuitmeter.suite.errors import ModelError
from circuitmeter.suite.model.load.by_name import load_model, load_tokenizer

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("gpt2")
    config = GPT2Config(n_layer=2, n_head=2, n_embd=16, n_positions=8, vocab_size=30, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(gpt2, tmp_path):
    return shutil.copytree(gpt2, tmp_path / "m")


def config(folder, **changes):
    (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()) | changes))


def weights(folder, **changes):
    state = load_file(folder / WEIGHTS)
    for name, change in changes.items():
        key = next(key for key in state if key.endswith(name.replace("__", ".")))
        state[key] = change(state[key])
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})


def write(folder, name, content):
    (folder / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def index(folder, content):
    (folder / WEIGHTS).unlink()
    write(folder, INDEX, content)


def nan(weight):
    weight[..., 0] = float("nan")
    return weight


def header(folder, entry):
    text = json.dumps({"transformer.wte.weight": entry}).encode()
    write(folder, WEIGHTS, struct.pack("<Q", len(text)) + text + bytes(64))


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 548105171\n"
TENSOR = {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}
DAMAGES = {
    "a Git LFS pointer": (lambda f: write(f, WEIGHTS, POINTER), f"{WEIGHTS} is a Git LFS pointer.*git lfs pull"),
    "a pointer in a shard": (
        lambda f: (index(f, {"weight_map": {"a": "a.safetensors"}}), write(f, "a.safetensors", POINTER)),
        "a.safetensors is a Git LFS pointer",
    ),
    "a config that is a pointer": (lambda f: write(f, "config.json", POINTER), "config.json is a Git LFS pointer"),
    "an index that is no JSON": (lambda f: index(f, b"{not json"), f"{INDEX} is not JSON"),
    "an index that is a list": (lambda f: index(f, []), f"{INDEX}: it is .* JSON object"),
    "an index without a map": (lambda f: index(f, {"metadata": {}}), f"{INDEX}: weight_map is missing"),
    "an index with an empty map": (lambda f: index(f, {"weight_map": {}}), f"{INDEX}: weight_map"),
    "an index of numbers": (lambda f: index(f, {"weight_map": {"a": 1}}), f"{INDEX}: weight_map.a is 1"),
    "an index that leads elsewhere": (
        lambda f: index(f, {"weight_map": {"a": "../../etc/x.safetensors"}}),
        "no safetensors file of the folder",
    ),
    "a shard that is missing": (lambda f: index(f, {"weight_map": {"a": "b.safetensors"}}), "b.safetensors is missing"),
    "an adapter": (
        lambda f: ((f / "config.json").unlink(), write(f, "adapter_config.json", {"peft_type": "LORA"})),
        r"holds an adapter \(LoRA\).*give that model with --model and this folder with --adapter",
    ),
    "a resized vocabulary": (
        lambda f: config(f, vocab_size=40),
        r"transformer.wte.weight is \[30, 16\], config.json asks for \[40, 16\]",
    ),
    "NaN in a weight": (lambda f: weights(f, h__0__mlp__c_fc__weight=nan), r"h\.0\.mlp\.c_fc\.weight\) are not finite"),
    "NaN in the embedding of a token": (lambda f: weights(f, wte__weight=nan), r"wte\.weight\) are not finite"),
    "integer weights": (
        lambda f: weights(f, h__1__mlp__c_fc__weight=lambda weight: weight.to(torch.int8)),
        "h.1.mlp.c_fc.weight is of type I8.*quantised",
    ),
    "no weights at all": (lambda f: write(f, WEIGHTS, b""), "no safetensors file, or was cut off"),
    "a header without end": (lambda f: write(f, WEIGHTS, b"\xff" * 64), "no safetensors file, or was cut off"),
    "a header that is a list": (lambda f: write(f, WEIGHTS, struct.pack("<Q", 2) + b"[]"), "its header is"),
    "a header that is no JSON": (lambda f: write(f, WEIGHTS, struct.pack("<Q", 2) + b"{{"), "is not JSON"),
    "a tensor without offsets": (lambda f: header(f, {"dtype": "F32", "shape": [1]}), "data_offsets is missing"),
    "a tensor of negative size": (lambda f: header(f, TENSOR | {"shape": [-1, 4]}), "shape.0 is -1"),
    "a tensor beyond the file": (lambda f: header(f, TENSOR | {"data_offsets": [0, 640]}), "ends beyond the file"),
    "another model's weights": (lambda f: header(f, TENSOR), "config.json asks for"),
    "a config that is a list": (lambda f: write(f, "config.json", []), "is .. and no JSON object"),
    "a config without a type": (lambda f: config(f, model_type=None), "type None cannot be converted; .*gpt2"),
    "a config of another type": (lambda f: config(f, model_type=["gpt2"]), "cannot be converted; .*gpt2"),
    "a vocabulary of 10^12": (lambda f: config(f, vocab_size=10**12), r"vocab_size = 1,000,000,000,000"),
    "10^9 layers": (lambda f: config(f, n_layer=10**9), "n_layer = 1,000,000,000"),
    "10^9 positions": (lambda f: config(f, n_positions=10**9), "n_positions = 1,000,000,000"),
    "a negative width": (lambda f: config(f, n_embd=-16), "n_embd = -16"),
    "no heads": (lambda f: config(f, n_head=0), "n_head = 0"),
    "heads as text": (lambda f: config(f, n_head="two"), "cannot be read"),
    "a nested config": (lambda f: write(f, "config.json", b"[" * 100_000), "more than 50 deep"),
    "code of its own": (lambda f: config(f, model_type="mine", auto_map={"AutoConfig": "x.C"}), "cannot be converted"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_one_line(damage, folder):
    change, reason = DAMAGES[damage]
    change(folder)
    with pytest.raises(ModelError, match=reason) as error:
        load_model(folder, device="cpu")
    assert "\n" not in str(error.value) and len(str(error.value)) < 700


def tokenizer(folder, **settings):
    backend = Tokenizer(models.WordLevel({"<u>": 0, "a": 1}, "<u>"))
    PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<u>").save_pretrained(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text()) | settings
    write(folder, "tokenizer_config.json", config)


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: tokenizer(f, model_max_length="a"),  # which is found out when it is used
        lambda f: write(f, "tokenizer.json", POINTER),
        lambda f: write(f, "tokenizer.json", b"[" * 100_000),
        lambda f: write(f, "tokenizer.json", {"model": {"type": "BPE", "vocab": {"a": -1}, "merges": ["a"]}}),
        lambda f: write(f, "tokenizer.json", "{}".encode("utf-16")),
        lambda f: write(f, "tokenizer_config.json", []),
    ],
)
def test_a_damaged_tokenizer_is_one_line(damage, folder):
    tokenizer(folder)
    assert load_tokenizer(folder)("a") == [1]
    damage(folder)
    refused = r"the tokenizer in .* (cannot be read|nested too deeply)|tokenizer.json is a Git LFS pointer"
    with pytest.raises(ModelError, match=refused) as error:
        load_tokenizer(folder)
    assert "\n" not in str(error.value)


def test_a_whole_folder_is_read(folder):
    assert load_model(folder, device="cpu").config.d_vocab == 30


def test_masks_that_are_no_weights_are_passed_over(folder):
    """Old checkpoints of GPT-2 hold the causal mask, as bytes."""
    state = load_file(folder / WEIGHTS) | {"transformer.h.0.attn.bias": torch.ones(1, 1, 8, 8, dtype=torch.uint8)}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    assert load_model(folder, device="cpu").config.n_layers == 2
