"""``mean``: a cut edge carries its writer's average over the prompts, at each position or over all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ...data import Batch, Data
from ...errors import Undefined
from ...model.device import send
from ...model.transformer import Activations, Transformer
from ..ablation import Ablation, Carried
from ..plain_runs import Runs


@dataclass(frozen=True)
class Mean(Ablation):
    """An average of the writer's outputs, over all runs of prompts that have several. Padding never counts.

    Args:
        over: the average's extent: the whole data set, or the batch (which then changes the number: say the size).
        position: one average per position, or one pooled over positions.
        prompts: which prompts are averaged.
    """

    over: Literal["dataset", "batch"] = "dataset"
    position: bool = False
    prompts: Literal["clean", "counterfactual", "both"] = "clean"

    value, order = "mean", 40
    named = {
        "mean": {},
        "mean-positional": {"position": True},
        "mean-counterfactual": {"prompts": "counterfactual"},
        "mean-positional-counterfactual": {"position": True, "prompts": "counterfactual"},
    }
    options = {
        "over": {"dataset": "dataset", "batch": "batch"},
        "position": {"yes": True, "no": False},
        "prompts": {"clean": "clean", "counterfactual": "counterfactual", "both": "both"},
    }

    def words(self) -> str:
        extent = "at each position" if self.position else "over all positions"
        return f"the writer's average {extent}, over the {self.prompts} prompts of the {self.over}"

    @property
    def needs_counterfactuals(self) -> bool:
        return self.prompts != "clean"

    @property
    def over_batch(self) -> bool:
        return self.over == "batch"

    @property
    def certified_as(self) -> Ablation:
        """Means over the data set are over the whole domain, whichever prompts of a pair they are asked of."""
        return self if self.over_batch else replace(self, prompts="clean")

    def undefined(self, data: Data) -> str | None:
        if data.unpaired is None or not self.needs_counterfactuals:
            return super().undefined(data)
        if self.position or self.over_batch:
            pooled = type(self)(prompts=self.prompts)
            return f"{self} needs counterfactual prompts{data.without_pairs}; {pooled} averages over all positions"
        return None

    def of(self, model: Transformer, data: Data, *, seed: int, batch_size: int) -> Carried:
        sums = self._sums(model, data, batch_size)

        def carried(runs: Runs) -> Activations:
            n_positions = runs.batch.clean.shape[1]
            return self._drawn(sums(runs), runs, n_positions, seed).map(lambda part: part.to(model.dtype))

        return carried

    def _drawn(self, sums: Sums, runs: Runs, n_positions: int, seed: int) -> Activations:
        """What is carried, of the sums: float64, at the first ``n_positions`` positions."""
        return sums.mean().map(lambda part: part[..., :n_positions, :])

    def _sums(self, model: Transformer, data: Data, batch_size: int) -> SumsOf:
        """The sums that a batch's average is taken of: the data set's, the same for all, or the batch's own."""
        prompts = ("clean", "counterfactual") if self.prompts == "both" else (self.prompts,)
        if self.over_batch:
            return lambda runs: Sums(self.position, runs.batch.clean.shape[1]).add_all(runs, prompts)
        averaged = [(data, prompts)]
        if data.reference is not None:
            averaged = [(_plain(data.reference), ("clean",))]
        elif data.unpaired is not None:
            others = _plain(data.unpaired, data.unpaired_lengths)
            averaged = [({"clean": data, "counterfactual": others}[name], ("clean",)) for name in prompts]
        sums = Sums(self.position, max(data.longest, *(each.longest for each, _ in averaged)))
        for each, names in averaged:
            for batch in each.batches(batch_size):
                sums.add_all(Runs(model, batch), names)
        return lambda runs: sums


def _plain(prompts: Tensor, lengths: Tensor | None = None) -> Data:
    """Prompts [N, P] that are averaged over and nothing else, of these lengths [N] or of P all."""
    data = Data(prompts, None, torch.ones_like(prompts, dtype=torch.bool))
    if lengths is None:
        return data
    return Data(prompts, None, torch.arange(prompts.shape[1]) < lengths[:, None], lengths)


class Sums:
    """Sums of activations and of their squares over prompts, and over positions unless kept apart, in float64."""

    def __init__(self, position: bool, n_positions: int) -> None:
        self.position, self.n_positions = position, n_positions
        self.first: Activations | None = None
        self.second: Activations | None = None
        self.count = torch.zeros(n_positions, dtype=torch.float64)

    def add_all(self, runs: Runs, prompts: Sequence[str]) -> Sums:
        """Adds the named runs of a batch, and returns itself."""
        for name in prompts:
            self.add(getattr(runs, name)[1], runs.batch)
        return self

    def add(self, activations: Activations, batch: Batch) -> None:
        weight = send(batch.valid.to(torch.float64), activations.inputs.device)
        self.count[: weight.shape[1]] += weight.sum(0).cpu()
        first = activations.map(lambda part: self._sum(part.double(), weight))
        second = activations.map(lambda part: self._sum(part.double().square(), weight))
        self.first = first if self.first is None else self.first.with_each(torch.add, first)
        self.second = second if self.second is None else self.second.with_each(torch.add, second)

    def _sum(self, part: Tensor, weight: Tensor) -> Tensor:
        total = (part * weight[..., None]).sum(-3, keepdim=True)
        return torch.nn.functional.pad(total, (0, 0, 0, self.n_positions - total.shape[-2]))

    def mean(self) -> Activations:
        return self._average(_summed(self.first))

    def variance(self) -> Activations:
        """The variance over the prompts, divided by their number: noise is to have the spread of these prompts."""
        square = self._average(_summed(self.second))
        return square.with_each(lambda square, mean: (square - mean.square()).clamp_min(0), self.mean())

    def _average(self, total: Activations) -> Activations:
        count = send(self.count, total.inputs.device)[:, None]
        if self.position:
            return total.map(lambda part: part / count.clamp_min(1))
        pooled = total.map(lambda part: part.sum(-2, keepdim=True) / count.sum())
        return pooled.map(lambda part: part.expand(*part.shape[:-2], self.n_positions, -1))


def _summed(total: Activations | None) -> Activations:
    """What was added up. Raises Undefined where nothing was."""
    if total is None:
        raise Undefined("there is no prompt to take means over.")
    return total


SumsOf = Callable[[Runs], Sums]
