"""What the conversions of several architectures share: activations, rotary frequencies, refused options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...errors import ModelError
from ..block import Activation

if TYPE_CHECKING:
    from torch import nn

_ACTIVATIONS: dict[str, Activation] = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "linear": "identity",
}
# Kinds whose frequencies change with the length of the prompt, so that no one configuration describes them.
_CHANGING_ROTATIONS = ("dynamic", "longrope")


def activation(name: str, model: str) -> Activation:
    """The engine's name of an activation. Raises ModelError for one that the engine lacks."""
    if name not in _ACTIVATIONS:
        raise ModelError(f"{model} with activation {name!r} cannot be converted; {', '.join(_ACTIVATIONS)} can.")
    return _ACTIVATIONS[name]


def refuse(model: str, **options: Any) -> None:
    """Raises ModelError for the first option that is set: none of them can be converted."""
    for name, value in options.items():
        if value:
            raise ModelError(f"{model} with {name}={value!r} cannot be converted.")


def rotations(embedding: nn.Module, model: str) -> dict[str, Any]:
    """The rotary fields of a Config, from the source's own rotary embedding. They cover every fixed kind of scaling.

    Raises:
        ModelError: a kind whose frequencies change with the prompt's length.
    """
    frequencies = fixed_rotations(embedding.inv_freq, getattr(embedding, "rope_type", "default"), model)
    return {
        "positions": "rotary",
        "rotary_dims": 2 * len(frequencies),
        "rotary_frequencies": frequencies,
        "rotary_scale": float(embedding.attention_scaling),
    }


def fixed_rotations(frequencies: Tensor, kind: str, model: str) -> tuple[float, ...]:
    """Rotary frequencies as numbers. Raises ModelError for a kind that changes them with the prompt's length."""
    if kind in _CHANGING_ROTATIONS:
        raise ModelError(
            f"{model} with rotary embeddings of type {kind!r} cannot be converted: their frequencies change with the "
            f"length of the prompt; default, linear, llama3 and yarn can."
        )
    return tuple(frequencies.double().tolist())


def reach(model: str, given: Any) -> dict[str, Any]:
    """The fields of a Config that say how far attention sees: the longest prompt, and layers' windows."""
    n_layers, most = given.num_hidden_layers, given.max_position_embeddings
    window = getattr(given, "sliding_window", None)
    if getattr(given, "use_sliding_window", True) is False:
        window = None
    kinds = getattr(given, "layer_types", None) or ["sliding_attention"] * n_layers
    refuse(model, layer_types=sorted(set(kinds) - {"full_attention", "sliding_attention"}))
    windows = tuple(window if kind == "sliding_attention" else None for kind in kinds)
    narrow = any(each is not None and each < most for each in windows)
    return {"n_positions": most, "windows": windows if narrow else None}


def joined(layers: list[nn.Module]) -> tuple[Tensor, Tensor]:
    """(weight [D, wide], bias [wide]) of linear layers side by side; zero bias where they have none."""
    weight = torch.cat([layer.weight.T for layer in layers], 1)
    return weight, torch.cat([bias_of(layer) for layer in layers])


def bias_of(layer: nn.Module) -> Tensor:
    """A linear layer's bias [out]; zeros where it has none."""
    return layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias
