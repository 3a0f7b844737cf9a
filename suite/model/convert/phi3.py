"""Phi-3: a Llama that packs queries, keys and values in one matrix, and its MLP's gate and input in another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..block import Config
from .llama import ends, shape
from .parts import activation, rotations

if TYPE_CHECKING:
    from transformers import Phi3Config, Phi3ForCausalLM


MODEL_TYPES = ("phi3",)


def convert(source: Phi3ForCausalLM) -> tuple[Config, dict[str, Tensor]]:
    """(Config, weights) of a Phi-3 with a language-model head."""
    given: Phi3Config = source.config
    body = source.model
    config = Config(
        **shape(source), **rotations(body.rotary_emb, "Phi-3"), activation=activation(given.hidden_act, "Phi-3")
    )
    weights = ends(source)
    for layer, block in enumerate(body.layers):
        attention, mlp = block.self_attn, block.mlp
        gate, up = mlp.gate_up_proj.weight.chunk(2)
        packed, out = attention.qkv_proj.weight, attention.o_proj.weight
        own = {
            "norm_attention.weight": block.input_layernorm.weight,
            "W_QKV": packed.T,
            "b_QKV": packed.new_zeros(len(packed)),
            "W_O": out.T,
            "b_O": out.new_zeros(len(out)),
            "norm_mlp.weight": block.post_attention_layernorm.weight,
            "W_gate": gate.T,
            "W_in": up.T,
            "b_in": up.new_zeros(len(up)),
            "W_out": mlp.down_proj.weight.T,
            "b_out": out.new_zeros(given.hidden_size),
        }
        weights |= {f"blocks.{layer}.{name}": weight for name, weight in own.items()}
    return config, weights
