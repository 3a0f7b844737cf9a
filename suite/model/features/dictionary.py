"""Dictionaries of features: sparse autoencoders and transcoders, which reconstruct an activation from features.

    activations = f(x @ W_enc + b_enc),   reconstruction = activations @ W_dec + b_dec (+ x @ W_skip)

The letters in the shape comments: D_in the width of the input, D the width of the output, K features.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from ...errors import ModelError

FeatureActivation = Literal["relu", "jumprelu", "topk", "gated", "identity"]


@dataclass(frozen=True, eq=False)
class FeatureDictionary:
    """The weights of a dictionary, and what its features compute.

    Args:
        W_enc, b_enc: [D_in, K] and [K], the encoder.
        W_dec, b_dec: [K, D] and [D], the decoder; a feature writes its activation times its row of W_dec.
        activation: ``relu``; ``jumprelu``: the pre-activation where it exceeds ``threshold`` [K], else 0; ``topk``:
            the ``k`` largest of the rectified pre-activations; ``gated``: see ``gate``; ``identity``: a linear
            dictionary, such as the directions of a compiled model.
        centred: whether ``b_dec`` is subtracted from the input, as some conventions of sparse autoencoders have it.
        gate: for ``gated``, (b_gate, r_mag), both [K]: relu(x @ (W_enc * exp(r_mag)) + b_enc) where
            x @ W_enc + b_gate > 0 (Rajamanoharan et al. 2024, arXiv:2404.16014).
        W_skip: [D_in, D], a transcoder's linear path past its features (Paulo et al. 2025, arXiv:2501.18823).
        labels: names of the features, for drawings.

    Raises:
        ModelError: shapes that do not fit together, numbers that are not finite, or an unknown activation.
    """

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    activation: FeatureActivation = "relu"
    threshold: Tensor | None = None
    k: int = 0
    centred: bool = False
    gate: tuple[Tensor, Tensor] | None = None
    W_skip: Tensor | None = None
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.activation not in get_args(FeatureActivation):
            known = ", ".join(get_args(FeatureActivation))
            raise ModelError(f"a dictionary with the activation {self.activation!r}; known are {known}.")
        if self.W_enc.ndim != 2 or self.W_dec.ndim != 2:
            raise ModelError("a dictionary's encoder is a matrix [d_in, features] and its decoder [features, d_out].")
        features, width = self.W_dec.shape
        wanted = {"W_enc": (self.W_enc.shape[0], features), "b_enc": (features,), "b_dec": (width,)}
        if self.activation == "jumprelu":
            wanted["threshold"] = (features,)
        if self.W_skip is not None:
            wanted["W_skip"] = (self.W_enc.shape[0], width)
        for name, shape in wanted.items():
            tensor = getattr(self, name)
            if tensor is None or tuple(tensor.shape) != shape:
                found = "is missing" if tensor is None else f"has shape {tuple(tensor.shape)}"
                raise ModelError(f"a dictionary's {name} {found}; with this decoder it is {shape}.")
        if self.activation == "topk" and not 0 < self.k <= features:
            raise ModelError(f"a topk dictionary keeps k={self.k} of {features} features; give 1 to {features}.")
        if self.activation == "gated" and (
            self.gate is None or any(tuple(part.shape) != (features,) for part in self.gate)
        ):
            raise ModelError(f"a gated dictionary has b_gate and r_mag, each of shape ({features},).")
        if self.centred and self.W_enc.shape[0] != width:
            raise ModelError("only a dictionary that reads what it writes can take its decoder bias off its input.")
        if self.labels and len(self.labels) != features:
            raise ModelError(f"{len(self.labels)} labels for {features} features.")
        for name, tensor in self._tensors.items():
            if not bool(tensor.isfinite().all()):
                raise ModelError(f"a dictionary's {name} holds numbers that are NaN or infinite.")

    @property
    def n_features(self) -> int:
        return self.W_dec.shape[0]

    @property
    def d_in(self) -> int:
        return self.W_enc.shape[0]

    @property
    def d_out(self) -> int:
        return self.W_dec.shape[1]

    @property
    def _tensors(self) -> dict[str, Tensor]:
        parts = {name: getattr(self, name) for name in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold", "W_skip")}
        parts |= dict(zip(("b_gate", "r_mag"), self.gate or (), strict=False))
        return {name: part for name, part in parts.items() if part is not None}

    @cached_property
    def hash(self) -> str:
        """``content_hash``, computed once."""
        return self.content_hash()

    def content_hash(self) -> str:
        """16 hex digits of everything that changes what a feature computes (labels do not), read now."""
        digest = hashlib.sha256(f"{self.activation},{self.k},{self.centred}".encode())
        for name, tensor in sorted(self._tensors.items()):
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().double().numpy().tobytes())
        return digest.hexdigest()[:16]

    def to(self, like: Tensor) -> FeatureDictionary:
        """The dictionary on the device and in the dtype of ``like``."""
        moved = {name: part.to(like) for name, part in self._tensors.items() if name not in ("b_gate", "r_mag")}
        return replace(self, **moved, gate=None if self.gate is None else tuple(part.to(like) for part in self.gate))

    def encode(self, x: Tensor, features: Tensor | slice = slice(None)) -> Tensor:
        """Activations of ``features`` (all unless given) on [..., D_in]: [..., k]."""
        if self.activation == "topk":  # which are the largest depends on all features
            return self._largest(x)[..., features]
        return self._activated(self._read(x) @ self.W_enc[:, features], features)

    def encode_each(self, x: Tensor, features: Tensor) -> Tensor:
        """Activations [k, ...] of ``features`` [k], each on an input of its own, x [k, ..., D_in]."""
        if self.activation == "topk":
            index = features.view(-1, *[1] * (x.ndim - 1)).expand(*x.shape[:-1], 1)
            return self._largest(x).gather(-1, index)[..., 0]
        before = self._read(x).flatten(1, -2).bmm(self.W_enc[:, features].T[..., None])[..., 0]  # [k, n]
        return self._activated(before.T, features).T.reshape(x.shape[:-1])

    def _read(self, x: Tensor) -> Tensor:
        return x - self.b_dec if self.centred else x

    def _largest(self, x: Tensor) -> Tensor:
        found = (self._read(x) @ self.W_enc + self.b_enc).relu()
        return found * torch.zeros_like(found).scatter(-1, found.topk(self.k, dim=-1).indices, 1.0)

    def _activated(self, before: Tensor, features: Tensor | slice) -> Tensor:
        """Activations [..., k] from the products with the encoder, bias not yet added."""
        bias = self.b_enc[features]
        match self.activation:
            case "relu":
                return (before + bias).relu()
            case "jumprelu" if self.threshold is not None:
                return (before + bias).relu() * (before + bias > self.threshold[features])
            case "gated" if self.gate is not None:
                b_gate, r_mag = (part[features] for part in self.gate)
                return (before * r_mag.exp() + bias).relu() * (before + b_gate > 0)
            case _:
                return before + bias

    def decode(self, activations: Tensor, features: Tensor | slice = slice(None)) -> Tensor:
        """What ``features`` together write, without the bias: [..., D] from activations [..., k]."""
        return activations @ self.W_dec[features]

    def reconstruct(self, x: Tensor) -> Tensor:
        """The reconstruction [..., D] of an input [..., D_in], with the bias and the linear path."""
        skip = 0 if self.W_skip is None else x @ self.W_skip
        return self.decode(self.encode(x)) + self.b_dec + skip
