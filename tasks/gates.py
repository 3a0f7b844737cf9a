"""The tasks of hand-wired gates. Both splits have every pair of different inputs, so that no structure can be missed.

A gate has eight inputs and 56 ordered pairs of them. They include the pairs that show how a gate works: both inputs of
AND on and then both off, or a saturated clean run with a saturated counterfactual.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from .. import ground_truth
from ..ground_truth import GroundTruth
from ..suite.data import Data
from .task import Task

FAMILY_NAME = "gates"


def names() -> list[str]:
    """The shipped gates, each of which is a task."""
    return [name for name in ground_truth.names() if name.startswith(f"{FAMILY_NAME}/")]


def load(name: str | Path) -> Task:
    """The task of a gate. Raises ModelError when no such name or directory exists."""
    return task(ground_truth.load(name))


def task(truth: GroundTruth) -> Task:
    """The task of a gate that has been loaded."""
    return Task(
        name=truth.name,
        description=truth.description.description,
        model=truth.name,
        truth=truth.name,
        objective="answer-difference",
        splits={"train": lambda: _every_pair(truth), "test": lambda: _every_pair(truth)},
    )


def _every_pair(truth: GroundTruth) -> Data:
    tokens, read = torch.from_numpy(truth.domain.tokens), torch.from_numpy(truth.domain.read)
    clean, other = torch.from_numpy(np.argwhere(~np.eye(len(tokens), dtype=bool)).T.copy())
    return Data(tokens[clean], tokens[other], read[clean], reference=tokens, in_order=True)
