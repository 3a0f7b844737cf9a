"""What a cut edge carries.

An ablation is a value that prints as it parses: ``patch``, ``mean-positional``, ``mean[over=batch,prompts=both]``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from .data import Batch, Data
from .errors import SpecError, Undefined, unknown
from .model.transformer import Activations, Transformer
from .runs import Runs

Value = Literal["patch", "resample", "zero", "mean"]
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
            same length, drawn once by the seed; ``zero``; ``mean``: the average described by the other three.
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
            if ablation.value != "mean" or given not in _OPTIONS.get(key, {}):
                allowed = ", ".join(f"{k}={'|'.join(v)}" for k, v in _OPTIONS.items())
                raise SpecError(f"ablation {text!r}: no option {option.strip()!r}; mean takes {allowed}, others none.")
            ablation = replace(ablation, **{key: _OPTIONS[key][given]})
        return ablation

    def __str__(self) -> str:
        for name, ablation in NAMES.items():
            if ablation == self:
                return name
        return f"mean[over={self.over},position={'yes' if self.position else 'no'},prompts={self.prompts}]"

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
}
VALUES = frozenset(get_args(Value))


class Alternatives:
    """The activations that an ablation puts on cut edges, batch by batch.

    Args:
        model, data: what is cut, on which prompts. Data-set means are taken here, once, over ``data.reference`` when
            it has one and else over the rows themselves.
        ablation: the value.
        seed: of the pairing that ``resample`` draws.
        batch_size: prompts at a time for data-set means; it does not change them.

    Raises:
        Undefined: the ablation has no meaning on this data.
    """

    def __init__(self, model: Transformer, data: Data, ablation: Ablation, *, seed: int, batch_size: int) -> None:
        if reason := ablation.undefined(data):
            raise Undefined(f"{reason}.")
        self.model, self.data, self.ablation = model, data, ablation
        if ablation.value == "resample":
            self._partner = derangement(data.lengths, seed)
        elif ablation.value == "mean" and ablation.over == "dataset":
            self._mean = self._dataset_mean(batch_size)

    def of(self, runs: Runs) -> Activations:
        """What cut edges carry for the prompts of ``runs``; axes of size 1 stand for all rows or positions."""
        match self.ablation.value:
            case "patch":
                return runs.counterfactual[1]
            case "resample":
                partner = self.data.batch(self._partner[runs.batch.rows])
                return runs.of(partner.clean)[1]
            case "zero":
                return runs.clean[1].map(lambda part: torch.zeros_like(part[..., :1, :1, :]))
        if self.ablation.over == "batch":
            sums = _Sums(self.ablation.position, runs.batch.clean.shape[1])
            for prompts in self._prompts:
                sums.add(getattr(runs, prompts)[1], runs.batch)
            return sums.mean(self.model.dtype)
        stop = runs.batch.clean.shape[1]
        return self._mean.map(lambda part: part[..., :stop, :])

    @property
    def _prompts(self) -> tuple[str, ...]:
        both = self.ablation.prompts == "both"
        return ("clean", "counterfactual") if both else (self.ablation.prompts,)

    def _dataset_mean(self, batch_size: int) -> Activations:
        data, prompts = self.data, self._prompts
        if data.reference is not None:
            data, prompts = Data(data.reference, None, torch.ones_like(data.reference, dtype=torch.bool)), ("clean",)
        sums = _Sums(self.ablation.position, data.clean.shape[1])
        for batch in data.batches(batch_size):
            runs = Runs(self.model, batch)
            for name in prompts:
                sums.add(getattr(runs, name)[1], batch)
        return sums.mean(self.model.dtype)


class _Sums:
    """Sums of activations over prompts, and over positions unless kept apart, in float64."""

    def __init__(self, position: bool, n_positions: int) -> None:
        self.position, self.n_positions = position, n_positions
        self.total: Activations | None = None
        self.count = torch.zeros(n_positions, dtype=torch.float64)

    def add(self, activations: Activations, batch: Batch) -> None:
        weight = batch.valid.to(device=activations.inputs.device, dtype=torch.float64)
        self.count[: weight.shape[1]] += weight.sum(0).cpu()
        sums = activations.map(lambda part: self._sum(part, weight))
        if self.total is None:
            self.total = sums
            return
        for name in ("heads", "mlps"):
            pairs = zip(getattr(self.total, name), getattr(sums, name), strict=True)
            setattr(self.total, name, [old + new for old, new in pairs])
        self.total.inputs = self.total.inputs + sums.inputs

    def _sum(self, part: Tensor, weight: Tensor) -> Tensor:
        total = (part.double() * weight[..., None]).sum(-3, keepdim=True)
        return torch.nn.functional.pad(total, (0, 0, 0, self.n_positions - total.shape[-2]))

    def mean(self, dtype: torch.dtype) -> Activations:
        count = self.count.to(self.total.inputs.device)[:, None]
        if self.position:
            return self.total.map(lambda part: (part / count.clamp_min(1)).to(dtype))
        pooled = self.total.map(lambda part: part.sum(-2, keepdim=True) / count.sum())
        return pooled.map(lambda part: part.expand(*part.shape[:-2], self.n_positions, -1).to(dtype))


def derangement(lengths: Tensor, seed: int) -> Tensor:
    """For each row another row of the same length [N], by a seeded random cycle through all rows of that length."""
    generator = torch.Generator().manual_seed(seed)
    partner = torch.arange(len(lengths))
    for length in lengths.unique():
        rows = (lengths == length).nonzero().flatten()
        order = rows[torch.randperm(len(rows), generator=generator)]
        partner[order] = order.roll(1)
    return partner
