"""How much of what the model does a circuit does, in one setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..circuit import Circuit
from ..data import Data
from ..model.transformer import Transformer
from .evaluator import Evaluator
from .objective import DISTANCE, Objective
from .setting import Aggregation, Cut, ReferencePoint

_SMALL = 2.0  # standard errors within which a mean cannot be told from zero
FAITHFULNESS_ROUNDING = 1e-9
"""A prompt on which the full model and the reference differ by less than this share of the largest difference has no
ratio: what is there is rounding."""

ROUNDINGS = 64
"""Runs are equal where no output differs by more than so many roundings of the largest output (its size times the
relative spacing of the model's numbers)."""

REFERENCE_NAMES: Mapping[ReferencePoint, str] = {
    "none": "zero",
    "corrupted-run": "the corrupted run",
    "cut-graph": "the wholly cut graph",
}


@dataclass(frozen=True, eq=False)
class CircuitValues:
    """An objective's value on every prompt, as people quote it, float64.

    Args:
        circuits: [C, N], under each circuit.
        full: [N], of the whole model.
        empty: [N], with everything cut that can be.
        corrupted: [N], of the whole model on the counterfactual prompts; None for a task without them.
        equal_runs: reference point -> bool [N], the prompts on which its outputs are the full model's up to rounding
            (see ``ROUNDINGS``).
        rounding: the share of a value that rounding can make.
    """

    circuits: Tensor
    full: Tensor
    empty: Tensor
    corrupted: Tensor | None
    equal_runs: Mapping[ReferencePoint, Tensor] = field(default_factory=dict)
    rounding: float = 0.0

    def reference(self, point: ReferencePoint) -> Tensor:
        """What counts as nothing, [N]."""
        return {"none": torch.zeros_like(self.full), "corrupted-run": self.corrupted, "cut-graph": self.empty}[point]

    def faithfulness(
        self,
        aggregation: Aggregation = "ratio-of-means",
        reference: ReferencePoint = "cut-graph",
        rows: Tensor | None = None,
    ) -> Tensor:
        """(circuit - reference) / (full - reference) of each circuit: float64 [C]. 1 is the full model.

        Args:
            aggregation: the ratio of means over prompts; or the median or mean of prompts' ratios, over those where
                full model and reference differ.
            reference: what counts as nothing.
            rows: long [N'] or [S, N'], the prompts to use, as a bootstrap draws them; all when omitted. With two axes
                the result is [C, S].

        Returns:
            NaN where the full model is away from the reference by no more than rounding.
        """
        rows = torch.arange(len(self.full)) if rows is None else rows
        nothing = self.reference(reference)
        gained, whole = (self.circuits - nothing)[:, rows], (self.full - nothing)[rows]
        equal = self._equal(reference)[rows]
        if aggregation == "ratio-of-means":
            total, size = whole.mean(-1), (self.full.abs() + nothing.abs())[rows].mean(-1) / 2
            none = (total.abs() <= self.rounding * size) | equal.all(-1)
            return gained.mean(-1) / total.masked_fill(none, float("nan"))
        none = equal | (whole.abs() <= FAITHFULNESS_ROUNDING * whole.abs().max())
        ratios = gained / whole.masked_fill(none, float("nan"))
        if aggregation == "mean-of-ratios":
            return ratios.nanmean(-1)
        return ratios.nanquantile(0.5, -1)  # between the two middle prompts, where their number is even

    def _equal(self, reference: ReferencePoint) -> Tensor:
        """The prompts on which full model and reference are equal up to rounding: bool [N]."""
        return self.equal_runs.get(reference, torch.zeros(len(self.full), dtype=torch.bool))

    def undefined(self, reference: ReferencePoint) -> str | None:
        """Why there is no share of the distance to the reference, or None: what is left of it is rounding."""
        if not self.faithfulness(reference=reference).isnan().all():
            return None
        name = REFERENCE_NAMES[reference]
        if bool(self._equal(reference).all()):
            return f"the outputs of the full model and of {name} are equal up to rounding on every prompt"
        return f"the objective of the full model is that of {name} up to rounding"

    def sign_changes(self) -> bool:
        """Whether the full model's mean is above one reference point and below the other: then a circuit that moves
        it up is faithful by the one and the contrary of it by the other."""
        if self.corrupted is None:
            return False
        both: tuple[ReferencePoint, ...] = ("corrupted-run", "cut-graph")
        points = [point for point in both if self.undefined(point) is None]
        signs = {bool((self.full - self.reference(point)).mean() > 0) for point in points}
        return len(signs) == 2

    def uncertain(self, reference: ReferencePoint) -> bool:
        """Whether full model and reference cannot be told apart, so that a share of their distance says little."""
        whole = self.full - self.reference(reference)
        error = float(whole.std(correction=1)) / len(whole) ** 0.5 if len(whole) > 1 else 0.0
        return abs(float(whole.mean())) <= _SMALL * error


def measure_circuits(
    model: Transformer,
    data: Data,
    circuits: Sequence[Circuit],
    cut: Cut,
    objective: Objective,
    *,
    seed: int = 0,
    batch_size: int | None = None,
) -> CircuitValues:
    """Runs every circuit, the whole model and the wholly cut one on every prompt.

    Args:
        circuits: of the graph of ``model``, one at least.
        cut: how they are run.
        seed: of what the ablation draws.

    Raises:
        Undefined: the cut has no meaning on this data.
    """
    return measure_by_each(model, data, circuits, cut, [objective], seed=seed, batch_size=batch_size)[0]


def measure_by_each(
    model: Transformer,
    data: Data,
    circuits: Sequence[Circuit],
    cut: Cut,
    objectives: Sequence[Objective],
    *,
    seed: int = 0,
    batch_size: int | None = None,
) -> list[CircuitValues]:
    """``measure_circuits`` by several objectives, running each circuit once (once an objective under ``optimal``, whose
    constants depend on it)."""
    if cut.ablation.learned and len(objectives) > 1:
        return [
            measure_circuits(model, data, circuits, cut, each, seed=seed, batch_size=batch_size) for each in objectives
        ]
    ends = torch.stack([cut.graph(model.graph).exists, cut.empty(model.graph)])
    evaluator = evaluator_of(model, data, cut, objectives[0], seed=seed, batch_size=batch_size)
    *losses, distance = evaluator.by_each(torch.cat([ends, cut.masks(circuits)]), [*objectives, DISTANCE])
    corrupted, corrupted_distance, largest = _plain(evaluator, objectives)
    rounding = ROUNDINGS * torch.finfo(model.dtype).eps
    equal_runs: dict[ReferencePoint, Tensor] = {"cut-graph": distance[1] <= rounding * largest}
    if corrupted_distance is not None:
        equal_runs["corrupted-run"] = corrupted_distance <= rounding * largest
    found = []
    for objective, loss, on_corrupted in zip(objectives, losses, corrupted, strict=True):
        values = objective.value(loss)
        found.append(CircuitValues(values[2:], values[0], values[1], on_corrupted, equal_runs, rounding))
    return found


@torch.no_grad()
def _plain(evaluator: Evaluator, objectives: Sequence[Objective]) -> tuple[list[Tensor | None], Tensor | None, float]:
    """What plain runs say: each objective's value on the counterfactual prompts [N] and their outputs' distance from
    the clean ones [N] (None without counterfactual prompts), and the size of the largest output of either run."""
    data, largest = evaluator.data, 0.0
    paired = data.counterfactual is not None
    values = torch.empty(len(objectives) + 1, data.n, dtype=torch.float64)
    for ready in evaluator.prepared():
        runs = ready.runs
        outputs = [runs.clean[0], *([runs.counterfactual[0]] if paired else [])]
        largest = max([largest, *(float(each.abs().max()) for each in outputs)])
        for i, objective in enumerate([*objectives, DISTANCE] if paired else ()):
            loss = objective.loss(outputs[1], objective.targets(runs)).double().cpu()
            values[i, ready.batch.rows] = loss if objective is DISTANCE else objective.value(loss)
    if not paired:
        return [None] * len(objectives), None, largest
    return list(values[:-1]), values[-1], largest


def evaluator_of(
    model: Transformer, data: Data, cut: Cut, objective: Objective, *, seed: int = 0, batch_size: int | None = None
) -> Evaluator:
    """What runs the masks of a cut (``cut.masks``): the evaluator on the cut's own input nodes.

    Raises:
        Undefined: the cut has no meaning on this data.
    """
    return Evaluator(
        model.with_inputs(cut.graph(model.graph).inputs),
        data,
        cut.ablation,
        objective,
        seed=seed,
        batch_size=batch_size,
        denoising=cut.direction == "denoising",
        cut_at=cut.cut_at(data),
    )
