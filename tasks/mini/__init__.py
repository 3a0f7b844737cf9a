"""Small models of GPT-2's architecture that are trained here and ship with the package.

``names()`` lists them, and ``transformers`` opens ``folder(name)``. ``python -m circuitmeter.tasks.mini.train`` trains
one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from ...suite.errors import ModelError, unknown
from ...suite.reading import checked, read_json
from .shipped import ShippedModel

FAMILY_NAME = "mini"  # every name begins with it
MINI_WEIGHTS = Path(__file__).parent / "weights"


def manifest(weights: Path = MINI_WEIGHTS) -> dict[str, ShippedModel]:
    """The entry of every shipped model in the manifest, by name."""
    path = weights / "manifest.json"
    contents = read_json(path, error=ModelError) if path.is_file() else {}
    return {name: checked(ShippedModel, entry, path, ModelError) for name, entry in contents.items()}


def names() -> list[str]:
    """The shipped models: ``mini``, ``mini-seed1``, ..."""
    return sorted(manifest())


def learnt(name: str) -> list[str]:
    """The tasks that a shipped model was trained on, without their variants."""
    return [course.task.partition("@")[0] for course in manifest()[name].recipe.courses]


def folder(name: str) -> Path:
    """The folder of a shipped model. Raises ModelError for an unknown name or a damaged file."""
    known = manifest()
    if name not in known:
        raise ModelError(unknown("mini model", name, known))
    for file, expected in known[name].files.items():
        path = MINI_WEIGHTS / name / file
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            raise ModelError(f"{path} is missing or damaged (its SHA-256 differs from the manifest); reinstall.")
    return MINI_WEIGHTS / name
