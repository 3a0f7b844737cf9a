"""Feature dictionaries from files of the libraries that train them, each encoded and decoded as its own code does.

SAELens
    A folder with ``cfg.json`` and ``sae_weights.safetensors`` (this project writes the same). The settings say all.
sparsify of EleutherAI
    A folder with ``cfg.json`` and ``sae.safetensors``: the k largest of relu((x - b_dec) @ encoder.weight.T +
    encoder.bias); a transcoder takes no b_dec off.
dictionary_learning
    One file ``NAME.safetensors``. ``bias`` (AutoEncoder) and ``decoder_bias`` (GatedAutoEncoder) are taken off the
    input and added to the output, ``decoder.bias`` (AutoEncoderNew) is only added.
circuit-tracer, Gemma Scope
    One file with ``W_enc``, ``b_enc``, ``W_dec`` and ``b_dec``, which is only added, and a threshold or ``W_skip``.
sparse_autoencoder of OpenAI
    One file with ``pre_bias``, which is taken off and added, and ``latent_bias``. It does not say the activation.

What a file's names do not say, a ``cfg.json`` beside it in a folder of their own says in the words of SAELens
(``architecture``, ``apply_b_dec_to_input``, ``k``); without it such a file is refused. Nothing is unpickled.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, StrictBool
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...errors import ModelError
from ...reading import checked, read_json, reading
from ..features.dictionary import FeatureActivation, FeatureDictionary
from ..features.site import Site
from .folder import header

DICTIONARY_WEIGHTS, SETTINGS = "sae_weights.safetensors", "cfg.json"
_COUNTS = ("k", "group_sizes", "stats_last_nonzero")  # of dictionary_learning and OpenAI
_OF_FOLDERS = (DICTIONARY_WEIGHTS, "sae.safetensors")
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
    "decoder_bias": "b_dec",
    "gate_bias": "b_gate",
    "mag_bias": "b_enc",
    "activation_function.threshold": "threshold",
}
_CENTRED = ("bias", "decoder_bias", "pre_bias")  # biases of decoders that their libraries take off the input, too
_NEVER_CENTRED = ("decoder.bias",)
_SPARSIFY_K = 32  # where cfg.json leaves it out
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
    """The keys of ``cfg.json`` that change what a feature computes, of SAELens unless said otherwise."""

    model_config = ConfigDict(extra="ignore")
    architecture: str | None = None
    k: int | None = Field(None, ge=0, strict=True)
    apply_b_dec_to_input: StrictBool | None = None
    normalize_activations: str = "none"
    rescale_acts_by_decoder_norm: StrictBool = False
    activation_fn: str = "relu"
    activation_fn_str: str | None = None
    activation_fn_kwargs: _Arguments = _Arguments()
    hook_name: str | None = None
    metadata: _Metadata = _Metadata()
    labels: tuple[str, ...] = ()
    d_sae: int | None = None
    expansion_factor: int | None = None  # of sparsify, as those below are
    activation: str = "topk"
    transcode: StrictBool = False
    signed: StrictBool = False

    @property
    def of_sparsify(self) -> bool:
        return self.architecture is None and self.d_sae is None and self.expansion_factor is not None


_ARCHITECTURES: dict[str, FeatureActivation] = {
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
            a normalisation that cannot be computed here, or files that do not say what is to be computed.
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
    own = path.is_dir() or weights.name in _OF_FOLDERS  # a file of this name has its settings beside it
    beside = weights.with_name(SETTINGS)
    settings = _settings(beside) if own and beside.is_file() else None
    header(weights, _COUNTS)  # says what is wrong with it before anything is read
    with reading(weights, ModelError):
        stored = load_file(weights)
    state = _named(stored, weights)
    convention = _convention(stored, settings, weights)
    hook = None if settings is None else settings.metadata.hook_name or settings.hook_name
    return _dictionary(state, convention, settings, weights), None if hook is None else Site.parse(hook)


def _named(stored: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors under this project's names. Raises ModelError where two have one name, or one is missing."""
    names: dict[str, str] = {}
    for name in stored:
        ours = _OTHER_NAMES.get(name, name)
        if ours in names:
            raise ModelError(f"{path}: {names[ours]} and {name} are both what is called {ours} here; keep one of them.")
        names[ours] = name
    missing = {"W_enc", "b_enc", "W_dec", "b_dec"} - names.keys()
    if missing:
        raise ModelError(
            f"{path}: {', '.join(sorted(missing))} missing; it holds {', '.join(sorted(names)) or 'nothing'}."
        )
    return {
        ours: stored[name].T if name in _LINEAR and stored[name].ndim == 2 else stored[name]
        for ours, name in names.items()
    }


@dataclass(frozen=True)
class _Convention:
    """What a file's library computes: the activation, the features kept by ``topk``, and whether b_dec is taken off the
    input."""

    activation: FeatureActivation
    k: int
    centred: bool


