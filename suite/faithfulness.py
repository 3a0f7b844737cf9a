"""How much of what the model does a circuit does, in one setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .circuit import Circuit
from .data import Data
from .evaluator import Evaluator
from .model.transformer import Transformer
from .objective import Objective
from .runs import Runs
from .setting import Aggregation, Cut, ReferencePoint

SMALL = 2.0  # standard errors within which a mean cannot be told from zero


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
        ratios = gained / whole.masked_fill(whole == 0, float("nan"))
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
    graph = model.graph
    model = model.with_inputs(cut.graph(graph).inputs)
    ends = torch.stack([model.graph.exists, cut.empty(graph)])
    evaluator = Evaluator(
        model,
        data,
        cut.ablation,
        objective,
        seed=seed,
        batch_size=batch_size,
        denoising=cut.direction == "denoising",
        cut_at=cut.cut_at(data),
    )
    values = objective.value(evaluator.per_example(torch.cat([ends, cut.masks(circuits)])))
    corrupted = None
    if data.counterfactual is not None:
        corrupted = torch.empty_like(values[0])
        for batch in data.batches(evaluator.batch_size):
            runs = Runs(model, batch)
            losses = objective.loss(runs.counterfactual[0], objective.targets(runs))
            corrupted[batch.rows] = objective.value(losses.double().cpu())
    return Measured(values[2:], values[0], values[1], corrupted)
