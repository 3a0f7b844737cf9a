"""Feature dictionaries from files: SAELens's folders, circuit-tracer's transcoder files, and plain state dicts.

A folder holds ``cfg.json`` and ``sae_weights.safetensors`` (SAELens; this project writes the same). One file
``NAME.safetensors`` is a transcoder of circuit-tracer or a plain state dict. Nothing is unpickled.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...errors import ModelError
from ...reading import checked, read_json, reading
from ..features.dictionary import FeatureDictionary
from ..features.site import Site
from .folder import header

DICTIONARY_WEIGHTS, SETTINGS = "sae_weights.safetensors", "cfg.json"
_LARGEST_SETTINGS = 1_000_000  # bytes; a cfg.json of SAELens has about 2,000
_OTHER_NAMES = {
    "encoder.weight": "W_enc",
    "encoder.bias": "b_enc",
    "decoder.weight": "W_dec",
    "decoder.bias": "b_dec",
    "bias": "b_dec",
    "pre_bias": "b_dec",
    "latent_bias": "b_enc",
    "b_dec_out": "b_dec",
    "b_mag": "b_enc",
    "activation_function.threshold": "threshold",
}
_LINEAR = ("encoder.weight", "decoder.weight")  # of torch's Linear, which stores its outputs first
_DIMENSIONS = {"W_enc": 2, "W_dec": 2, "W_skip": 2} | dict.fromkeys(
    ("b_enc", "b_dec", "b_gate", "r_mag", "threshold"), 1
)


class _Metadata(BaseModel):
    model_config = ConfigDict(extra="ignore")
    hook_name: str | None = None


class _Arguments(BaseModel):
    """The arguments of the activation function."""

    model_config = ConfigDict(extra="ignore")
    k: int = Field(default=0, ge=0, strict=True)


class _Settings(BaseModel):
    """The keys of SAELens's ``cfg.json`` that change what a feature computes."""

    model_config = ConfigDict(extra="ignore")
    architecture: str = "standard"
    k: int = Field(0, ge=0, strict=True)
    apply_b_dec_to_input: StrictBool = True
    normalize_activations: str = "none"
    rescale_acts_by_decoder_norm: StrictBool = False
    activation_fn: str = "relu"
    activation_fn_str: str | None = None
    activation_fn_kwargs: _Arguments = _Arguments()
    hook_name: str | None = None
    metadata: _Metadata = _Metadata()
    labels: tuple[str, ...] = ()


_ARCHITECTURES: dict[str, Literal["relu", "jumprelu", "topk", "gated", "identity"]] = {
    "standard": "relu",
    "transcoder": "relu",
    "skip_transcoder": "relu",
    "jumprelu": "jumprelu",
    "jumprelu_transcoder": "jumprelu",
    "topk": "topk",
    "gated": "gated",
    "identity": "identity",
}


def load_dictionary(path: str | Path) -> tuple[FeatureDictionary, Site | None]:
    """A dictionary, and the site that its files name, or ``None`` when they name no site.

    Raises:
        ModelError: no such file, a damaged or pickled file, weights that are missing or do not fit, an architecture or
            a normalisation that cannot be computed here.
    """
    path = Path(path)
    if not os.path.exists(path):  # False for what is too long for a path
        raise ModelError(f"{path} does not exist; give a folder of SAELens or a .safetensors file.")
    weights = path / DICTIONARY_WEIGHTS if path.is_dir() else path
    if path.is_dir() and not weights.is_file():
        found = sorted(path.glob("*.safetensors"))
        if len(found) != 1:
            raise ModelError(
                f"{path}: {DICTIONARY_WEIGHTS} is missing; a dictionary's folder holds it beside {SETTINGS}."
            )
        weights = found[0]
    if weights.suffix != ".safetensors":
        raise ModelError(f"{path}: a dictionary is a folder of SAELens or a .safetensors file; pickles are never read.")
    settings = _settings(path / SETTINGS) if path.is_dir() and (path / SETTINGS).is_file() else None
    header(weights)  # says what is wrong with it before anything is read
    with reading(weights, ModelError):
        stored = load_file(weights)
    linear = {name: tensor.T for name, tensor in stored.items() if name in _LINEAR and tensor.ndim == 2}
    state = {_OTHER_NAMES.get(name, name): tensor for name, tensor in (stored | linear).items()}
    encoder = stored.get("W_enc")
    if settings is None and encoder is not None and encoder.ndim == 2 and encoder.shape[0] == encoder.shape[1]:
        raise ModelError(
            f"{weights}: W_enc is {encoder.shape[0]} by {encoder.shape[1]}, so that it does not say which side the "
            f"features are on; give a folder of SAELens, with {SETTINGS}."
        )
    hook = None if settings is None else settings.metadata.hook_name or settings.hook_name
    return _dictionary(state, settings, weights), None if hook is None else Site.parse(hook)


