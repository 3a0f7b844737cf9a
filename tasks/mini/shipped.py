"""What is said of a model that ships with the package: an entry of ``weights/manifest.json``."""

from __future__ import annotations

from ...suite.json_model import Kept
from .recipe import MiniRecipe


class ShippedModel(Kept):
    """A shipped model.

    seed, steps: of its training, and how many steps that took. parameters: how many it has. accuracy: split -> task ->
    share of the prompts that it answers. files: name -> SHA-256.
    """

    seed: int
    steps: int
    parameters: int
    recipe: MiniRecipe
    accuracy: dict[str, dict[str, float]]
    files: dict[str, str]
