"""Checkpoints of TransformerLens, such as the attention-only models of the docstring task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...errors import ModelError
from ..block import NormKind
from ..graph import InputNodes
from ..transformer import Config, Transformer
from .huggingface import build_model
from .parts import activation, refuse

_SHAPE = ("n_layers", "n_heads", "d_model", "d_head", "n_ctx", "d_vocab")
_NORMS: dict[str | None, NormKind] = {"LN": "layer", "LNPre": "layer", "RMS": "rms", "RMSPre": "rms", None: "none"}
# Options that change the computation and cannot be converted. No released checkpoint of this kind sets one.
_REFUSED = (
    "final_rms",
    "gated_mlp",
    "n_key_value_heads",
    "use_local_attn",
    "scale_attn_by_inverse_layer_idx",
    "use_normalization_before_and_after",
)
_BUFFERS = ("mask", "IGNORE")


def is_transformer_lens(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is one of TransformerLens."""
    return "model_type" not in config and all(name in config for name in _SHAPE)


def from_transformer_lens(
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    *,
    inputs: InputNodes = "token",
    dtype: torch.dtype | None = None,
) -> Transformer:
    """Converts a checkpoint, with or without MLPs, with learned positions.

    Args:
        config: the content of its config.json, or of ``HookedTransformerConfig.to_dict``.
        state: its weights, by TransformerLens's names.
        inputs: which input nodes the graph has.
        dtype: of the result; the weights' own when omitted.

    Raises:
        ModelError: an option that is not converted, or a weight that is missing or unknown.
    """
    ours, kind = _config(config), _norm_type(config)
    left = {name: weight for name, weight in state.items() if name.rpartition(".")[2] not in _BUFFERS}

    def take(name: str) -> Tensor:
        if name not in left:
            raise ModelError(f"a TransformerLens checkpoint without the weight {name!r} cannot be converted.")
        return left.pop(name)

    def norm(theirs: str) -> dict[str, Tensor]:
        """Gain and bias of a norm: one and zero where they are folded into the weights behind it."""
        like = state["embed.W_E"].new_ones(ours.d_model)
        gain = {} if kind is None else {"weight": like if kind.endswith("Pre") else take(f"{theirs}.w")}
        bias = (
            {}
            if ours.norm != "layer" or kind is None
            else {"bias": 0 * like if kind.endswith("Pre") else take(f"{theirs}.b")}
        )
        return gain | bias

    weights = {
        "embed": take("embed.W_E"),
        "pos_embed": take("pos_embed.W_pos"),
        "unembed": take("unembed.W_U"),
        "unembed_bias": take("unembed.b_U"),
    }
    weights |= {f"norm_final.{part}": weight for part, weight in norm("ln_final").items()}
    for layer in range(ours.n_layers):
        at, its = f"blocks.{layer}", f"blocks.{layer}.attn"
        weights |= {f"{at}.norm_attention.{part}": weight for part, weight in norm(f"{at}.ln1").items()}
        weights |= {
            f"{at}.W_QKV": torch.cat([take(f"{its}.W_{part}").transpose(0, 1).flatten(1) for part in "QKV"], 1),
            f"{at}.b_QKV": torch.cat([take(f"{its}.b_{part}").flatten() for part in "QKV"]),
            f"{at}.W_O": take(f"{its}.W_O").flatten(0, 1),
            f"{at}.b_O": take(f"{its}.b_O"),
        }
        if ours.d_mlp:
            weights |= {f"{at}.norm_mlp.{part}": weight for part, weight in norm(f"{at}.ln2").items()}
            weights |= {f"{at}.{name}": take(f"{at}.mlp.{name}") for name in ("W_in", "b_in", "W_out", "b_out")}
    if left:
        raise ModelError(f"a TransformerLens checkpoint with a weight {min(left)!r} cannot be converted.")
    return build_model(ours, weights, inputs, copy=True).to(dtype=dtype or state["embed.W_E"].dtype).eval()


def outline_of_transformer_lens(config: Mapping[str, Any], *, inputs: InputNodes = "token") -> Transformer:
    """The model of a checkpoint's config.json, with weights on the meta device.

    Raises:
        ModelError: an option that is not converted.
    """
    with torch.device("meta"):
        return Transformer(_config(config), inputs).eval()


def _norm_type(config: Mapping[str, Any]) -> str | None:
    return config["normalization"] if "normalization" in config else config.get("normalization_type", "LN")


def _config(config: Mapping[str, Any]) -> Config:
    name = "a TransformerLens checkpoint"
    refuse(name, **{option: config.get(option) for option in _REFUSED})
    positions = "shortformer" if config.get("shortformer_pos") else config.get("positional_embedding_type", "standard")
    if positions == "shortformer":
        raise ModelError(
            f"{name} with Shortformer positions (redwood_attn_2l) cannot be converted: they are added to what queries "
            f"and keys read and not to the residual stream, so that no node writes them."
        )
    refuse(name, positional_embedding_type=positions if positions != "standard" else None)
    if _norm_type(config) not in _NORMS:
        refuse(name, normalization=_norm_type(config))
    attention_only = config.get("attn_only", False)
    return Config(
        n_layers=config["n_layers"],
        n_heads=config["n_heads"],
        d_model=config["d_model"],
        d_head=config["d_head"],
        d_mlp=0 if attention_only else config.get("d_mlp") or 4 * config["d_model"],
        d_vocab=config["d_vocab"],
        d_out=_given(config, "d_vocab_out", config["d_vocab"]),
        n_positions=config["n_ctx"],
        norm=_NORMS[_norm_type(config)],
        norm_eps=config.get("eps", 1e-5),
        activation="relu" if attention_only else activation(config["act_fn"], name),
        parallel=config.get("parallel_attn_mlp", False),
        causal=config.get("attention_dir", "causal") == "causal",
        attention_scale=_given(config, "attn_scale", None) if config.get("use_attn_scale", True) else 1.0,
        unembed_bias=True,
    )


def _given(config: Mapping[str, Any], name: str, otherwise: Any) -> Any:
    """A number that TransformerLens writes as -1 when it is not given. Its ``attn_scale`` is a divisor."""
    value = config.get(name, -1)
    if value is None or value < 0:
        return otherwise
    return 1 / value if name == "attn_scale" else value
