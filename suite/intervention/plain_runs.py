"""The plain runs of a batch, each made at most once and shared by ablation, objective and method."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from ..data import Batch
from ..errors import Undefined
from ..model.device import send
from ..model.transformer import Activations, Transformer


class Runs:
    """Clean and counterfactual run of one batch, on the model's device, without gradients.

    Each is a pair: the outputs at the read positions [n_read, d_out], and what every writer wrote.
    """

    def __init__(self, model: Transformer, batch: Batch) -> None:
        self.model, self.batch = model, batch
        self.read = batch.read  # on the CPU, where its positions are counted

    @cached_property
    def clean(self) -> tuple[Tensor, Activations]:
        return self.of(self.batch.clean)

    @cached_property
    def counterfactual(self) -> tuple[Tensor, Activations]:
        if self.batch.counterfactual is None:
            raise Undefined(
                "this task has no counterfactual prompts of the clean ones' lengths; use a zero, mean or resample "
                "ablation."
            )
        return self.of(self.batch.counterfactual)

    def keep_clean(self, outputs: Tensor, activations: Activations) -> None:
        """Takes a clean run that was made elsewhere, with its gradients, so that it is not made again."""
        self.__dict__.setdefault("clean", (outputs, activations))  # where cached_property keeps what it has found

    @torch.no_grad()
    def of(self, tokens: Tensor) -> tuple[Tensor, Activations]:
        """The run of other tokens in place of the batch's own [S, P], read at the batch's positions."""
        return self.model.run(self.model.input_nodes(send(tokens, self.model.device)), read=self.read)
