"""Models whose circuits are known: ``names()`` lists them, ``load(name)`` gives one with its certified truth."""

from .truth import GroundTruth, load, names

__all__ = ["GroundTruth", "load", "names"]
