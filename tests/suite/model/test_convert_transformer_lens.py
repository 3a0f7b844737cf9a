"""Checkpoints in TransformerLens' layout: logits equal to a plain loop over its own weight shapes."""

import math

import pytest
import torch
from torch.testing import assert_close

from circuitmeter.suite.errors import ModelError
from circuitmeter.suite.model.convert.transformer_lens import from_transformer_lens, is_transformer_lens

# The released attn-only-4l has these fields, with four layers of eight heads.
ATTENTION_ONLY = {
    "n_layers": 4,
    "n_heads": 2,
    "d_model": 12,
    "d_head": 6,
    "d_mlp": 48,
    "n_ctx": 10,
    "d_vocab": 23,
    "act_fn": "gelu_new",
    "attn_only": True,
    "normalization": "LN",
    "shortformer_pos": False,
}


def checkpoint(config):
    """A random state dict by TransformerLens' names and shapes, its buffers included."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return 0.4 * torch.randn(shape, generator=generator, dtype=torch.float64)

    layers, heads, wide, head = (config[name] for name in ("n_layers", "n_heads", "d_model", "d_head"))
    kind = config["normalization"] if "normalization" in config else config["normalization_type"]
    norm = {} if kind in (None, "LNPre", "RMSPre") else {"w": (wide,)} | ({"b": (wide,)} if kind == "LN" else {})
    shapes = {"embed.W_E": (config["d_vocab"], wide), "pos_embed.W_pos": (config["n_ctx"], wide)}
    shapes |= {"unembed.W_U": (wide, config["d_vocab"]), "unembed.b_U": (config["d_vocab"],)}
    shapes |= {f"ln_final.{part}": shape for part, shape in norm.items()}
    for i in range(layers):
        shapes |= {f"blocks.{i}.ln1.{part}": shape for part, shape in norm.items()}
        shapes |= {f"blocks.{i}.attn.W_{part}": (heads, wide, head) for part in "QKV"}
        shapes |= {f"blocks.{i}.attn.b_{part}": (heads, head) for part in "QKV"}
        shapes |= {f"blocks.{i}.attn.W_O": (heads, head, wide), f"blocks.{i}.attn.b_O": (wide,)}
        if not config["attn_only"]:
            shapes |= {f"blocks.{i}.ln2.{part}": shape for part, shape in norm.items()}
            shapes |= {f"blocks.{i}.mlp.W_in": (wide, config["d_mlp"]), f"blocks.{i}.mlp.b_in": (config["d_mlp"],)}
            shapes |= {f"blocks.{i}.mlp.W_out": (config["d_mlp"], wide), f"blocks.{i}.mlp.b_out": (wide,)}
    buffers = {f"blocks.{i}.attn.mask": torch.ones(10, 10).tril().bool() for i in range(layers)}
    buffers |= {f"blocks.{i}.attn.IGNORE": torch.tensor(-1e5) for i in range(layers)}
    return {name: random(*shape) for name, shape in shapes.items()} | buffers


def plain(config, state, tokens):
    """Logits [P, V] of one prompt: a loop over layers and heads."""
    kind = config["normalization"] if "normalization" in config else config["normalization_type"]

    def norm(x, name):
        if kind is None:
            return x
        if kind.startswith("LN"):
            x = x - x.mean(-1, keepdim=True)
        x = x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
        x = x if kind.endswith("Pre") else x * state[f"{name}.w"]
        return x + state[f"{name}.b"] if kind == "LN" else x

    residual = state["embed.W_E"][tokens] + state["pos_embed.W_pos"][: len(tokens)]
    for i in range(config["n_layers"]):
        at, x = f"blocks.{i}.attn", norm(residual, f"blocks.{i}.ln1")
        new = state[f"{at}.b_O"].clone()
        for h in range(config["n_heads"]):
            q, k, v = (x @ state[f"{at}.W_{part}"][h] + state[f"{at}.b_{part}"][h] for part in "QKV")
            scores = (q @ k.T / math.sqrt(config["d_head"])).masked_fill(torch.ones(len(x), len(x)).triu(1) > 0, -1e9)
            new = new + scores.softmax(-1) @ v @ state[f"{at}.W_O"][h]
        residual = residual + new
        if not config["attn_only"]:
            hidden = norm(residual, f"blocks.{i}.ln2") @ state[f"blocks.{i}.mlp.W_in"] + state[f"blocks.{i}.mlp.b_in"]
            hidden = torch.nn.functional.gelu(hidden, approximate="tanh")
            residual = residual + hidden @ state[f"blocks.{i}.mlp.W_out"] + state[f"blocks.{i}.mlp.b_out"]
    return norm(residual, "ln_final") @ state["unembed.W_U"] + state["unembed.b_U"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"normalization": "LNPre"},
        {"normalization": None, "n_layers": 1},
        {"normalization": "RMS", "attn_only": False},
        {"attn_only": False, "n_heads": 3, "d_head": 5},
    ],
)
@torch.no_grad()
def test_logits_equal_a_plain_loop(changes):
    config = {**ATTENTION_ONLY, **changes}
    state = checkpoint(config)
    model = from_transformer_lens(config, state)
    tokens = torch.randint(23, (2, 9), generator=torch.Generator().manual_seed(2))
    assert_close(model(tokens), torch.stack([plain(config, state, row) for row in tokens]), rtol=1e-10, atol=1e-10)
    assert model.graph.mlps != config["attn_only"]


def test_the_docstring_model_s_graph():
    model = from_transformer_lens(
        config := {**ATTENTION_ONLY, "n_heads": 8, "d_model": 16, "d_head": 2}, checkpoint(config)
    )
    assert model.graph.n_edges == 1281


def test_what_a_library_config_says_is_read_too():
    config = {k: v for k, v in ATTENTION_ONLY.items() if k not in ("normalization", "shortformer_pos")}
    config |= {"normalization_type": "LN", "positional_embedding_type": "standard", "attn_scale": math.sqrt(6)}
    config |= {"d_vocab_out": 23, "eps": 1e-5, "attention_dir": "causal", "gated_mlp": False, "final_rms": False}
    state = checkpoint(config)
    tokens = torch.arange(8)
    assert is_transformer_lens(config)
    assert_close(from_transformer_lens(config, state)(tokens[None])[0], plain(config, state, tokens))


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"shortformer_pos": True}, "Shortformer positions .redwood_attn_2l. .* no node writes them"),
        ({"positional_embedding_type": "rotary", "shortformer_pos": None}, "positional_embedding_type='rotary'"),
        ({"final_rms": True}, "final_rms=True"),
        ({"attn_only": False, "act_fn": "solu_ln"}, "activation 'solu_ln'"),
    ],
)
def test_what_cannot_be_converted_is_refused(changes, reason):
    config = {**ATTENTION_ONLY, **changes}
    with pytest.raises(ModelError, match=reason):
        from_transformer_lens(config, checkpoint(config))


def test_missing_and_unknown_weights_are_named():
    state = checkpoint(ATTENTION_ONLY)
    with pytest.raises(ModelError, match="with a weight 'blocks.0.attn.W_R'"):
        from_transformer_lens(ATTENTION_ONLY, state | {"blocks.0.attn.W_R": torch.zeros(1)})
    del state["blocks.3.attn.b_K"]
    with pytest.raises(ModelError, match="without the weight 'blocks.3.attn.b_K'"):
        from_transformer_lens(ATTENTION_ONLY, state)
