"""Models by name: Hugging Face folders, ground truths, hub names; and what each thing missing is called."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import socket
from fnmatch import fnmatch
from importlib.resources import as_file, files

import pytest
import torch

from circuitmeter import ground_truth
from circuitmeter.suite.errors import ModelAbsent, ModelError
from circuitmeter.suite.model.load.by_name import is_ground_truth, load_model, load_tokenizer
from circuitmeter.suite.model.load.hub import PINS, Pin


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("gpt2")
    config = GPT2Config(n_layer=2, n_head=2, n_embd=16, n_positions=8, vocab_size=30, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def copy(gpt2, tmp_path):
    return shutil.copytree(gpt2, tmp_path / "copy")


def test_a_folder_gives_the_same_logits(gpt2):
    from transformers import GPT2LMHeadModel

    tokens = torch.arange(14).view(2, 7)
    model = load_model(gpt2, device="cpu", dtype=torch.float64)
    source = GPT2LMHeadModel.from_pretrained(gpt2, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(model(tokens), source(tokens).logits, atol=1e-10)
    assert model.dtype == torch.float64
    assert model.graph.inputs == "token"


@pytest.mark.parametrize("inputs", ["token", "sum", "split"])
def test_input_nodes_can_be_chosen(gpt2, inputs):
    assert load_model(gpt2, device="cpu", inputs=inputs).graph.inputs == inputs


def test_a_sharded_folder(gpt2, tmp_path):
    from transformers import GPT2LMHeadModel

    GPT2LMHeadModel.from_pretrained(gpt2).save_pretrained(tmp_path, max_shard_size="8KB")
    assert not (tmp_path / "model.safetensors").exists()
    assert load_model(tmp_path, device="cpu").weights_hash == load_model(gpt2, device="cpu").weights_hash
    sorted(tmp_path.glob("model-*.safetensors"))[1].unlink()
    with pytest.raises(ModelError, match=r"model-00002-of-\d+.safetensors is missing"):
        load_model(tmp_path, device="cpu")


def test_a_folder_without_weights(copy):
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no weights: model.safetensors is missing"):
        load_model(copy, device="cpu")


def test_a_folder_without_config(copy):
    (copy / "config.json").unlink()
    with pytest.raises(ModelError, match="config.json is missing"):
        load_model(copy, device="cpu")


def test_pickled_weights_are_never_opened(copy):
    """The pickle would write a file if anything loaded it."""
    (copy / "model.safetensors").unlink()
    witness = copy / "opened"
    (copy / "pytorch_model.bin").write_bytes(f"cbuiltins\nopen\n(S'{witness}'\nS'w'\ntR.".encode())
    with pytest.raises(ModelError, match="pytorch_model.bin, a pickle that can run code when opened"):
        load_model(copy, device="cpu")
    assert not witness.exists()


def test_damaged_weights(copy):
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ModelError, match="was cut off|cannot be read"):
        load_model(copy, device="cpu")


def test_missing_weights_are_not_made_up(copy):
    """transformers would fill a weight that the file lacks with random numbers."""
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    del weights["transformer.h.1.mlp.c_fc.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 weights that its config.json asks for are missing, '.*mlp.c_fc.weight'"):
        load_model(copy, device="cpu")


def test_an_architecture_that_cannot_be_cut(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "no-such-architecture"}))
    with pytest.raises(ModelError):
        load_model(copy, device="cpu")


def test_no_such_folder(tmp_path):
    with pytest.raises(ModelError, match="no folder"):
        load_model(tmp_path / "nowhere", device="cpu")


def test_a_ground_truth_and_its_folder_are_the_same_model(tmp_path):
    name = "tracr/reverse@fixed"
    model = load_model(name, device="cpu")
    with as_file(files("circuitmeter.ground_truth.rasp") / "weights" / "reverse") as shipped:
        folder = shutil.copytree(shipped, tmp_path / "reverse")
    assert is_ground_truth(folder) and load_model(folder, device="cpu").weights_hash == model.weights_hash
    assert model.weights_hash == ground_truth.load(name).weights_hash
    assert model.graph.n_edges == 94
    assert is_ground_truth(name) and load_tokenizer(name) is None
    with pytest.raises(ModelError, match="has the input nodes 'split'"):
        load_model(name, device="cpu", inputs="token")


def test_a_misspelt_ground_truth_asks_no_hub(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was asked"))
    with pytest.raises(ModelError, match="no ground truth 'tracr/revers'. Did you mean 'tracr/reverse'"):
        load_model("tracr/revers", device="cpu")


def test_a_hub_name_without_a_hub(monkeypatch, tmp_path):
    import huggingface_hub

    def unreachable(*_, **__):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(ModelError) as error:
        load_model("gpt2", device="cpu")
    message = str(error.value)
    assert "\n" not in message
    for part in ("'gpt2'", "config.json", "model.safetensors", "cannot be reached", "--model PATH"):
        assert part in message
    assert f"`hf download gpt2 --revision {PINS['gpt2'].revision}`" in message


def test_a_slip_in_a_name_is_told_and_a_name_with_an_owner_is_the_hubs(monkeypatch):
    import huggingface_hub

    def unreachable(*_, **__):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    for slip, meant in (("mni", "mini"), ("gpt2-medum", "gpt2-medium"), ("attn-only-4", "attn-only-4l")):
        with pytest.raises(
            ModelAbsent, match=f"no model '{slip}'. Did you mean '{meant}'[?] .*As a name of the hub's: no model"
        ):
            load_model(slip, device="cpu")
    with pytest.raises(
        ModelAbsent, match="no model 'zzyzzx'. There are .*`hf download zzyzzx`"
    ):  # like no name we know
        load_model("zzyzzx", device="cpu")
    for right in ("someone/mni", "gpt2-large", "gpt2@main"):
        with pytest.raises(ModelAbsent) as error:
            load_model(right, device="cpu")
        assert "Did you mean" not in str(error.value)


def test_names_are_pinned_to_a_revision_and_its_weights_are_checked(monkeypatch, copy):
    import huggingface_hub

    asked = []

    def snapshot(name, **options):
        asked.append((name, options["revision"]))
        return str(copy)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(ModelError, match="is not gpt2 at revision 607a30d7.* SHA-256 is .* delete it"):
        load_model("gpt2", device="cpu")
    load_model("gpt2@main", device="cpu")
    load_model("gpt2-medium", device="cpu")
    load_model("someone/else", device="cpu")
    assert asked == [
        ("gpt2", PINS["gpt2"].revision),
        ("gpt2", "main"),
        ("gpt2-medium", PINS["gpt2-medium"].revision),
        ("someone/else", None),
    ]
    found = hashlib.sha256((copy / "model.safetensors").read_bytes()).hexdigest()
    monkeypatch.setitem(PINS, "gpt2", Pin("0" * 40, found))
    assert load_model("gpt2", device="cpu").config.n_layers == 2


def test_every_pin_is_a_whole_commit_and_a_whole_hash():
    for name, pin in PINS.items():
        assert pin.pickled or re.fullmatch("[0-9a-f]{40}", pin.revision), name
        assert pin.sha256 is None or re.fullmatch("[0-9a-f]{64}", pin.sha256), name


def test_a_model_whose_weights_are_a_pickle_on_the_hub():
    with pytest.raises(ModelError, match="'attn-only-4l' as model_final.pth only, a pickle .*--model PATH"):
        load_model("attn-only-4l", device="cpu")


def test_a_transformer_lens_folder(tmp_path):
    from safetensors.torch import save_file

    config = {"n_layers": 1, "n_heads": 2, "d_model": 8, "d_head": 4, "d_mlp": 32, "n_ctx": 6, "d_vocab": 9}
    config |= {"act_fn": "gelu_new", "attn_only": True, "normalization": "LNPre", "shortformer_pos": False}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="holds no weights"):
        load_model(tmp_path, device="cpu")
    attention = {f"W_{part}": torch.randn(2, 8, 4) for part in "QKV"} | {"W_O": torch.randn(2, 4, 8)}
    attention |= {f"b_{part}": torch.randn(2, 4) for part in "QKV"} | {"b_O": torch.randn(8)}
    state = {f"blocks.0.attn.{name}": weight for name, weight in attention.items()}
    state |= {"embed.W_E": torch.randn(9, 8), "pos_embed.W_pos": torch.randn(6, 8)}
    save_file(state | {"unembed.W_U": torch.randn(8, 9), "unembed.b_U": torch.randn(9)}, tmp_path / "model.safetensors")
    model = load_model(tmp_path, device="cpu", dtype=torch.bfloat16)
    assert model.graph.n_edges == 1 * 6 + 3 and model.dtype == torch.bfloat16
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="was cut off|cannot be read"):
        load_model(tmp_path, device="cpu")


def test_a_conversion_that_is_wrong_is_not_handed_out(monkeypatch, gpt2):
    """As when an option is overlooked: the logits of source and result are compared at loading."""
    from dataclasses import replace

    from circuitmeter.suite.model.convert import CONVERTERS

    right = CONVERTERS["gpt2"]

    def wrong(source):
        config, weights = right(source)
        return replace(config, attention_scale=1.0), {k: 3 * v if "W_QKV" in k else v for k, v in weights.items()}

    monkeypatch.setitem(CONVERTERS, "gpt2", wrong)
    with pytest.raises(ModelError, match="the conversion of this GPT2LMHeadModel is wrong"):
        load_model(gpt2, device="cpu")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(gpt2, dtype):
    model = load_model(gpt2, device="cpu", dtype=dtype)
    assert model.dtype == dtype and all(weight.dtype == dtype for weight in model.parameters())


def test_only_safe_files_are_fetched(monkeypatch, gpt2):
    import huggingface_hub

    asked = {}

    def snapshot(name, **options):
        asked[name] = options
        return str(gpt2)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert load_model("gpt2-medium", device="cpu").config.n_layers == 2
    patterns = asked["gpt2-medium"]["allow_patterns"]
    assert "config.json" in patterns and "*.safetensors" in patterns
    for unsafe in ("pytorch_model.bin", "model.pt", "modeling.py", "weights.pkl"):
        assert not any(fnmatch(unsafe, pattern) for pattern in patterns)


def test_a_name_that_no_hub_can_have():
    with pytest.raises(ModelError, match="is no model"):
        load_model("gpt2 small!", device="cpu")


def test_the_tokenizer_of_a_folder(copy):
    from tokenizers import Tokenizer, models, pre_tokenizers

    assert load_tokenizer(copy) is None
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(copy / "tokenizer.json"))
    (copy / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    assert load_tokenizer(copy)("a b b", True) == [1, 2, 2]
