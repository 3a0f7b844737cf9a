"""Which dictionaries are trained, and how: what is varied, in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # reports read the widths, and need no torch
    from ...suite.model.features.training import TrainingRecipe

OF_PROGRAMS, OF_MINI, OF_SMOLLM2 = "tracr-rotated-dictionaries", "mini-dictionaries", "smollm2-dictionaries"
OF_MODELS = (OF_MINI, OF_SMOLLM2)  # names of models whose nodes are features
DICTIONARY_PROGRAMS = ("is_unique", "pointer_twice")  # features written by MLPs, and by attention
DICTIONARY_SEEDS = (0, 1, 2)
DICTIONARY_WIDTHS = {"narrow": 0.5, "equal": 1.0, "wide": 4.0}
"""Features for each direction that there is: those that a program writes at a site, or a model's dimensions."""


def recipe_of_program(n_directions: int, width: str, seed: int) -> TrainingRecipe:
    """How a dictionary is trained at a site where a program writes ``n_directions``."""
    from ...suite.model.features.training import TrainingRecipe

    features = max(1, int(DICTIONARY_WIDTHS[width] * n_directions))
    return TrainingRecipe(features, sparsity=1e-3, steps=1000, rows=256, seed=seed)


def recipe_of_model(d_model: int, k: int, width: str, seed: int) -> TrainingRecipe:
    """How a dictionary of a language model's residual stream is trained, with ``k`` features active at once."""
    from ...suite.model.features.training import TrainingRecipe

    return TrainingRecipe(int(DICTIONARY_WIDTHS[width] * d_model), k=k, steps=800, rows=256, seed=seed)
