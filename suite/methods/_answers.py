"""Outputs restricted to candidate answers. A prompt's candidates are its right and its wrong answers."""

from __future__ import annotations

import torch
from torch import Tensor

from ..data import Batch, Data
from ..errors import Undefined
from ..model.device import send


def check_answers(method: str, data: Data) -> None:
    """Raises Undefined when a prompt has fewer than two candidate answers, or answers have several tokens."""
    if data.several_tokens:
        raise Undefined(
            f"{method}: labels='answers' compares single tokens, and answers have several; use 'prediction'."
        )
    if data.answers is None or data.wrong is None or int((_candidates(data.answers, data.wrong) >= 0).sum(1).min()) < 2:
        raise Undefined(
            f"{method}: labels='answers' needs two answers in every prompt, and one has fewer; use 'prediction'."
        )


def over_answers(outputs: Tensor, batch: Batch) -> Tensor:
    """Outputs [..., n_read, d_out], with minus infinity for units that are not candidate answers of the prompt."""
    candidates = send(_candidates(batch.answers, batch.wrong)[batch.example_of_read], outputs.device)  # [n_read, K]
    is_candidate = torch.zeros(outputs.shape[-2:], dtype=torch.bool, device=outputs.device)
    rows = torch.arange(len(candidates), device=outputs.device)[:, None].expand_as(candidates)
    is_candidate[rows[candidates >= 0], candidates[candidates >= 0]] = True
    return outputs.masked_fill(~is_candidate, -torch.inf)


def mean_where_finite(values: Tensor) -> Tensor:
    """The mean over the last axis [...], of the finite values alone; the others get no gradient."""
    finite = values.isfinite()
    return values.where(finite, 0).sum(-1) / finite.sum(-1)


def _candidates(answers: Tensor, wrong: Tensor) -> Tensor:
    return torch.cat([answers, wrong], 1)
