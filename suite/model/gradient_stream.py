"""The residual stream of a cut pass with gradients, in one buffer.

Why: a tensor that autograd records is never changed in place. So the plain version (``ConcatenatedStream``) copies, at
every write, all that was written before, and keeps each copy for the backward pass. This takes memory that is quadratic
in the number of layers, and a fifth of the time of a training step. Here what is written goes into one buffer, and its
gradients are gathered in a second one.

Autograd sees two functions, one that writes and one that reads. Each hands an empty token to the next, so that the
backward pass handles every read before the writes that preceded it. The values are those of the plain version; the
gradients are the same sums in another order. The functions know the buffers and not the stream: the stream holds the
last token, which holds the functions, and such a circle would never be freed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .stream import Stream, slice_or_index


class BufferedStream(Stream):
    """Replaces ``ConcatenatedStream``; gradients do not go back to what the shared writers (``prefix``) write."""

    def _begin(self, masks: Tensor, shared: Tensor, live: list[bool]) -> None:
        self.by_reader = masks.transpose(1, 2)  # [C, R, W]
        self.buffers = _Buffers(shared, len(masks), len(live))
        self.token = masks.new_zeros((), requires_grad=True)

    def write(self, difference: Tensor) -> None:
        self.token = _Write.apply(self.token, difference.flatten(2), self.buffers)

    def read(self, readers: Sequence[int], n_visible: int, base: Tensor) -> Tensor:
        weights = self.by_reader[:, slice_or_index(readers, base.device), :n_visible]
        base = base.expand(*self.shape, -1).reshape(1, 1, -1)
        x = _Read.apply(self.token, weights, base, self.buffers).transpose(0, 1)
        whole = None
        if self.cut_at is not None:
            whole = _Read.apply(self.token, torch.ones_like(weights[:, :1]), base, self.buffers)[:, 0]
        return self.finished(x, whole, readers)


class _Buffers:
    """What is written, and its gradients.

    Args:
        shared: what the shared writers write, [W0, n * D].
        n_masks, n_writers: C and W.
    """

    def __init__(self, shared: Tensor, n_masks: int, n_writers: int) -> None:
        self.n_shared = self.n_written = len(shared)
        self.values = shared.new_empty(n_masks, n_writers, shared.shape[1])  # [C, W, n * D]
        self.values[:, : self.n_shared] = shared
        self.gradient: Tensor | None = None  # of what the other writers wrote, while a backward pass runs


class _Write(torch.autograd.Function):
    """Puts the next writers' differences [C, w, n * D] into the buffer."""

    @staticmethod
    def forward(ctx, token: Tensor, difference: Tensor, buffers: _Buffers) -> Tensor:
        ctx.buffers, ctx.start = buffers, buffers.n_written
        ctx.stop = buffers.n_written = ctx.start + difference.shape[1]
        buffers.values[:, ctx.start : ctx.stop] = difference
        return token.clone()

    @staticmethod
    def backward(ctx, token: Tensor) -> tuple[Tensor, Tensor | None, None]:
        buffers, own = ctx.buffers, None
        if buffers.gradient is not None and ctx.needs_input_grad[1]:
            own = buffers.gradient[:, ctx.start - buffers.n_shared : ctx.stop - buffers.n_shared]
        if ctx.start == buffers.n_shared:  # reads before the first write do not need it
            buffers.gradient = None
        return token, own, None


class _Read(torch.autograd.Function):
    """The base plus what the weights [C, r, w] let through of the first w writers: [C, r, n * D]."""

    @staticmethod
    def forward(ctx, token: Tensor, weights: Tensor, base: Tensor, buffers: _Buffers) -> Tensor:
        ctx.buffers = buffers
        ctx.save_for_backward(weights)
        return torch.baddbmm(base, weights, buffers.values[:, : weights.shape[2]])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        buffers, (weights,) = ctx.buffers, ctx.saved_tensors
        n, n_own = weights.shape[2], weights.shape[2] - buffers.n_shared
        if n_own > 0:
            if buffers.gradient is None:
                own = buffers.values[:, buffers.n_shared :]
                buffers.gradient = torch.zeros(own.shape, dtype=own.dtype, device=own.device)
            buffers.gradient[:, :n_own].baddbmm_(weights[:, :, buffers.n_shared :].transpose(1, 2), gradient)
        of_weights = None
        if ctx.needs_input_grad[1]:
            of_weights = gradient.bmm(buffers.values[:, :n].transpose(1, 2))
        return gradient.new_zeros(()), of_weights, None, None
