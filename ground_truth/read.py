"""Reads ``model.json`` and ``certificate.json``, and checks them: the folder may be anybody's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..suite.errors import ModelError
from ..suite.model.transformer import Config
from ..suite.reading import checked, shown
from .certificate import Certificate
from .description import ModelDescription
from .files import read_truth_json

_SIDES = ("d_model", "d_head", "d_vocab", "d_out", "n_positions", "n_heads", "n_layers")
_OR_NONE = ("d_mlp", "rotary_dims", "n_kv_heads")  # 0, or null, where the model has none
_MARGIN = 16


def read_certificate(file: Path) -> Certificate:
    """Raises ModelError for a certificate that lacks a part, or has one of another type."""
    found = checked(Certificate, read_truth_json(file), file, ModelError)
    for name, claim in found.ablations.items():
        if outside := [row for rows in claim.witnesses.values() for row in rows if row >= found.domain.n_inputs]:
            raise ModelError(
                f"{file}: a witness of {name} is input {outside[0]}, and there are {found.domain.n_inputs}."
            )
    return found


def read_description(file: Path, certificate: Certificate, state: Mapping[str, Any]) -> ModelDescription:
    """Raises ModelError for a model.json that lacks a part, or is of another size than its weights or certificate.

    Args:
        state: the weights, by name.
    """
    content = read_truth_json(file)
    found = checked(ModelDescription, content, file, ModelError)
    stated, config, graph = content["config"], found.config, certificate.graph
    if more := sorted(set(stated) - {field.name for field in fields(Config)}):
        raise ModelError(f"{file}: config has no key {shown(more[0])}.")
    largest = max((side for weight in state.values() for side in weight.shape), default=0)
    for name in (*_SIDES, *_OR_NONE):
        size = stated.get(name, getattr(config, name))
        whole = isinstance(size, int) and not isinstance(size, bool)
        if not (size is None and name == "n_kv_heads") and not (whole and _least(name) <= size <= _MARGIN * largest):
            raise ModelError(f"{file} asks for {name} = {shown(size)}, and its weights have no such size.")
    if config.n_layers > len(state):
        raise ModelError(f"{file} asks for {config.n_layers:,} layers, and there are {len(state)} weights.")
    if (config.n_layers, config.n_heads) != (graph.n_layers, graph.n_heads):
        raise ModelError(
            f"{file} has {config.n_layers} layers x {config.n_heads} heads, and its certificate is about "
            f"{graph.n_layers:,} x {graph.n_heads:,}."
        )
    return found


def _least(size: str) -> int:
    return 1 if size in (*_SIDES, "n_kv_heads") else 0
