"""LoRA adapters: the merged model is the source with its weights summed by hand; what is no plain LoRA is one line."""

from __future__ import annotations

import json
import math
import re

import pytest
import torch
from oracles import Wide
from safetensors.torch import load_file, save_file

from circuitmeter.suite import cli
from circuitmeter.suite.errors import ModelError
from circuitmeter.suite.model.load.by_name import load_model

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TOKENS = torch.arange(14).view(2, 7)
PLAIN = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "somewhere",
    "bias": "none",
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_dropout": 0.1,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "use_dora": False,
    "use_rslora": False,
    "qalora_group_size": 16,
}


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("gpt2")
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 16, "n_positions": 8, "vocab_size": 30}
    GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("llama")
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 30}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    LlamaForCausalLM(LlamaConfig(**sizes, **heads, tie_word_embeddings=False)).save_pretrained(folder)
    return folder


def random_halves(modules, dtype=torch.float64, seed=1):
    """A and B of modules given as name: (inputs, outputs, r)."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return (torch.randn(shape, generator=generator, dtype=torch.float64) / 4).to(dtype)

    return {name: (draw(r, n_in), draw(n_out, r)) for name, (n_in, n_out, r) in modules.items()}


def saved(folder, halves, **config):
    """An adapter in PEFT's layout."""
    folder.mkdir(exist_ok=True)
    state = {}
    for name, (a, b) in halves.items():
        embedding = name.endswith(("embed_tokens", "wte"))
        kind, end = ("lora_embedding", "") if embedding else ("lora", ".weight")
        state |= {f"base_model.model.{name}.{kind}_A{end}": a, f"base_model.model.{name}.{kind}_B{end}": b}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    targets = sorted({name.rpartition(".")[2] for name in halves})
    (folder / CONFIG).write_text(json.dumps(PLAIN | {"r": 4, "lora_alpha": 8, "target_modules": targets} | config))
    return folder


def gpt2_modules():
    return {
        f"transformer.h.{layer}.{name}": sizes
        for layer in range(2)
        for name, sizes in {
            "attn.c_attn": (16, 48, 4),
            "attn.c_proj": (16, 16, 4),  # square: the wrong way round would fit, too
            "mlp.c_proj": (64, 16, 4),
        }.items()
    }


def llama_modules(rank=lambda layer, name: 4):
    sizes = {"self_attn.q_proj": (16, 16), "self_attn.v_proj": (16, 8), "mlp.down_proj": (24, 16)}
    return {
        f"model.layers.{layer}.{name}": (*size, rank(layer, name)) for layer in range(2) for name, size in sizes.items()
    }


def summed(folder, products):
    """The source model in float64 with each product added to a weight."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    with torch.no_grad():
        for name, product in products.items():
            model.get_submodule(name).weight.add_(product)
    return model


def agree(folder, adapter, products):
    with torch.no_grad(), Wide():
        found = load_model(folder, device="cpu", dtype=torch.float64, adapter=adapter)(TOKENS)
        plain = load_model(folder, device="cpu", dtype=torch.float64)(TOKENS)
        due = summed(folder, products)(TOKENS).logits
    assert (found - due).abs().max() < 1e-10
    assert (found - plain).abs().max() > 1e-3


@pytest.mark.parametrize("flag", [True, False])
def test_gpt2_keeps_its_weights_the_other_way_round(flag, gpt2, tmp_path):
    """PEFT corrects the flag where it is wrong, with a warning; the module says how its weight lies."""
    halves = random_halves(gpt2_modules())
    adapter = saved(tmp_path / "a", halves, fan_in_fan_out=flag)
    agree(gpt2, adapter, {name: 2 * (b @ a).T for name, (a, b) in halves.items()})


@pytest.mark.parametrize("rslora", [True, False])
def test_llama(rslora, llama, tmp_path):
    halves = random_halves(llama_modules())
    scale = 8 / math.sqrt(4) if rslora else 8 / 4
    adapter = saved(tmp_path / "a", halves, use_rslora=rslora)
    agree(llama, adapter, {name: scale * (b @ a) for name, (a, b) in halves.items()})


def test_ranks_and_alphas_of_single_modules(llama, tmp_path):
    """A name's last parts, a whole name, an expression; the first that matches holds."""
    halves = random_halves(llama_modules(lambda layer, name: 2 if name.endswith("down_proj") else 3 if layer else 4))
    ranks = {"down_proj": 2, r"model\.layers\.[1-9]+\.self_attn\.(q|v)_proj": 3}
    alphas = {"model.layers.0.self_attn.q_proj": 1.5, r".*\.1\.mlp.down_proj": 5, "mlp.down_proj": 7, "own_proj": 9}
    adapter = saved(tmp_path / "a", halves, rank_pattern=ranks, alpha_pattern=alphas)

    def scale(name):
        alpha = {"model.layers.0.self_attn.q_proj": 1.5, "model.layers.1.mlp.down_proj": 5}.get(name)
        alpha = alpha or (7 if name.endswith("down_proj") else 8)
        return alpha / len(halves[name][0])

    agree(llama, adapter, {name: scale(name) * (b @ a) for name, (a, b) in halves.items()})


