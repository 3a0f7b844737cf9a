"""Qwen-3: the Llama family with a norm of the queries and one of the keys of each head."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from ..block import Config
from . import llama

if TYPE_CHECKING:
    from transformers import Qwen3ForCausalLM

MODEL_TYPES = ("qwen3",)


def convert(source: Qwen3ForCausalLM) -> tuple[Config, dict[str, Tensor]]:
    """(Config, weights) of a Qwen-3 with a language-model head."""
    config, weights = llama.convert(source)
    for layer, block in enumerate(source.model.layers):
        weights[f"blocks.{layer}.norm_q.weight"] = block.self_attn.q_norm.weight
        weights[f"blocks.{layer}.norm_k.weight"] = block.self_attn.k_norm.weight
    return replace(config, qk_norms=True), weights
