"""The key of a result: a hash of its identity, which is everything that changes a number and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# Increased when a change of the engine, the scoring or an identity changes the content or the keys of older cells.
KEY_VERSION = 3
# Key version -> why results of earlier versions are not reused.
CHANGES = {
    2: "a model's hash covers its whole configuration, where it covered its weights and three fields",
    3: "at the true size tied edges count by their share of true ones, where the first in the list were taken",
}


def key_of(identity: Mapping[str, Any]) -> str:
    """The first 16 hex digits of the SHA-256 of an identity's canonical JSON (sorted keys, no spaces).

    >>> key_of({"task": "tracr/reverse", "seed": None}) == key_of({"seed": None, "task": "tracr/reverse"})
    True
    """
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def why_not_reused(key_version: int) -> str | None:
    """Why a cell of this key version is kept but not reused; ``None`` for a cell of the present version."""
    reasons = [reason for version, reason in CHANGES.items() if version > key_version]
    if not reasons:
        return None
    return f"made under key version {key_version}, and this is {KEY_VERSION}: {'; '.join(reasons)}"
