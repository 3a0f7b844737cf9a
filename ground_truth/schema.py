"""What ``model.json`` and ``certificate.json`` must hold, checked when a folder is read: it may be anybody's.

The content itself stays as it was written, because a certificate's hash is over all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from ..suite.errors import ModelError
from ..suite.model.graph import InputNodes
from ..suite.model.transformer import Config
from ..suite.reading import checked, shown

Count = Annotated[int, Field(ge=0, strict=True)]
Some = Annotated[int, Field(ge=1, strict=True)]
Flag = Annotated[bool, Field(strict=True)]
_SIDES = ("d_model", "d_head", "d_vocab", "d_out", "n_positions", "n_heads", "n_layers")
_OR_NONE = ("d_mlp", "rotary_dims", "n_kv_heads")  # 0, or null, where the model has none
_MARGIN = 16


class _Graph(BaseModel):
    model_config = ConfigDict(extra="forbid")
    n_layers: Some
    n_heads: Some
    inputs: InputNodes
    mlps: Flag = True
    parallel: Flag = False
    hash: str | None = None


class _Domain(BaseModel):
    kind: str
    lengths: Annotated[list[Count], Field(min_length=1)]
    n_inputs: Some
    n_outputs: Some
    enumerated: Flag
    hash: str


class _Claim(BaseModel):
    core: list[str]
    optional: list[str]
    witnesses: dict[str, Annotated[list[Count], Field(min_length=1, max_length=2)]]


class _Certificate(BaseModel):
    graph: _Graph
    domain: _Domain
    ablations: dict[str, _Claim]
    structural: list[str]
    weights: str
    n_edges: Count
    n_structural: Count


class _Model(BaseModel):
    config: Config
    inputs: InputNodes
    family: str
    description: str
    writers: dict[str, list[str]]


def check_certificate(content: Mapping[str, Any], file: Path) -> None:
    """Raises ModelError for a certificate that lacks a part, or has one of another type."""
    found = checked(_Certificate, content, file, ModelError)
    for name, claim in found.ablations.items():
        if outside := [row for rows in claim.witnesses.values() for row in rows if row >= found.domain.n_inputs]:
            raise ModelError(
                f"{file}: a witness of {name} is input {outside[0]}, and there are {found.domain.n_inputs}."
            )


def check_model(
    content: Mapping[str, Any], file: Path, certificate: Mapping[str, Any], state: Mapping[str, Any]
) -> None:
    """Raises ModelError for a model.json that lacks a part, or is of another size than its weights or certificate."""
    config = checked(_Model, content, file, ModelError).config
    if more := sorted(set(content["config"]) - {field.name for field in fields(Config)}):
        raise ModelError(f"{file}: config has no key {shown(more[0])}.")
    graph = certificate["graph"]
    largest = max((side for weight in state.values() for side in weight.shape), default=0)
    for name in (*_SIDES, *_OR_NONE):
        size = content["config"].get(name, getattr(config, name))
        whole = isinstance(size, int) and not isinstance(size, bool)
        if not (size is None and name == "n_kv_heads") and not (whole and _least(name) <= size <= _MARGIN * largest):
            raise ModelError(f"{file} asks for {name} = {shown(size)}, and its weights have no such size.")
    if config.n_layers > len(state):
        raise ModelError(f"{file} asks for {config.n_layers:,} layers, and there are {len(state)} weights.")
    if (config.n_layers, config.n_heads) != (graph["n_layers"], graph["n_heads"]):
        raise ModelError(
            f"{file} has {config.n_layers} layers x {config.n_heads} heads, and its certificate is about "
            f"{graph['n_layers']:,} x {graph['n_heads']:,}."
        )


def _least(size: str) -> int:
    return 1 if size in (*_SIDES, "n_kv_heads") else 0
