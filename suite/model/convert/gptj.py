"""GPT-J: attention and MLP read the same stream through one norm; rotated pairs are neighbours in each head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..block import Config
from .parts import activation, refuse

if TYPE_CHECKING:
    from transformers import GPTJConfig, GPTJForCausalLM


MODEL_TYPES = ("gptj",)


def convert(source: GPTJForCausalLM) -> tuple[Config, dict[str, Tensor]]:
    """(Config, weights) of a GPT-J with a language-model head."""
    given: GPTJConfig = source.config
    heads, width, body = given.n_head, given.n_embd // given.n_head, source.transformer
    refuse("GPT-J", rotary_dim=None if given.rotary_dim else "no")  # it would rotate the whole width
    # In float32, as the source computes them.
    frequencies = 1.0 / (10000 ** (torch.arange(0, given.rotary_dim, 2, dtype=torch.int64) / given.rotary_dim))
    config = Config(
        n_layers=given.n_layer,
        n_heads=heads,
        d_model=given.n_embd,
        d_head=width,
        d_mlp=given.n_inner or 4 * given.n_embd,
        d_vocab=given.vocab_size,
        d_out=given.vocab_size,
        n_positions=given.n_positions,
        norm_eps=given.layer_norm_epsilon,
        activation=activation(given.activation_function, "GPT-J"),
        parallel=True,
        positions="rotary",
        rotary_dims=given.rotary_dim,
        rotary_frequencies=tuple(frequencies.tolist()),
        unembed_bias=True,
    )
    head = source.get_output_embeddings()
    weights = {
        "embed": body.wte.weight,
        "unembed": head.weight.T,
        "unembed_bias": head.weight.new_zeros(given.vocab_size) if head.bias is None else head.bias,
        "norm_final.weight": body.ln_f.weight,
        "norm_final.bias": body.ln_f.bias,
    }
    # The pairs (0, 1), (2, 3), ... of each head become (0, n/2), (1, n/2 + 1), ..., which the engine rotates.
    turned = torch.arange(given.rotary_dim)
    order = torch.cat([turned[::2], turned[1::2], torch.arange(given.rotary_dim, width)])

    def by_halves(weight: Tensor) -> Tensor:
        return weight.unflatten(0, (heads, width))[:, order].flatten(0, 1)

    for layer, block in enumerate(body.h):
        attention, mlp = block.attn, block.mlp
        packed = [by_halves(attention.q_proj.weight), by_halves(attention.k_proj.weight), attention.v_proj.weight]
        own = {
            "W_QKV": torch.cat(packed).T,
            "b_QKV": packed[0].new_zeros(3 * given.n_embd),
            "W_O": attention.out_proj.weight.T,
            "b_O": packed[0].new_zeros(given.n_embd),
            "W_in": mlp.fc_in.weight.T,
            "b_in": mlp.fc_in.bias,
            "W_out": mlp.fc_out.weight.T,
            "b_out": mlp.fc_out.bias,
        }
        for norm in ("norm_attention", "norm_mlp"):  # the source has one norm; here each reader has a copy
            own |= {f"{norm}.weight": block.ln_1.weight, f"{norm}.bias": block.ln_1.bias}
        weights |= {f"blocks.{layer}.{name}": weight for name, weight in own.items()}
    return config, weights
