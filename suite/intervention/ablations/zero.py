"""``zero``: a cut edge carries nothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...data import Data
from ...model.transformer import Activations, Transformer
from ..ablation import Ablation, Carried
from ..plain_runs import Runs


@dataclass(frozen=True)
class Zero(Ablation):
    """Nothing: the vector of zeros."""

    value, order, named = "zero", 30, {"zero": {}}

    def words(self) -> str:
        return "nothing"

    def of(self, model: Transformer, data: Data, *, seed: int, batch_size: int) -> Carried:
        return nothing


def nothing(runs: Runs) -> Activations:
    """Zeros in the shape of the clean run's activations, one for all rows and positions."""
    return runs.clean[1].map(lambda part: torch.zeros_like(part[..., :1, :1, :]))
