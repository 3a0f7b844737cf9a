"""A cut pass with gradients that runs its masks a part at a time, and each part once more in its backward pass.

Why: what a pass keeps for its backward pass grows with its masks. Edge Pruning trains 17 masks on 32 prompts in a step,
which would keep 24 GB on GPT-2 small. Masks do not meet in a pass. So where they need more than a budget, of each part
only the outputs are kept, and its backward pass runs it again: the memory is that of one part, for a forward pass more.

The budget is fixed, so that results do not depend on the memory of the machine. The second run is not counted among a
method's passes, which are those that it asked for.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .passes import uncounted

_BUDGET = 1_000_000_000  # numbers that a part keeps: 4 GB in float32

Run = Callable[[Tensor, Tensor | None], Tensor]
"""Masks and their offset -> outputs."""


def masks_at_once(writers: int, readers: int, d_model: int, tokens: int) -> int:
    """How many masks a pass with gradients runs at once, on so many tokens of all prompts.

    For each of them it keeps what every writer writes, the gradient of that, and what every reader reads.
    """
    return max(1, _BUDGET // ((2 * writers + readers) * d_model * tokens))


def run_in_parts(run: Run, masks: Tensor, offset: Tensor | None, at_once: int) -> Tensor:
    """What ``run`` returns for masks [C, W, R], of which it is given ``at_once`` at a time: [C, ...].

    Args:
        run: does the same each time, without random numbers. Gradients go back to masks and offset alone.
        offset: has an entry for each mask, or one for all.
    """
    found = []
    for start in range(0, len(masks), at_once):
        part = slice(start, start + at_once)
        own = offset if offset is None or len(offset) == 1 else offset[part]
        found.append(_RunAgain.apply(run, masks[part], own))
    return torch.cat(found)


class _RunAgain(torch.autograd.Function):
    """The outputs of a part; nothing else is kept of its run."""

    @staticmethod
    def forward(ctx, run: Run, masks: Tensor, offset: Tensor | None) -> Tensor:
        ctx.run = run
        ctx.save_for_backward(masks, offset)
        with torch.enable_grad():  # as a pass with gradients runs, which computes what others leave out
            return run(masks, offset).detach()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[1:]
        masks, offset = (
            None if saved is None else saved.detach().requires_grad_(needs)
            for saved, needs in zip(ctx.saved_tensors, needed, strict=True)
        )
        with torch.enable_grad(), uncounted():
            outputs = ctx.run(masks, offset)
        wanted = [each for each, needs in zip((masks, offset), needed, strict=True) if needs]
        found = iter(torch.autograd.grad(outputs, wanted, gradient))
        return None, *(next(found) if needs else None for needs in needed)
