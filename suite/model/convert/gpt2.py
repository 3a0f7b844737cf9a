"""GPT-2, all sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..block import Config
from .parts import activation, refuse

if TYPE_CHECKING:
    from transformers import GPT2Config, GPT2LMHeadModel

MODEL_TYPES = ("gpt2",)


# As in this project, GPT-2's Conv1D stores weights as [in, out], and c_attn packs all q heads, then all k, then all v.
LAYER = {
    "norm_attention.weight": "ln_1.weight",
    "norm_attention.bias": "ln_1.bias",
    "W_QKV": "attn.c_attn.weight",
    "b_QKV": "attn.c_attn.bias",
    "W_O": "attn.c_proj.weight",
    "b_O": "attn.c_proj.bias",
    "norm_mlp.weight": "ln_2.weight",
    "norm_mlp.bias": "ln_2.bias",
    "W_in": "mlp.c_fc.weight",
    "b_in": "mlp.c_fc.bias",
    "W_out": "mlp.c_proj.weight",
    "b_out": "mlp.c_proj.bias",
}


def convert(source: GPT2LMHeadModel) -> tuple[Config, dict[str, Tensor]]:
    """(Config, weights) of a GPT-2 with a language-model head."""
    given: GPT2Config = source.config
    # These two change what attention computes; no released GPT-2 sets them.
    refuse(
        "GPT-2",
        scale_attn_by_inverse_layer_idx=given.scale_attn_by_inverse_layer_idx,
        add_cross_attention=given.add_cross_attention,
    )
    config = Config(
        n_layers=given.n_layer,
        n_heads=given.n_head,
        d_model=given.n_embd,
        d_head=given.n_embd // given.n_head,
        d_mlp=given.n_inner or 4 * given.n_embd,
        d_vocab=given.vocab_size,
        d_out=given.vocab_size,
        n_positions=given.n_positions,
        norm_eps=given.layer_norm_epsilon,
        activation=activation(given.activation_function, "GPT-2"),
        attention_scale=None if given.scale_attn_weights else 1.0,
    )
    state = source.state_dict()
    weights = {
        "embed": state["transformer.wte.weight"],
        "pos_embed": state["transformer.wpe.weight"],
        "unembed": source.get_output_embeddings().weight.T,
        "norm_final.weight": state["transformer.ln_f.weight"],
        "norm_final.bias": state["transformer.ln_f.bias"],
    }
    for layer in range(config.n_layers):
        for ours, theirs in LAYER.items():
            weights[f"blocks.{layer}.{ours}"] = state[f"transformer.h.{layer}.{theirs}"]
    return config, weights
