"""The Llama family: Llama 1, 2 and 3, Mistral and Qwen-2.5. Some have biases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...errors import ModelError
from ..block import Config
from .parts import activation, bias_of, joined, reach, refuse, rotations

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


MODEL_TYPES = ("llama", "mistral", "qwen2")


def convert(source: PreTrainedModel) -> tuple[Config, dict[str, Tensor]]:
    """(Config, weights) of a Llama, Mistral or Qwen-2 with a language-model head; Qwen-3 adds to them."""
    given, body, name = source.config, source.model, type(source).__name__
    # With this option the gate would have a bias of its own. No released model sets it.
    refuse(name, mlp_bias=getattr(given, "mlp_bias", False))
    config = Config(
        **shape(source),
        **rotations(body.rotary_emb, name),
        activation=activation(given.hidden_act, name),
    )
    weights = ends(source)
    for layer, block in enumerate(body.layers):
        own = projections(block) | {
            "norm_attention.weight": block.input_layernorm.weight,
            "norm_mlp.weight": block.post_attention_layernorm.weight,
        }
        weights |= {f"blocks.{layer}.{name}": weight for name, weight in own.items()}
    return config, weights


def ends(source: PreTrainedModel) -> dict[str, Tensor]:
    """The weights before the first layer and behind the last that the Llama family, OLMo-2 and Phi-3 share."""
    return {
        "embed": source.model.embed_tokens.weight,
        "unembed": source.get_output_embeddings().weight.T,
        "norm_final.weight": source.model.norm.weight,
    }


def shape(source: PreTrainedModel) -> dict[str, Any]:
    """The fields of the Config that the Llama family and Gemma share."""
    given, name = source.config, type(source).__name__
    if given.num_attention_heads % given.num_key_value_heads:
        raise ModelError(
            f"{name} with {given.num_attention_heads} heads and {given.num_key_value_heads} of keys and values cannot "
            f"be converted: the first is not a multiple of the second."
        )
    return {
        "n_layers": given.num_hidden_layers,
        "n_heads": given.num_attention_heads,
        "n_kv_heads": given.num_key_value_heads,
        "d_model": given.hidden_size,
        "d_head": getattr(given, "head_dim", None) or given.hidden_size // given.num_attention_heads,
        "d_mlp": given.intermediate_size,
        "d_vocab": given.vocab_size,
        "d_out": given.vocab_size,
        "norm": "rms",
        "norm_eps": given.rms_norm_eps,
        "gated": True,
        **reach(name, given),
    }


def projections(block: nn.Module) -> dict[str, Tensor]:
    """The weights of attention and MLP of a layer of the Llama family or of Gemma."""
    attention, mlp = block.self_attn, block.mlp
    packed, packed_bias = joined([attention.q_proj, attention.k_proj, attention.v_proj])
    return {
        "W_QKV": packed,
        "b_QKV": packed_bias,
        "W_O": attention.o_proj.weight.T,
        "b_O": bias_of(attention.o_proj),
        "W_gate": mlp.gate_proj.weight.T,
        "W_in": mlp.up_proj.weight.T,
        "b_in": bias_of(mlp.up_proj),
        "W_out": mlp.down_proj.weight.T,
        "b_out": bias_of(mlp.down_proj),
    }
