"""Models whose circuits are known: ``names()`` lists them, ``load(name)`` gives one with its certified truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .truth import GroundTruth, load, names

__all__ = ["GroundTruth", "load", "names"]


def __getattr__(name: str) -> Any:
    """Imported when first used: they need torch, and certificates are read without it."""
    if name not in __all__:
        raise AttributeError(f"circuitmeter.ground_truth has no {name!r}; it has {', '.join(__all__)}.")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.truth"), name)
