"""The hash that identifies a model: of its whole configuration, and of every weight as it is stored."""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, Field, fields

import torch
from torch import nn

from .block import Config


def content_hash(model: nn.Module) -> str:
    """16 hex digits of a transformer's configuration and of its weights' names, dtypes, shapes and bytes, read now.

    ``Transformer.content_hash`` calls this, and adds the dictionaries where features are nodes. Computed again later,
    it tells whether somebody has changed the model in between.
    """
    digest = hashlib.sha256(_written(model.config))
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _written(config: Config) -> bytes:
    """Every field that differs from its default, by name: a new field with a default then changes no model's hash."""
    stated = {field.name: getattr(config, field.name) for field in fields(config)}
    own = {field.name: stated[field.name] for field in fields(config) if stated[field.name] != _default(field)}
    return json.dumps(own, sort_keys=True, allow_nan=False, default=str).encode()


def _default(field: Field) -> object:
    return field.default_factory() if field.default_factory is not MISSING else field.default
