"""Gemma-3 (text): Gemma-2 with norms of queries and keys, and with different rotations in windowed and other layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..block import Config
from .gemma2 import weights_of
from .llama import shape
from .parts import activation, fixed_rotations, refuse

if TYPE_CHECKING:
    from torch import nn
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig


MODEL_TYPES = ("gemma3_text",)


def convert(source: Gemma3ForCausalLM) -> tuple[Config, dict[str, Tensor]]:
    """(Config, weights) of a Gemma-3 with a language-model head, without its image encoder."""
    given: Gemma3TextConfig = source.config
    refuse(
        "Gemma-3",
        attn_logit_softcapping=given.attn_logit_softcapping,  # transformers has this option and does not apply it
        attention_bias=given.attention_bias,  # the norm behind attention would scale this bias, which is on no edge
        use_bidirectional_attention=getattr(given, "use_bidirectional_attention", None),
    )
    body = source.model
    turned = {kind: _rotation(body, kind) for kind in set(given.layer_types)}
    scales = {scale for _, scale in turned.values()}
    if len(scales) > 1:
        refuse("Gemma-3", attention_scaling=sorted(scales))
    frequencies = tuple(turned[kind][0] for kind in given.layer_types)
    config = Config(
        **shape(source),
        activation=activation(given.hidden_activation, "Gemma-3"),
        attention_scale=given.query_pre_attn_scalar**-0.5,
        logit_cap=given.final_logit_softcapping,
        post_norms=True,
        qk_norms=True,
        positions="rotary",
        rotary_dims=2 * len(frequencies[0]),
        layer_frequencies=frequencies,
        rotary_scale=scales.pop(),
    )
    weights = weights_of(source)
    for layer, block in enumerate(body.layers):
        for part in "qk":
            weights[f"blocks.{layer}.norm_{part}.weight"] = 1 + getattr(block.self_attn, f"{part}_norm").weight
    return config, weights


def _rotation(body: nn.Module, kind: str) -> tuple[tuple[float, ...], float]:
    """(frequencies, scale) of the layers of one kind. transformers 4 has a second module for windowed layers."""
    rotary = body.rotary_emb
    if hasattr(rotary, f"{kind}_inv_freq"):
        kinds, scale = rotary.rope_type[kind], getattr(rotary, f"{kind}_attention_scaling")
        return fixed_rotations(getattr(rotary, f"{kind}_inv_freq"), kinds, "Gemma-3"), float(scale)
    own = body.rotary_emb_local if kind == "sliding_attention" else rotary
    return fixed_rotations(own.inv_freq, own.rope_type, "Gemma-3"), float(own.attention_scaling)
