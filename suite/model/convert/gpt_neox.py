"""GPT-NeoX: Pythia and GPT-NeoX-20B. Attention and MLP read the same stream; a part of each head is rotated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..block import Config
from .parts import activation, bias_of, rotations

if TYPE_CHECKING:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM


MODEL_TYPES = ("gpt_neox",)


def convert(source: GPTNeoXForCausalLM) -> tuple[Config, dict[str, Tensor]]:
    """(Config, weights) of a GPT-NeoX with a language-model head."""
    given: GPTNeoXConfig = source.config
    heads, body = given.num_attention_heads, source.gpt_neox
    config = Config(
        n_layers=given.num_hidden_layers,
        n_heads=heads,
        d_model=given.hidden_size,
        d_head=given.hidden_size // heads,
        d_mlp=given.intermediate_size,
        d_vocab=given.vocab_size,
        d_out=given.vocab_size,
        n_positions=given.max_position_embeddings,
        norm_eps=given.layer_norm_eps,
        activation=activation(given.hidden_act, "GPT-NeoX"),
        parallel=given.use_parallel_residual,
        **rotations(body.rotary_emb, "GPT-NeoX"),
    )
    weights = {
        "embed": body.embed_in.weight,
        "unembed": source.get_output_embeddings().weight.T,
        "norm_final.weight": body.final_layer_norm.weight,
        "norm_final.bias": body.final_layer_norm.bias,
    }

    def by_part(packed: Tensor) -> Tensor:
        """NeoX's rows, ordered by head, part and d_head, in the order part, head, d_head."""
        return packed.unflatten(0, (heads, 3, -1)).transpose(0, 1).flatten(0, 2)

    for layer, block in enumerate(body.layers):
        attention, mlp = block.attention, block.mlp
        own = {
            "norm_attention.weight": block.input_layernorm.weight,
            "norm_attention.bias": block.input_layernorm.bias,
            "W_QKV": by_part(attention.query_key_value.weight).T,
            "b_QKV": by_part(bias_of(attention.query_key_value)),
            "W_O": attention.dense.weight.T,
            "b_O": bias_of(attention.dense),
            "norm_mlp.weight": block.post_attention_layernorm.weight,
            "norm_mlp.bias": block.post_attention_layernorm.bias,
            "W_in": mlp.dense_h_to_4h.weight.T,
            "b_in": mlp.dense_h_to_4h.bias,
            "W_out": mlp.dense_4h_to_h.weight.T,
            "b_out": mlp.dense_4h_to_h.bias,
        }
        weights |= {f"blocks.{layer}.{name}": weight for name, weight in own.items()}
    return config, weights
