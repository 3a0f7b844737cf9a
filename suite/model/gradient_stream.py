"""The residual stream of a cut pass with gradients, in one buffer.

Why: a tensor that autograd records is never changed in place. So the plain version (``ConcatenatedStream``) copies, at
every write, all that was written before, and keeps each copy for the backward pass. This takes memory that is quadratic
in the number of layers, and a fifth of the time of a training step. Here what is written goes into one buffer, and its
gradients are gathered in a second one.

Autograd sees two functions, one that writes and one that reads. Each hands an empty token to the next, so that the
backward pass handles every read before the writes that preceded it. The values are those of the plain version; the
gradients are the same sums in another order.
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
        self.n_written = self.n_shared
        self.buffer = shared.new_empty(len(masks), len(live), shared.shape[1])  # [C, W, n * D]
        self.buffer[:, : self.n_shared] = shared
        self.gradient: Tensor | None = None  # of what the other writers wrote, while a backward pass runs
        self.token = masks.new_zeros((), requires_grad=True)

    def write(self, difference: Tensor) -> None:
        self.token = _Write.apply(self.token, difference.flatten(2), self)

    def read(self, readers: Sequence[int], n_visible: int, base: Tensor) -> Tensor:
        weights = self.by_reader[:, slice_or_index(readers, base.device), :n_visible]
        base = base.expand(*self.shape, -1).reshape(1, 1, -1)
        x = _Read.apply(self.token, weights, base, self).transpose(0, 1)
        whole = None
        if self.cut_at is not None:
            whole = _Read.apply(self.token, torch.ones_like(weights[:, :1]), base, self)[:, 0]
        return self.finished(x, whole, readers)


class _Write(torch.autograd.Function):
    """Puts the next writers' differences [C, w, n * D] into the buffer."""

    @staticmethod
    def forward(ctx, token: Tensor, difference: Tensor, stream: BufferedStream) -> Tensor:
        ctx.stream, ctx.start = stream, stream.n_written
        ctx.stop = stream.n_written = ctx.start + difference.shape[1]
        stream.buffer[:, ctx.start : ctx.stop] = difference
        return token.clone()

    @staticmethod
    def backward(ctx, token: Tensor) -> tuple[Tensor, Tensor | None, None]:
        stream, own = ctx.stream, None
        if stream.gradient is not None and ctx.needs_input_grad[1]:
            own = stream.gradient[:, ctx.start - stream.n_shared : ctx.stop - stream.n_shared]
        if ctx.start == stream.n_shared:  # reads before the first write do not need it
            stream.gradient = None
        return token, own, None


class _Read(torch.autograd.Function):
    """The base plus what the weights [C, r, w] let through of the first w writers: [C, r, n * D]."""

    @staticmethod
    def forward(ctx, token: Tensor, weights: Tensor, base: Tensor, stream: BufferedStream) -> Tensor:
        ctx.stream = stream
        ctx.save_for_backward(weights)
        return torch.baddbmm(base, weights, stream.buffer[:, : weights.shape[2]])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        stream, (weights,) = ctx.stream, ctx.saved_tensors
        n, n_own = weights.shape[2], weights.shape[2] - stream.n_shared
        if n_own > 0:
            if stream.gradient is None:
                own = stream.buffer[:, stream.n_shared :]
                stream.gradient = torch.zeros(own.shape, dtype=own.dtype, device=own.device)
            stream.gradient[:, :n_own].baddbmm_(weights[:, :, stream.n_shared :].transpose(1, 2), gradient)
        of_weights = None
        if ctx.needs_input_grad[1]:
            of_weights = gradient.bmm(stream.buffer[:, :n].transpose(1, 2))
        return gradient.new_zeros(()), of_weights, None, None
