"""A batch of prompts with all that a cut pass over it needs."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..data import Batch
from ..model.transformer import Alternative
from .objective import Targets
from .plain_runs import Runs


@dataclass
class PreparedBatch:
    """One batch, prepared once for any number of cut passes.

    Args:
        batch, runs: the prompts, and their plain runs.
        inputs: what the input nodes write, [n_inputs, B, P, D].
        alternative: what cut edges carry.
        prefix: what every writer wrote less what a cut edge carries, [W, B, P, D].
        targets: what outputs are compared with.
    """

    batch: Batch
    runs: Runs
    inputs: Tensor
    alternative: Alternative
    prefix: Tensor
    targets: Targets
