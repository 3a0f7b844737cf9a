"""The entry of a model that ships with the package in ``weights/manifest.json``."""

from __future__ import annotations

from ...suite.json_model import Kept
from .recipe import MiniRecipe


class ShippedModel(Kept):
    """A shipped model.

    seed: of its training. steps: how many steps the training took. parameters: how many parameters the model has.
    accuracy: split -> task -> share of the prompts that it answers. files: name -> SHA-256.
    """

    seed: int
    steps: int
    parameters: int
    recipe: MiniRecipe
    accuracy: dict[str, dict[str, float]]
    files: dict[str, str]
