"""From Hugging Face models to the patchable transformer, exactly: float64 logits agree to 1e-10."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..errors import ModelError
from .graph import InputNodes
from .transformer import Config, Transformer

if TYPE_CHECKING:
    from transformers import GPT2Config, PreTrainedModel

_GPT2_ACTIVATIONS = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "linear": "identity",
}


def from_huggingface(
    source: PreTrainedModel, *, inputs: InputNodes = "token", dtype: torch.dtype | None = None
) -> Transformer:
    """Converts a loaded causal language model; dropout is left out and weights are copied.

    Args:
        source: a ``transformers`` model with a language-model head.
        inputs: which input nodes the graph has.
        dtype: of the result; the source's when omitted.

    Raises:
        ModelError: an architecture or option that is not converted, with those that are.
    """
    kind = source.config.model_type
    if kind not in CONVERTERS:
        raise ModelError(f"a model of type {kind!r} cannot be converted; {', '.join(CONVERTERS)} can.")
    if source.get_output_embeddings() is None:
        raise ModelError(f"{type(source).__name__} has no language-model head; load it as a causal language model.")
    config, weights = CONVERTERS[kind](source)
    model = Transformer(config, inputs)
    model.load_state_dict(weights)
    return model.to(dtype=dtype or source.dtype, device=source.device).eval()


def _gpt2(source: PreTrainedModel) -> tuple[Config, dict[str, torch.Tensor]]:
    given: GPT2Config = source.config
    if given.activation_function not in _GPT2_ACTIVATIONS:
        raise ModelError(
            f"GPT-2 with activation {given.activation_function!r} cannot be converted; "
            f"{', '.join(_GPT2_ACTIVATIONS)} can."
        )
    # These two change what attention computes; no released GPT-2 sets them.
    if given.scale_attn_by_inverse_layer_idx or given.add_cross_attention:
        raise ModelError("GPT-2 with scale_attn_by_inverse_layer_idx or cross attention cannot be converted.")
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
        activation=_GPT2_ACTIVATIONS[given.activation_function],
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
    # GPT-2's Conv1D stores [in, out], as here; its c_attn packs all q heads, then k, then v, as here.
    names = {
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
    for layer in range(config.n_layers):
        for ours, theirs in names.items():
            weights[f"blocks.{layer}.{ours}"] = state[f"transformer.h.{layer}.{theirs}"]
    return config, weights


# One function an architecture: source model to (Config, state dict).
CONVERTERS = {"gpt2": _gpt2}
