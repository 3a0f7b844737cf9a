"""What a cut edge carries.

An ablation is a value that prints as it parses: ``patch``, ``mean-positional``, ``mean[over=batch,prompts=both]``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from ..data import Batch, Data
from ..errors import SpecError, Undefined, unknown
from ..model.transformer import Activations, Transformer
from .plain_runs import Runs

Value = Literal["patch", "resample", "zero", "mean", "noise", "optimal"]
_OPTIONS = {
    "over": {"dataset": "dataset", "batch": "batch"},
    "position": {"yes": True, "no": False},
    "prompts": {"clean": "clean", "counterfactual": "counterfactual", "both": "both"},
}


@dataclass(frozen=True)
class Ablation:
    """What replaces a writer's output on a cut edge.

    Args:
        value: ``patch``: its output on the paired counterfactual prompt; ``resample``: on another clean prompt of the
            same length, drawn once by the seed; ``zero``; ``mean``: the average described by the other three;
            ``noise``: that average plus Gaussian noise of the same spread in each of the writer's own dimensions,
            drawn once by the seed (as in IBCircuit, arXiv:2602.22581); ``optimal``: the constant that harms the
            circuit least (constants.py).
        over: the average's extent: the whole data set, or the batch (which then changes the number: say the size).
        position: one average a position, or one pooled over positions. Padding never counts.
        prompts: which prompts are averaged.
    """

    value: Value
    over: Literal["dataset", "batch"] = "dataset"
    position: bool = False
    prompts: Literal["clean", "counterfactual", "both"] = "clean"

    @classmethod
    def parse(cls, text: str) -> Ablation:
        """Reads a name (``mean-positional``) or a name with options (``mean[over=batch,position=yes,prompts=both]``).

        Raises:
            SpecError: unknown names or options, with what is allowed.
        """
        match = re.fullmatch(r"([a-z-]+)(?:\[([^\]]*)\])?", text.strip())
        name, options = match.groups() if match else (text, None)
        if name not in NAMES:
            raise SpecError(unknown("ablation", name, NAMES))
        ablation = NAMES[name]
        for option in filter(None, (options or "").split(",")):
            key, _, given = option.strip().partition("=")
            if ablation.value not in ("mean", "noise") or given not in _OPTIONS.get(key, {}):
                allowed = ", ".join(f"{k}={'|'.join(v)}" for k, v in _OPTIONS.items())
                raise SpecError(
                    f"ablation {text!r}: no option {option.strip()!r}; mean and noise take {allowed}, others none."
                )
            ablation = replace(ablation, **{key: _OPTIONS[key][given]})
        return ablation

    def __str__(self) -> str:
        for name, ablation in NAMES.items():
            if ablation == self:
                return name
        return f"{self.value}[over={self.over},position={'yes' if self.position else 'no'},prompts={self.prompts}]"

    @property
    def stochastic(self) -> bool:
        """Whether the seed changes what a cut edge carries."""
        return self.value in ("resample", "noise")

    @property
    def needs_counterfactuals(self) -> bool:
        return self.value == "patch" or self.prompts != "clean"

    def undefined(self, data: Data) -> str | None:
        """Why this ablation has no meaning on ``data``, or None."""
        if self.needs_counterfactuals and data.counterfactual is None:
            return f"{self} needs counterfactual prompts and the task has none"
        if self.value == "resample" and (data.lengths.unique(return_counts=True)[1] < 2).any():
            return "resample needs two prompts at least of every length"
        return None


NAMES: dict[str, Ablation] = {
    "patch": Ablation("patch"),
    "resample": Ablation("resample"),
    "zero": Ablation("zero"),
    "mean": Ablation("mean"),
    "mean-positional": Ablation("mean", position=True),
    "mean-counterfactual": Ablation("mean", prompts="counterfactual"),
    "mean-positional-counterfactual": Ablation("mean", position=True, prompts="counterfactual"),
    "noise": Ablation("noise"),
    "optimal": Ablation("optimal"),
}
# What a method defines unless it says otherwise. Optimal constants belong to one circuit, so only a method that learns
# them together with its circuit can search under them.
VALUES = frozenset(get_args(Value)) - {"optimal"}


class Alternatives:
    """The activations that an ablation puts on cut edges, batch by batch.

    Args:
        model, data: what is cut, on which prompts. Data-set means are taken here, once, over ``data.reference`` when
            it has one and else over the rows themselves.
        ablation: the value.
        seed: of what ``resample`` and ``noise`` draw.
        batch_size: prompts at a time for data-set means; it does not change them.

    Raises:
        Undefined: the ablation has no meaning on this data.
    """

    def __init__(self, model: Transformer, data: Data, ablation: Ablation, *, seed: int, batch_size: int) -> None:
        if reason := ablation.undefined(data):
            raise Undefined(f"{reason}.")
        self.model, self.data, self.ablation, self.seed = model, data, ablation, seed
        if ablation.value == "resample":
            self._partner = derangement(data.lengths, seed)
        elif ablation.value in ("mean", "noise") and ablation.over == "dataset":
            self._sums = self._dataset_sums(batch_size)

    def of(self, runs: Runs) -> Activations:
        """What cut edges carry for the prompts of ``runs``; axes of size 1 stand for all rows or positions."""
        match self.ablation.value:
            case "patch":
                return runs.counterfactual[1]
            case "resample":
                partner = self.data.batch(self._partner[runs.batch.rows])
                return runs.of(partner.clean)[1]
            case "zero" | "optimal":  # the optimal constants are added by whoever knows the circuit
                return runs.clean[1].map(lambda part: torch.zeros_like(part[..., :1, :1, :]))
        n_positions = runs.batch.clean.shape[1]
        if self.ablation.over == "batch":
            sums = _Sums(self.ablation.position, n_positions)
            for prompts in self._prompts:
                sums.add(getattr(runs, prompts)[1], runs.batch)
        else:
            sums = self._sums
        cut = sums.mean().map(lambda part: part[..., :n_positions, :])
        if self.ablation.value == "noise":
            variance = sums.variance().map(lambda part: part[..., :n_positions, :])
            noise = standard_noise(cut, runs.batch.rows, self.seed)
            cut = cut.with_each(lambda m, v, e: m + v.sqrt() * e, variance, noise)
        return cut.map(lambda part: part.to(self.model.dtype))

    @property
    def _prompts(self) -> tuple[str, ...]:
        both = self.ablation.prompts == "both"
        return ("clean", "counterfactual") if both else (self.ablation.prompts,)

    def _dataset_sums(self, batch_size: int) -> _Sums:
        data, prompts = self.data, self._prompts
        if data.reference is not None:
            data, prompts = Data(data.reference, None, torch.ones_like(data.reference, dtype=torch.bool)), ("clean",)
        sums = _Sums(self.ablation.position, data.clean.shape[1])
        for batch in data.batches(batch_size):
            runs = Runs(self.model, batch)
            for name in prompts:
                sums.add(getattr(runs, name)[1], batch)
        return sums


class _Sums:
    """Sums of activations and of their squares over prompts, and over positions unless kept apart, in float64."""

    def __init__(self, position: bool, n_positions: int) -> None:
        self.position, self.n_positions = position, n_positions
        self.first: Activations | None = None
        self.second: Activations | None = None
        self.count = torch.zeros(n_positions, dtype=torch.float64)

    def add(self, activations: Activations, batch: Batch) -> None:
        weight = batch.valid.to(device=activations.inputs.device, dtype=torch.float64)
        self.count[: weight.shape[1]] += weight.sum(0).cpu()
        first = activations.map(lambda part: self._sum(part.double(), weight))
        second = activations.map(lambda part: self._sum(part.double().square(), weight))
        self.first = first if self.first is None else self.first.with_each(torch.add, first)
        self.second = second if self.second is None else self.second.with_each(torch.add, second)

    def _sum(self, part: Tensor, weight: Tensor) -> Tensor:
        total = (part * weight[..., None]).sum(-3, keepdim=True)
        return torch.nn.functional.pad(total, (0, 0, 0, self.n_positions - total.shape[-2]))

    def mean(self) -> Activations:
        return self._average(self.first)

    def variance(self) -> Activations:
        """Of the population, not a sample: what is matched is the spread of these prompts."""
        square = self._average(self.second)
        return square.with_each(lambda square, mean: (square - mean.square()).clamp_min(0), self.mean())

    def _average(self, total: Activations) -> Activations:
        count = self.count.to(total.inputs.device)[:, None]
        if self.position:
            return total.map(lambda part: part / count.clamp_min(1))
        pooled = total.map(lambda part: part.sum(-2, keepdim=True) / count.sum())
        return pooled.map(lambda part: part.expand(*part.shape[:-2], self.n_positions, -1))


def standard_noise(like: Activations, rows: Tensor, seed: int) -> Activations:
    """Standard normal numbers in the shape of ``like``, for the given rows of the data [B].

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
    pieces = torch.stack(drawn).to(like.inputs.device).split(sizes, 1)
    noise = [piece.unflatten(1, shape).movedim(0, 1) for piece, shape in zip(pieces, shapes, strict=True)]
    return Activations(zip(keys, noise, strict=True))


def derangement(lengths: Tensor, seed: int) -> Tensor:
    """For each row another row of the same length [N], by a seeded random cycle through all rows of that length."""
    generator = torch.Generator().manual_seed(seed)
    partner = torch.arange(len(lengths))
    for length in lengths.unique():
        rows = (lengths == length).nonzero().flatten()
        order = rows[torch.randperm(len(rows), generator=generator)]
        partner[order] = order.roll(1)
    return partner
