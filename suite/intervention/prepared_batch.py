"""A batch of prompts with all that a cut pass over it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
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
        difference: computes ``prefix``.
        targets: what outputs are compared with.
    """

    batch: Batch
    runs: Runs
    inputs: Tensor
    alternative: Alternative
    difference: Callable[[], Tensor]
    targets: Targets

    @cached_property
    def prefix(self) -> Tensor:
        """What every writer wrote less what a cut edge carries: [W, B, P, D].

        Computed when it is first asked for: it is the largest part, and passes that cut in the first layer need none.
        """
        with torch.no_grad():
            return self.difference()