def test_embedding_and_unembedding(llama, tmp_path):
    halves = random_halves({"model.embed_tokens": (30, 16, 4), "lm_head": (16, 30, 4)})
    products = {name: 2 * (b @ a) for name, (a, b) in halves.items()}
    products["model.embed_tokens"] = products["model.embed_tokens"].T
    agree(llama, saved(tmp_path / "a", halves), products)


def test_only_some_layers(llama, tmp_path):
    halves = {name: pair for name, pair in random_halves(llama_modules()).items() if ".1." in name}
    adapter = saved(tmp_path / "a", halves, layers_to_transform=[1])
    agree(llama, adapter, {name: 2 * (b @ a) for name, (a, b) in halves.items()})


def test_the_hash_is_that_of_the_merged_model(gpt2, tmp_path):
    from transformers import AutoModelForCausalLM

    halves = random_halves(gpt2_modules(), dtype=torch.bfloat16)
    adapter = saved(tmp_path / "a", halves)
    merged = AutoModelForCausalLM.from_pretrained(gpt2)
    with torch.no_grad():
        for name, (a, b) in halves.items():
            merged.get_submodule(name).weight.add_(2 * (b.float() @ a.float()).T)
    merged.save_pretrained(tmp_path / "merged")
    found = load_model(gpt2, device="cpu", adapter=adapter).weights_hash
    assert found == load_model(tmp_path / "merged", device="cpu").weights_hash
    assert found != load_model(gpt2, device="cpu").weights_hash


def test_half_precision_is_rounded_once(gpt2, tmp_path):
    """The product and the sum are float32's; in bfloat16 throughout, other weights would come out."""
    halves = random_halves(gpt2_modules(), dtype=torch.bfloat16)
    name, (a, b) = next(iter(halves.items()))
    state = load_file(gpt2 / "model.safetensors")
    key = next(key for key in state if f"{name}.weight".endswith(key) or key == f"{name}.weight")
    weight = state[key].bfloat16()
    due = (weight.float() + 2 * (b.float() @ a.float()).T).bfloat16()
    assert not torch.equal(due, weight + 2 * (b @ a).T)

    from transformers import AutoModelForCausalLM

    from circuitmeter.suite.model.load.adapter import read_adapter

    source = AutoModelForCausalLM.from_pretrained(gpt2, dtype=torch.bfloat16)
    read_adapter(saved(tmp_path / "a", halves)).merge_into(source)
    found = source.get_submodule(name).weight
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, due)


def config(folder, **changes):
    (folder / CONFIG).write_text(json.dumps(json.loads((folder / CONFIG).read_text()) | changes))


def weights(folder, change):
    state = load_file(folder / WEIGHTS)
    change(state)
    save_file(state, folder / WEIGHTS)


FIRST = "base_model.model.transformer.h.0.attn.c_attn.lora_A.weight"
DEEPER = "base_model.model.transformer.h.7.attn.c_attn.lora_{}.weight"


def deeper(state):
    state |= {DEEPER.format("A"): torch.ones(4, 16), DEEPER.format("B"): torch.ones(48, 4)}


