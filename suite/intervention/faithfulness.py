"""How much of what the model does a circuit does, in one setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..circuit import Circuit
from ..data import Data
from ..model.transformer import Transformer
from .evaluator import Evaluator
from .objective import Objective
from .plain_runs import Runs
from .setting import Aggregation, Cut, ReferencePoint

SMALL = 2.0  # standard errors within which a mean cannot be told from zero
ROUNDING = 1e-9
"""A prompt on which the full model and the reference differ by less than this share of the largest difference has no
ratio: what is there is rounding."""


@dataclass(frozen=True, eq=False)
class Measured:
    """An objective's value on every prompt, as people quote it, float64.

    Args:
        circuits: [C, N], under each circuit.
        full: [N], of the whole model.
        empty: [N], with everything cut that can be.
        corrupted: [N], of the whole model on the counterfactual prompts; None where there are none.
    """

    circuits: Tensor
    full: Tensor
    empty: Tensor
    corrupted: Tensor | None

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
            rows: long [N'] or [S, N'], the prompts to use, as a bootstrap draws them; all when omitted. With two axes
                the result is [C, S].

        Returns:
            NaN where the full model is nowhere away from the reference.
        """
        rows = torch.arange(len(self.full)) if rows is None else rows
        nothing = self.reference(reference)
        gained, whole = (self.circuits - nothing)[:, rows], (self.full - nothing)[rows]
        if aggregation == "ratio-of-means":
            total = whole.mean(-1)
            return gained.mean(-1) / total.masked_fill(total == 0, float("nan"))
        ratios = gained / whole.masked_fill(whole.abs() <= ROUNDING * whole.abs().max(), float("nan"))
        if aggregation == "mean-of-ratios":
            return ratios.nanmean(-1)
        return ratios.nanquantile(0.5, -1)  # between the two middle prompts, where their number is even

    def uncertain(self, reference: ReferencePoint) -> bool:
        """Whether full model and reference cannot be told apart, so that a share of their distance says little."""
        whole = self.full - self.reference(reference)
        error = float(whole.std(correction=1)) / len(whole) ** 0.5 if len(whole) > 1 else 0.0
        return abs(float(whole.mean())) <= SMALL * error


def measure(
    model: Transformer,
    data: Data,
    circuits: Sequence[Circuit],
    cut: Cut,
    objective: Objective,
    *,
    seed: int = 0,
    batch_size: int | None = None,
) -> Measured:
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
) -> list[Measured]:
    """``measure`` by several objectives, running each circuit once (once an objective under ``optimal``, whose
    constants depend on it)."""
    options = {"seed": seed, "batch_size": batch_size}
    if cut.ablation.value == "optimal" and len(objectives) > 1:
        return [
            found for each in objectives for found in measure_by_each(model, data, circuits, cut, [each], **options)
        ]
    ends = torch.stack([cut.graph(model.graph).exists, cut.empty(model.graph)])
    evaluator = evaluator_of(model, data, cut, objectives[0], **options)
    losses = evaluator.by_each(torch.cat([ends, cut.masks(circuits)]), objectives)
    found = []
    for objective, loss in zip(objectives, losses, strict=True):
        values = objective.value(loss)
        corrupted = _corrupted(evaluator.model, data, objective, evaluator.batch_size)
        found.append(Measured(values[2:], values[0], values[1], corrupted))
    return found


@torch.no_grad()
def _corrupted(model: Transformer, data: Data, objective: Objective, batch_size: int) -> Tensor | None:
    """The whole model's value on the counterfactual prompts, [N]; None where there are none."""
    if data.counterfactual is None:
        return None
    values = torch.empty(data.n, dtype=torch.float64)
    for batch in data.batches(batch_size):
        runs = Runs(model, batch)
        losses = objective.loss(runs.counterfactual[0], objective.targets(runs))
        values[batch.rows] = objective.value(losses.double().cpu())
    return values


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
