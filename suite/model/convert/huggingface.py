"""Loaded Hugging Face models: the choice of a converter, and the model made of what it returns."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...errors import ModelError
from ..graph import InputNodes
from ..transformer import Config, Transformer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Converter = Callable[[Any], tuple[Config, dict[str, Tensor]]]


def _converters() -> dict[str, Converter]:
    """The ``convert`` of each file in this folder that has ``MODEL_TYPES``, under each of those types.

    ``convert`` maps the source model to (Config, state dict); the weights may be the source's own tensors.
    """
    found: dict[str, Converter] = {}
    for name in sorted(module.name for module in iter_modules([str(Path(__file__).parent)])):
        if name not in _NOT_FAMILIES:
            family = import_module(f".{name}", __package__)
            found |= dict.fromkeys(family.MODEL_TYPES, family.convert)
    return found


_NOT_FAMILIES = ("check", "huggingface", "parts", "transformer_lens")
CONVERTERS = _converters()


def from_huggingface(
    source: PreTrainedModel, *, inputs: InputNodes = "token", dtype: torch.dtype | None = None, copy: bool = True
) -> Transformer:
    """Converts a loaded causal language model, without dropout.

    Args:
        source: a ``transformers`` model with a language-model head.
        inputs: which input nodes the graph has.
        dtype: of the result; the source's when omitted.
        copy: whether the result has weights of its own. Otherwise it shares those that keep their layout, which halves
            the largest memory use when the source is thrown away afterwards.

    Raises:
        ModelError: an architecture or an option that cannot be converted; the message has those that can.
    """
    kind = source.config.model_type
    if kind not in CONVERTERS:
        raise ModelError(f"a model of type {kind!r} cannot be converted; {', '.join(CONVERTERS)} can.")
    if source.get_output_embeddings() is None:
        raise ModelError(f"{type(source).__name__} has no language-model head; load it as a causal language model.")
    config, weights = CONVERTERS[kind](source)
    return build_model(config, weights, inputs, copy).to(dtype=dtype or source.dtype, device=source.device).eval()


def build_model(config: Config, weights: dict[str, Tensor], inputs: InputNodes, copy: bool) -> Transformer:
    """The model with this configuration and these weights, or copies of them."""
    with torch.device("meta"):
        model = Transformer(config, inputs)
    weights = {name: weight.detach().clone() if copy else weight.detach() for name, weight in weights.items()}
    model.load_state_dict(weights, assign=True)
    return model.requires_grad_(False)
