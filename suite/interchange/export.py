"""Models of ours in other tools' formats: TransformerLens checkpoints, and Hugging Face folders of GPT-2's kind.

Both compute the same logits. The folders hold ``config.json`` and ``model.safetensors``, and load back here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import ModelError
from ..model.block import Config
from ..model.convert.gpt2 import LAYER as GPT2_LAYER
from ..model.transformer import Transformer

_ACTIVATIONS = {"gelu_tanh": "gelu_new", "gelu": "gelu", "relu": "relu", "silu": "silu"}
_NORMS = {"layer": "LN", "none": None}


def to_transformer_lens(model: Transformer) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(keyword arguments of HookedTransformerConfig, state dict) of a model; the weights are shared where they can be.

    Raises:
        ModelError: an architecture that this format is not written for.
    """
    config, like = model.config, model.embed
    _refuse(config, "a TransformerLens checkpoint", norms=tuple(_NORMS))
    given = {
        "n_layers": config.n_layers,
        "n_heads": config.n_heads,
        "d_model": config.d_model,
        "d_head": config.d_head,
        "d_mlp": config.d_mlp or None,
        "d_vocab": config.d_vocab,
        "d_vocab_out": config.d_out,
        "n_ctx": config.n_positions,
        "act_fn": _ACTIVATIONS[config.activation] if config.d_mlp else None,
        "attn_only": not config.d_mlp,
        "attn_scale": 1 / config.scale,
        "attention_dir": "causal" if config.causal else "bidirectional",
        "normalization_type": _NORMS[config.norm],
        "eps": config.norm_eps,
        "parallel_attn_mlp": config.parallel,
        "positional_embedding_type": "standard",
        "init_weights": False,
    }
    learned = config.positions == "learned"
    state = {
        "embed.W_E": model.embed,
        "pos_embed.W_pos": model.pos_embed if learned else like.new_zeros(config.n_positions, config.d_model),
        "unembed.W_U": model.unembed,
        "unembed.b_U": model.unembed_bias if config.unembed_bias else like.new_zeros(config.d_out),
    }
    norms = {"ln_final": model.norm_final}
    for layer, block in enumerate(model.blocks):
        at = f"blocks.{layer}"
        weights, biases = block.reader_weights()  # [3H, D, E], [3H, E]
        for part, weight, bias in zip("QKV", weights.chunk(3), biases.chunk(3), strict=True):
            state |= {f"{at}.attn.W_{part}": weight, f"{at}.attn.b_{part}": bias}
        state |= {f"{at}.attn.W_O": block.W_O.unflatten(0, (config.n_heads, -1)), f"{at}.attn.b_O": block.b_O}
        norms[f"{at}.ln1"] = block.norm_attention
        if config.d_mlp:
            state |= {f"{at}.mlp.{name}": getattr(block, name) for name in ("W_in", "b_in", "W_out", "b_out")}
            norms[f"{at}.ln2"] = block.norm_mlp
    if config.norm == "layer":
        for name, norm in norms.items():
            state |= {f"{name}.w": norm.weight, f"{name}.b": norm.bias}
    return given, {name: weight.detach() for name, weight in state.items()}


def to_gpt2(model: Transformer) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(config.json, weights) of a GPT-2 of transformers that computes the same logits.

    Raises:
        ModelError: an architecture that is no GPT-2: without layer norm or MLP, bidirectional, with other outputs.
    """
    config, kind = model.config, "a Hugging Face GPT-2"
    _refuse(config, kind, norms=("layer",))
    unlike = {
        "attention that looks ahead": not config.causal,
        "parallel blocks": config.parallel,
        "no MLP": not config.d_mlp,
        "outputs that are not its tokens": config.d_out != config.d_vocab,
        "heads that are not d_model / n_heads wide": config.d_head * config.n_heads != config.d_model,
        "another scale of attention": config.scale not in (config.d_head**-0.5, 1.0),
        "an output bias": config.unembed_bias and bool(model.unembed_bias.any()),
        "no learned positions": config.positions != "learned",
    }
    _refuse_first(unlike, kind)
    given = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_layer": config.n_layers,
        "n_head": config.n_heads,
        "n_embd": config.d_model,
        "n_inner": config.d_mlp,
        "n_positions": config.n_positions,
        "vocab_size": config.d_vocab,
        "activation_function": _ACTIVATIONS[config.activation],
        "layer_norm_epsilon": config.norm_eps,
        "scale_attn_weights": config.scale != 1.0,
        "tie_word_embeddings": False,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    state = {
        "transformer.wte.weight": model.embed,
        "transformer.wpe.weight": model.pos_embed,
        "transformer.ln_f.weight": model.norm_final.weight,
        "transformer.ln_f.bias": model.norm_final.bias,
        "lm_head.weight": model.unembed.T,
    }
    for layer, block in enumerate(model.blocks):
        for ours, theirs in GPT2_LAYER.items():
            state[f"transformer.h.{layer}.{theirs}"] = block.get_parameter(ours)
    return given, {name: weight.detach().contiguous() for name, weight in state.items()}


WRITERS = {"transformer-lens": to_transformer_lens, "huggingface": to_gpt2}


def export(model: Transformer, folder: Path, to: str) -> None:
    """Writes ``config.json`` and ``model.safetensors`` of a model into a folder, which is made.

    Args:
        to: ``transformer-lens`` or ``huggingface``.

    Raises:
        ModelError: another format, or an architecture that it does not have.
    """
    from safetensors.torch import save_file

    if to not in WRITERS:
        raise ModelError(f"no format {to!r}; models are written as {' or '.join(WRITERS)}.")
    config, weights = WRITERS[to](model)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    copies = {name: weight.cpu().contiguous().clone() for name, weight in weights.items()}
    save_file(copies, folder / "model.safetensors", metadata={"format": "pt"})


def _refuse(config: Config, kind: str, norms: tuple[str, ...]) -> None:
    unlike = {
        f"the norm {config.norm!r}": config.norm not in norms,
        f"the activation {config.activation!r}": bool(config.d_mlp) and config.activation not in _ACTIVATIONS,
        "rotary positions": config.positions == "rotary",
        "gated MLPs": config.gated,
        "grouped queries": config.kv_heads != config.n_heads,
        "norms behind attention": config.post_norms,
        "capped scores or logits": config.score_cap is not None or config.logit_cap is not None,
    }
    _refuse_first(unlike, kind)


def _refuse_first(unlike: dict[str, bool], kind: str) -> None:
    for what, present in unlike.items():
        if present:
            raise ModelError(f"a model with {what} cannot be written as {kind}.")
