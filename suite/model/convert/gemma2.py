"""Gemma-2: norms before and behind attention and MLP, capped scores and logits, windows in every second layer.

Config (block.py) says what an edge means under a norm behind attention or an MLP: the norm belongs to the writer, and
each head writes its share of the normed sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..block import Config
from .llama import projections, shape
from .parts import activation, refuse, rotations

if TYPE_CHECKING:
    from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedModel

MODEL_TYPES = ("gemma2",)
_NORMS = {
    "norm_attention": "input_layernorm",
    "norm_after_attention": "post_attention_layernorm",
    "norm_mlp": "pre_feedforward_layernorm",
    "norm_after_mlp": "post_feedforward_layernorm",
}


def convert(source: Gemma2ForCausalLM) -> tuple[Config, dict[str, Tensor]]:
    """(Config, weights) of a Gemma-2 with a language-model head.

    The weights contain the factor by which Gemma scales the embedding, and the one that it adds to every norm's gain.
    """
    given: Gemma2Config = source.config
    refuse(
        "Gemma-2",
        attention_bias=given.attention_bias,  # the norm behind attention would scale this bias, which is on no edge
        use_bidirectional_attention=getattr(given, "use_bidirectional_attention", None),
    )
    config = Config(
        **shape(source),
        **rotations(source.model.rotary_emb, "Gemma-2"),
        activation=activation(given.hidden_activation, "Gemma-2"),
        attention_scale=given.query_pre_attn_scalar**-0.5,
        score_cap=given.attn_logit_softcapping,
        logit_cap=given.final_logit_softcapping,
        post_norms=True,
    )
    return config, weights_of(source)


def weights_of(source: PreTrainedModel) -> dict[str, Tensor]:
    """The weights that Gemma-2 and Gemma-3 have in common."""
    body = source.model
    embedded = body.embed_tokens.weight
    scale = torch.tensor(source.config.hidden_size**0.5, dtype=embedded.dtype, device=embedded.device)
    weights = {
        "embed": embedded * scale,
        "unembed": source.get_output_embeddings().weight.T,
        "norm_final.weight": 1 + body.norm.weight,
    }
    for layer, block in enumerate(body.layers):
        own = projections(block) | {f"{ours}.weight": 1 + getattr(block, its).weight for ours, its in _NORMS.items()}
        weights |= {f"blocks.{layer}.{name}": weight for name, weight in own.items()}
    return weights
