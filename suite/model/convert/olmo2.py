"""OLMo-2: norms behind attention and MLP, none before them; one norm for the queries of all heads, one for keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..block import Config
from .llama import ends, projections, shape
from .parts import activation, refuse, rotations

if TYPE_CHECKING:
    from transformers import Olmo2Config, Olmo2ForCausalLM

MODEL_TYPES = ("olmo2",)


def convert(source: Olmo2ForCausalLM) -> tuple[Config, dict[str, Tensor]]:
    """(Config, weights) of an OLMo-2 with a language-model head."""
    given: Olmo2Config = source.config
    body = source.model
    # The norm behind attention would scale an output bias, which is on no edge.
    refuse("OLMo-2", attention_bias=given.attention_bias)
    config = Config(
        **shape(source),
        **rotations(body.rotary_emb, "OLMo-2"),
        activation=activation(given.hidden_act, "OLMo-2"),
        pre_norms=False,
        post_norms=True,
        qk_norms=True,
        joint_qk_norms=True,
    )
    weights = ends(source)
    for layer, block in enumerate(body.layers):
        own = projections(block) | {
            "norm_after_attention.weight": block.post_attention_layernorm.weight,
            "norm_after_mlp.weight": block.post_feedforward_layernorm.weight,
            "norm_q.weight": block.self_attn.q_norm.weight,
            "norm_k.weight": block.self_attn.k_norm.weight,
        }
        weights |= {f"blocks.{layer}.{name}": weight for name, weight in own.items()}
    return config, weights