REFUSED = {
    "no adapter": (lambda f: (f / CONFIG).unlink(), f"holds no adapter: {CONFIG} is missing"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), f"holds no weights: {WEIGHTS} is missing"),
    "only a pickle": (lambda f: (f / WEIGHTS).rename(f / "adapter_model.bin"), f"{WEIGHTS} is missing"),
    "a pointer": (lambda f: (f / WEIGHTS).write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "a config that is no JSON": (lambda f: (f / CONFIG).write_text("{"), f"{CONFIG} is not JSON"),
    "a config that is a list": (lambda f: (f / CONFIG).write_text("[]"), "should be a JSON object"),
    "DoRA": (lambda f: config(f, use_dora=True), "use_dora is True, and only plain LoRA.*merge_and_unload"),
    "biases": (lambda f: config(f, bias="all"), "bias is 'all', and only plain LoRA"),
    "whole modules": (lambda f: config(f, modules_to_save=["lm_head"]), r"modules_to_save is \['lm_head'\]"),
    "PiSSA": (lambda f: config(f, init_lora_weights="pissa"), "init_lora_weights is 'pissa'"),
    "doubled layers": (lambda f: config(f, layer_replication=[[0, 2], [1, 2]]), "layer_replication is"),
    "a key of tomorrow": (lambda f: config(f, use_mylora=True), "use_mylora is True"),
    "IA3": (lambda f: config(f, peft_type="IA3"), "peft_type is 'IA3', and only LORA is merged"),
    "no kind": (lambda f: config(f, peft_type=None), "peft_type is None"),
    "a rank of nothing": (lambda f: config(f, r=0), "r is 0"),
    "a rank as text": (lambda f: config(f, r="4"), "r is '4'"),
    "a negative alpha": (lambda f: config(f, lora_alpha=-1), "lora_alpha is -1"),
    "a rank of a module that is text": (lambda f: config(f, rank_pattern={"c_attn": "4"}), "rank_pattern.c_attn"),
    "no expression": (lambda f: config(f, alpha_pattern={"[": 1}), "is no regular expression"),
    "an expression without end": (lambda f: config(f, rank_pattern={"(a+)+$": 4}), "repeats a group"),
    "an expression of choices": (lambda f: config(f, rank_pattern={"(.|.)" * 9: 4}), "more than 3 groups"),
    "another rank": (lambda f: config(f, r=8), r"c_attn.lora_A.weight is \[4, 16\].*r = 8 asks for \[8, 16\]"),
    "another width": (
        lambda f: weights(f, lambda s: s.update({FIRST: torch.ones(4, 20)})),
        r"c_attn.lora_A.weight is \[4, 20\].*asks for \[4, 16\]; the adapter was trained on another model",
    ),
    "a vector": (lambda f: weights(f, lambda s: s.update({FIRST: torch.ones(4)})), r"lora_A.weight is \[4\]"),
    "half of a pair": (lambda f: weights(f, lambda s: s.pop(FIRST)), "h.0.attn.c_attn' has only one of lora_A"),
    "a layer that the model lacks": (lambda f: weights(f, deeper), "no weight 'transformer.h.7.attn.c_attn' to adapt"),
    "a magnitude": (
        lambda f: weights(
            f, lambda s: s.update({FIRST.replace("lora_A.weight", "lora_magnitude_vector"): torch.ones(48)})
        ),
        "lora_magnitude_vector' is no weight of plain LoRA",
    ),
    "integers": (lambda f: weights(f, lambda s: s.update({FIRST: s[FIRST].to(torch.int8)})), "is of type I8"),
    "NaN": (lambda f: weights(f, lambda s: s[FIRST].fill_(float("nan"))), "lora_A.weight is not finite"),
    "other targets": (lambda f: config(f, target_modules=["c_proj"]), "target_modules do not name it"),
    "a target without weights": (
        lambda f: config(f, target_modules=["c_attn", "c_proj", "c_fc"]),
        "target_modules name transformer.h.0.mlp.c_fc, which has no weights",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_plain_lora_of_this_model_is_one_line(case, gpt2, tmp_path):
    change, reason = REFUSED[case]
    folder = saved(tmp_path / "a", random_halves(gpt2_modules()))
    change(folder)
    with pytest.raises(ModelError, match=reason) as error:
        load_model(gpt2, device="cpu", adapter=folder)
    assert "\n" not in str(error.value) and len(str(error.value)) < 700


def test_a_weight_that_two_modules_share(gpt2, tmp_path):
    folder = saved(tmp_path / "a", random_halves({"transformer.wte": (30, 16, 4)}))
    with pytest.raises(ModelError, match="adapts transformer.wte, whose weight another module of the model shares"):
        load_model(gpt2, device="cpu", adapter=folder)


def test_ground_truths_and_transformer_lens_take_none(tmp_path):
    folder = saved(tmp_path / "a", random_halves(gpt2_modules()))
    with pytest.raises(ModelError, match="what is certified of it holds without"):
        load_model("tracr/reverse", device="cpu", adapter=folder)
    lens = tmp_path / "lens"
    lens.mkdir()
    config = dict.fromkeys(("n_layers", "n_heads", "d_model", "d_head", "d_mlp", "n_ctx", "d_vocab"), 1)
    (lens / "config.json").write_text(json.dumps(config))
    save_file({f"{i}": torch.ones(4, 4) for i in range(3)}, lens / "model.safetensors")
    with pytest.raises(ModelError, match="has TransformerLens's weights"):
        load_model(lens, device="cpu", adapter=folder)


def test_an_adapter_instead_of_its_model(gpt2, tmp_path):
    folder = saved(tmp_path / "a", random_halves(gpt2_modules()))
    with pytest.raises(ModelError, match="give that model with --model and this folder with --adapter"):
        load_model(folder, device="cpu")


def test_a_circuit_of_the_merged_model(gpt2, tmp_path, capfd):
    """Found, measured and named as that of the merged model."""
    adapter, prompts = saved(tmp_path / "a", random_halves(gpt2_modules())), tmp_path / "p.jsonl"
    row = {"clean": [1, 2, 3], "counterfactual": [4, 5, 6], "answer": 7, "wrong": 8}
    prompts.write_text(f"{json.dumps(row)}\n" * 2)
    on = ["--model", str(gpt2), "--data", str(prompts), "--device", "cpu"]
    out, plain = tmp_path / "c.json", tmp_path / "plain.json"
    search = ["discover", *on, "--method", "eap", "--out"]
    assert cli.main([*search, str(out), "--adapter", str(adapter)]) == 0
    assert cli.main([*search, str(plain)]) == 0
    assert cli.main(["evaluate", str(out), *on, "--adapter", str(adapter), "--json"]) == 0
    found, without = (next(v for v in json.loads(f.read_text()).values() if "model_hash" in v) for f in (out, plain))
    assert found["model"] == f"{gpt2} with {adapter}" and without["model"] == str(gpt2)
    assert found["model_hash"] == load_model(gpt2, device="cpu", adapter=adapter).weights_hash
    assert without["model_hash"] == load_model(gpt2, device="cpu").weights_hash
    assert f"{gpt2} with {adapter}" in capfd.readouterr().out


def test_tasks_and_prompts_of_the_merged_model(tmp_path, capsys):
    """An adapter that drowns the last layer: mini no longer does the task."""
    model = load_model("mini", device="cpu")
    width, wide = model.config.d_model, model.config.d_mlp
    last = f"transformer.h.{model.config.n_layers - 1}.mlp.c_proj"
    a, b = random_halves({last: (wide, width, 4)})[last]
    adapter = str(saved(tmp_path / "a", {last: (a * 50, b * 50)}, layers_to_transform=[model.config.n_layers - 1]))
    for arguments in (["show", "ioi", "--prompts", "1"], ["list", "tasks", "ioi"]):
        assert cli.main([*arguments, "--model", "mini", "--adapter", adapter]) == 0
        accuracy = re.search(r"(?:accuracy |names\D+|ioi\s+)(\d?\.\d+)", capsys.readouterr().out)
        assert accuracy and float(accuracy[1]) < 0.9
        assert cli.main([*arguments, "--adapter", adapter]) == 2
        assert "--adapter goes with --model" in capsys.readouterr().err
