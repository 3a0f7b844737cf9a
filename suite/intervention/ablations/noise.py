"""``noise``: a mean with Gaussian noise of the same spread (as in IBCircuit, arXiv:2602.22581)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...model.device import send
from ...model.transformer import Activations
from ..plain_runs import Runs
from .mean import Mean, Sums


@dataclass(frozen=True)
class Noise(Mean):
    """The mean that its options describe, plus noise of the same spread in each of the writer's own dimensions, drawn
    once by the seed."""

    value, order, named = "noise", 50, {"noise": {}}
    stochastic = True

    def words(self) -> str:
        return f"{super().words()}, plus Gaussian noise of the same spread, drawn by the seed"

    def _drawn(self, sums: Sums, runs: Runs, n_positions: int, seed: int) -> Activations:
        mean = super()._drawn(sums, runs, n_positions, seed)
        variance = sums.variance().map(lambda part: part[..., :n_positions, :])
        noise = standard_noise(mean, runs.batch.rows[runs.batch.example], seed)
        return mean.with_each(lambda m, v, e: m + v.sqrt() * e, variance, noise)


def standard_noise(like: Activations, rows: Tensor, seed: int) -> Activations:
    """Standard normal numbers in the shape of ``like``, for the row of the data [S] that each run is of.

    A row's numbers depend on the seed and the row alone: neither on the batch nor on the other rows.
    """
    kinds = list(dict.fromkeys(kind for kind, _ in like))
    keys = sorted(like, key=lambda key: (kinds.index(key[0]), key[1]))  # the order in which numbers are dealt out
    shapes = [(like[key].shape[0], *like[key].shape[2:]) for key in keys]
    sizes = [math.prod(shape) for shape in shapes]
    drawn = []
    for row in rows.tolist():
        generator = torch.Generator().manual_seed(seed * 1_000_003 + row)
        drawn.append(torch.randn(sum(sizes), generator=generator, dtype=torch.float64))
    pieces = send(torch.stack(drawn), like.inputs.device).split(sizes, 1)
    noise = [piece.unflatten(1, shape).movedim(0, 1) for piece, shape in zip(pieces, shapes, strict=True)]
    return Activations(zip(keys, noise, strict=True))
