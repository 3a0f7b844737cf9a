"""``resample``: a cut edge carries its writer's output on another clean prompt, drawn once by the seed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...data import Data
from ...model.transformer import Activations, Transformer
from ..ablation import Ablation, Carried
from ..plain_runs import Runs


@dataclass(frozen=True)
class Resample(Ablation):
    """The writer's output on another clean prompt of the same length, drawn once by the seed."""

    value, order, named = "resample", 20, {"resample": {}}
    stochastic = a_run = True

    def words(self) -> str:
        return "the writer's output on another prompt of the same length, drawn by the seed"

    def undefined(self, data: Data) -> str | None:
        if (data.lengths.unique(return_counts=True)[1] < 2).any():
            return "resample needs two prompts at least of every length"
        return None

    def of(self, model: Transformer, data: Data, *, seed: int, batch_size: int) -> Carried:
        partner = derangement(data.lengths, seed)

        def carried(runs: Runs) -> Activations:
            rows = partner[runs.batch.rows]
            return runs.of(runs.batch.of_runs(data.clean[rows, : int(data.lengths[rows].max())]))[1]

        return carried


def derangement(lengths: Tensor, seed: int) -> Tensor:
    """For each row another row of the same length [N], by a seeded random cycle through all rows of that length."""
    generator = torch.Generator().manual_seed(seed)
    partner = torch.arange(len(lengths))
    for length in lengths.unique():
        rows = (lengths == length).nonzero().flatten()
        order = rows[torch.randperm(len(rows), generator=generator)]
        partner[order] = order.roll(1)
    return partner