def _convention(stored: dict[str, Tensor], settings: _Settings | None, path: Path) -> _Convention:
    """What is computed, by the settings, or where there are none by the names that the file's library gives.

    Raises ModelError where neither says it.
    """
    centred = True if stored.keys() & set(_CENTRED) else False if stored.keys() & set(_NEVER_CENTRED) else None
    if settings is not None and settings.of_sparsify:
        return _Convention("topk", _SPARSIFY_K if settings.k is None else settings.k, not settings.transcode)
    if settings is not None:
        named = settings.activation_fn_str or settings.activation_fn
        architecture = settings.architecture or "standard"
        activation: FeatureActivation = "topk" if named == "topk" else _ARCHITECTURES[architecture]
        if settings.apply_b_dec_to_input is not None:
            centred = settings.apply_b_dec_to_input
        elif centred is None:
            centred = "transcoder" not in architecture
        return _Convention(activation, settings.k or settings.activation_fn_kwargs.k, centred)
    encoder, unsaid = stored.get("W_enc"), ""
    if encoder is not None and encoder.ndim == 2 and encoder.shape[0] == encoder.shape[1]:
        raise ModelError(
            f"{path}: W_enc is {encoder.shape[0]} by {encoder.shape[1]}, so that it does not say which side the "
            f"features are on; give a folder of SAELens, with {SETTINGS}."
        )
    if "pre_bias" in stored:
        unsaid = "whether its activation is ReLU or TopK, which OpenAI's files keep outside of the weights"
    elif "k" in stored or ("threshold" in stored and stored["threshold"].ndim == 0):
        unsaid = "whether it keeps the k largest of each input or those above its threshold"
    elif "encoder.weight" in stored and "W_dec" in stored:
        unsaid = "how many features are kept for each input"
    elif path.name == DICTIONARY_WEIGHTS or "b_gate" in stored or (centred is None and "encoder.weight" in stored):
        unsaid = "whether b_dec is taken off the input"
    if unsaid:
        raise ModelError(
            f"{path} does not say {unsaid}; put it in a folder of its own with a {SETTINGS} of SAELens, which states "
            f"architecture, apply_b_dec_to_input and, for topk, k."
        )
    if "gate_bias" in stored:
        return _Convention("gated", 0, True)
    threshold = "threshold" in stored or "activation_function.threshold" in stored
    return _Convention("jumprelu" if threshold else "relu", 0, bool(centred))


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
    if settings.architecture is not None and settings.architecture not in _ARCHITECTURES:
        known = ", ".join(sorted(_ARCHITECTURES))
        raise ModelError(f"{path}: the architecture {settings.architecture!r} is not computed here; known are {known}.")
    named = settings.activation_fn_str or settings.activation_fn
    if named not in ("relu", "topk", settings.architecture):
        raise ModelError(f"{path}: the activation {named!r} is not computed here; known are relu and topk.")
    if settings.of_sparsify and (settings.activation != "topk" or settings.signed):
        kind = "signed topk" if settings.signed else settings.activation
        raise ModelError(f"{path}: the activation {kind!r} of sparsify is not computed here; known is topk.")
    if settings.architecture is None and not settings.of_sparsify and settings.k and named != "topk":
        raise ModelError(f"{path} gives k={settings.k} and no architecture; state it, for example topk.")
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


def _dictionary(
    state: dict[str, Tensor], convention: _Convention, settings: _Settings | None, path: Path
) -> FeatureDictionary:
    state = {name: tensor.float() for name, tensor in state.items()}
    if "threshold" in state and state["threshold"].ndim == 0:  # one for all features
        state["threshold"] = state["threshold"].expand(state["b_enc"].shape)
    for name, dimensions in _DIMENSIONS.items():
        if name in state and state[name].ndim != dimensions:
            raise ModelError(
                f"{path}: {name} has shape {tuple(state[name].shape)}, and a dictionary's has {dimensions} sides."
            )
    n_features, width = len(state["b_enc"]), len(state["b_dec"])
    W_dec = _oriented(state["W_dec"], 0, n_features, 1, width)
    W_enc, b_enc = _oriented(state["W_enc"], 1, n_features, 0, None), state["b_enc"]
    if settings is not None and settings.rescale_acts_by_decoder_norm:
        norms = W_dec.norm(dim=1)
        W_enc, b_enc, W_dec = W_enc * norms, b_enc * norms, W_dec / norms.clamp_min(1e-12)[:, None]
    skip, gated = state.get("W_skip"), convention.activation == "gated" and state.keys() >= {"b_gate", "r_mag"}
    return FeatureDictionary(
        W_enc,
        b_enc,
        W_dec,
        state["b_dec"],
        convention.activation,
        threshold=state.get("threshold") if convention.activation == "jumprelu" else None,
        k=convention.k,
        centred=convention.centred and W_enc.shape[0] == width,
        gate=(state["b_gate"], state["r_mag"]) if gated else None,
        W_skip=None if skip is None else skip.T,
        labels=() if settings is None else settings.labels,
    )


def _oriented(matrix: Tensor, axis: int, length: int, other: int, width: int | None) -> Tensor:
    """The matrix, transposed where needed to have ``length`` on ``axis``: libraries differ. A square one is kept."""
    right = matrix.shape[axis] == length and (width is None or matrix.shape[other] == width)
    return matrix if right or matrix.shape[other] != length else matrix.T.contiguous()