def save_dictionary(dictionary: FeatureDictionary, folder: Path, site: Site) -> None:
    """Writes a dictionary in the format of SAELens, which can read it, too."""
    names = {"relu": "standard"}
    settings = {
        "architecture": names.get(dictionary.activation, dictionary.activation),
        "d_in": dictionary.d_in,
        "d_sae": dictionary.n_features,
        "apply_b_dec_to_input": dictionary.centred,
        "normalize_activations": "none",
        "k": dictionary.k,
        "metadata": {"hook_name": hook_name(site)},
        "labels": list(dictionary.labels),
    }
    state = {name: getattr(dictionary, name) for name in ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")}
    state["W_skip"] = None if dictionary.W_skip is None else dictionary.W_skip.T
    if dictionary.gate is not None:
        state |= {"b_gate": dictionary.gate[0], "r_mag": dictionary.gate[1], "b_mag": state.pop("b_enc")}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: part.contiguous() for name, part in state.items() if part is not None}, folder / DICTIONARY_WEIGHTS
    )
    (folder / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def hook_name(site: Site) -> str:
    """The site as TransformerLens and SAELens call it."""
    hooks = {"z": "attn.hook_z", "transcoder": "ln2.hook_normalized"}
    return f"blocks.{site.layer}.{hooks.get(site.place, f'hook_{site.place}')}"


def _settings(path: Path) -> _Settings:
    settings = checked(_Settings, read_json(path, at_most=_LARGEST_SETTINGS, error=ModelError), path, ModelError)
    if settings.architecture not in _ARCHITECTURES:
        known = ", ".join(sorted(_ARCHITECTURES))
        raise ModelError(f"{path}: the architecture {settings.architecture!r} is not computed here; known are {known}.")
    if settings.normalize_activations not in ("none", "expected_average_only_in"):
        raise ModelError(
            f"{path}: normalize_activations={settings.normalize_activations!r} scales each input by itself, which is "
            "not computed here; use a dictionary without it."
        )
    if settings.normalize_activations == "expected_average_only_in":
        raise ModelError(
            f"{path}: its inputs are scaled by a number that is not in the file; fold it into the weights "
            "(fold_activation_norm_scaling_factor in SAELens) and save it again."
        )
    return settings


def _dictionary(state: dict[str, Tensor], settings: _Settings | None, path: Path) -> FeatureDictionary:
    missing = {"W_enc", "b_enc", "W_dec", "b_dec"} - state.keys()
    if missing:
        raise ModelError(
            f"{path}: {', '.join(sorted(missing))} missing; it holds {', '.join(sorted(state)) or 'nothing'}."
        )
    state = {name: tensor.float() for name, tensor in state.items()}
    for name, dimensions in _DIMENSIONS.items():
        if name in state and state[name].ndim != dimensions:
            raise ModelError(
                f"{path}: {name} has shape {tuple(state[name].shape)}, and a dictionary's has {dimensions} sides."
            )
    n_features, width = len(state["b_enc"]), len(state["b_dec"])
    W_dec = _oriented(state["W_dec"], 0, n_features, 1, width)
    W_enc = _oriented(state["W_enc"], 1, n_features, 0, None)
    activation = "relu" if settings is None else _ARCHITECTURES[settings.architecture]
    if settings is None and "threshold" in state:
        activation = "jumprelu"
    if settings is None and "b_gate" in state:
        activation = "gated"
    k, b_enc = 0, state["b_enc"]
    if settings is not None:
        named = settings.activation_fn_str or settings.activation_fn
        k = settings.k or settings.activation_fn_kwargs.k
        activation = "topk" if named == "topk" else activation
        if settings.rescale_acts_by_decoder_norm:
            norms = W_dec.norm(dim=1)
            W_enc, b_enc, W_dec = W_enc * norms, b_enc * norms, W_dec / norms.clamp_min(1e-12)[:, None]
    skip = state.get("W_skip")
    return FeatureDictionary(
        W_enc,
        b_enc,
        W_dec,
        state["b_dec"],
        activation,
        threshold=state.get("threshold"),
        k=k,
        centred=settings is not None and settings.apply_b_dec_to_input and W_enc.shape[0] == width,
        gate=(state["b_gate"], state["r_mag"]) if activation == "gated" and "r_mag" in state else None,
        W_skip=None if skip is None else skip.T,
        labels=() if settings is None else settings.labels,
    )


def _oriented(matrix: Tensor, axis: int, length: int, other: int, width: int | None) -> Tensor:
    """The matrix, transposed where needed to have ``length`` on ``axis``: libraries differ. A square one is kept."""
    right = matrix.shape[axis] == length and (width is None or matrix.shape[other] == width)
    return matrix if right or matrix.shape[other] != length else matrix.T.contiguous()
