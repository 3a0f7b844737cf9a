"""``optimal``: a cut edge carries the constant that harms the circuit least (optimal ablation, Li and Janson 2024)."""

from __future__ import annotations

from dataclasses import dataclass

from ...data import Data
from ...model.transformer import Transformer
from ..ablation import Ablation, Carried
from .zero import nothing


@dataclass(frozen=True)
class Optimal(Ablation):
    """A constant for each writer, learned for one circuit (``optimal_constants.py``)."""

    value, order, named = "optimal", 60, {"optimal": {}}
    learned = True

    def words(self) -> str:
        return "a constant for each writer, learned so as to harm the circuit least"

    def of(self, model: Transformer, data: Data, *, seed: int, batch_size: int) -> Carried:
        return nothing  # the constants are added by the evaluator, which knows the circuit
