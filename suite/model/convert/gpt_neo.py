"""GPT-Neo: GPT-2 with scores that are not scaled, and with windows in every second layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..block import Config
from .parts import activation, bias_of, joined

if TYPE_CHECKING:
    from transformers import GPTNeoConfig, GPTNeoForCausalLM


MODEL_TYPES = ("gpt_neo",)


def convert(source: GPTNeoForCausalLM) -> tuple[Config, dict[str, Tensor]]:
    """(Config, weights) of a GPT-Neo with a language-model head."""
    given: GPTNeoConfig = source.config
    kinds, most, body = given.attention_layers, given.max_position_embeddings, source.transformer
    narrow = "local" in kinds and given.window_size < most
    config = Config(
        n_layers=given.num_layers,
        n_heads=given.num_heads,
        d_model=given.hidden_size,
        d_head=given.hidden_size // given.num_heads,
        d_mlp=given.intermediate_size or 4 * given.hidden_size,
        d_vocab=given.vocab_size,
        d_out=given.vocab_size,
        n_positions=most,
        norm_eps=given.layer_norm_epsilon,
        activation=activation(given.activation_function, "GPT-Neo"),
        attention_scale=1.0,
        windows=tuple(given.window_size if kind == "local" else None for kind in kinds) if narrow else None,
    )
    weights = {
        "embed": body.wte.weight,
        "pos_embed": body.wpe.weight,
        "unembed": source.get_output_embeddings().weight.T,
        "norm_final.weight": body.ln_f.weight,
        "norm_final.bias": body.ln_f.bias,
    }
    for layer, block in enumerate(body.h):
        attention, mlp = block.attn.attention, block.mlp
        packed, packed_bias = joined([attention.q_proj, attention.k_proj, attention.v_proj])
        own = {
            "norm_attention.weight": block.ln_1.weight,
            "norm_attention.bias": block.ln_1.bias,
            "W_QKV": packed,
            "b_QKV": packed_bias,
            "W_O": attention.out_proj.weight.T,
            "b_O": bias_of(attention.out_proj),
            "norm_mlp.weight": block.ln_2.weight,
            "norm_mlp.bias": block.ln_2.bias,
            "W_in": mlp.c_fc.weight.T,
            "b_in": mlp.c_fc.bias,
            "W_out": mlp.c_proj.weight.T,
            "b_out": mlp.c_proj.bias,
        }
        weights |= {f"blocks.{layer}.{name}": weight for name, weight in own.items()}
    return config, weights
