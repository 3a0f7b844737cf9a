"""``patch``: a cut edge carries its writer's output on the paired counterfactual prompt."""

from __future__ import annotations

from dataclasses import dataclass

from ...data import Data
from ...model.transformer import Transformer
from ..ablation import Ablation, Carried


@dataclass(frozen=True)
class Patch(Ablation):
    """The writer's output on the paired counterfactual prompt (interchange, activation patching)."""

    value, order, named = "patch", 10, {"patch": {}}
    a_run = True

    def words(self) -> str:
        return "the writer's output on the paired counterfactual prompt"

    @property
    def needs_counterfactuals(self) -> bool:
        return True

    def of(self, model: Transformer, data: Data, *, seed: int, batch_size: int) -> Carried:
        return lambda runs: runs.counterfactual[1]
