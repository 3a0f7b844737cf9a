"""The residual stream of a cut pass: what was written, and what the masks let through to each reader.

The letters in the shape comments are those of transformer.py: C masks, B examples, P positions, n = B * P, D d_model,
r readers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .device import send

# On a CPU sums are taken edge by edge where less than one in so many edges is kept: a product with few rows reaches a
# third of the processor's speed, and most of its terms are zero.
_SPARSE = 4


def slice_or_index(indices: Sequence[int], device: torch.device) -> slice | Tensor:
    """Consecutive indices as a slice, which copies nothing; others as a tensor on the device, sent without waiting."""
    consecutive = not indices or indices[-1] - indices[0] + 1 == len(indices)
    if consecutive:
        return slice(indices[0], indices[-1] + 1) if indices else slice(0)
    return send(torch.tensor(indices), device)


class Stream:
    """The differences (out - alternative) written so far in a cut pass, and what the masks let through to a reader."""

    def __init__(
        self,
        masks: Tensor,
        shared: Tensor,
        kept: Tensor,
        live: list[bool],
        shape: tuple[int, int],
        offset: Tensor | None,
        cut_at: Tensor | None,
    ) -> None:
        self.shape, self.offset, self.cut_at = tuple(shape), offset, cut_at
        self.n_masks, self.kept = len(masks), kept  # kept: the edges that some mask may keep, bool [W, R], on the CPU
        # What writers before the first cut write is the same under every mask, so it has no mask axis: [W0, n * D]
        self.n_shared = len(shared)
        self._begin(masks, shared.expand(-1, *shape, -1).flatten(1), live)

    def _begin(self, masks: Tensor, shared: Tensor, live: list[bool]) -> None:
        """Keeps masks [C, W, R] and shared writers [W0, n * D] as ``read`` needs them, with room for the others."""
        self.masks, self.shared, self.n_written = masks, shared, 0
        self.own_writers = [w for w in range(self.n_shared, len(live)) if live[w]]
        self.buffer = shared.new_empty(len(masks), len(self.own_writers), shared.shape[1])

    def write(self, difference: Tensor) -> None:
        """Adds the next live writers' differences, [C, w, n, D]."""
        stop = self.n_written + difference.shape[1]
        self.buffer[:, self.n_written : stop] = difference.flatten(2)
        self.n_written = stop

    def are_read(self, readers: Sequence[int]) -> list[bool]:
        """Of each reader whether its input may differ from the ``base`` of ``read``, under some mask."""
        if self.offset is not None:
            return [True] * len(readers)
        return self.kept[:, list(readers)].any(0).tolist()

    def read(self, readers: Sequence[int], n_visible: int, base: Tensor) -> Tensor:
        """Inputs [r, C, B, P, D] of ``readers`` that see the first ``n_visible`` writers, on top of ``base``."""
        device = base.device
        masks = self.masks[:, :n_visible, slice_or_index(readers, device)].permute(2, 0, 1)  # [r, C, w]
        base = base.expand(*self.shape, -1).reshape(1, 1, -1)
        n_own = bisect_left(self.own_writers, n_visible)
        seen = self.kept[:n_visible, list(readers)].any(1)
        shared = _chosen(seen[: self.n_shared].tolist())
        x = base
        if shared:
            weights = masks[..., slice_or_index(shared, device)].flatten(0, 1)  # [r * C, w]
            x = torch.addmm(base[0], weights, self.shared[slice_or_index(shared, device)])
            x = x.unflatten(0, masks.shape[:2]).transpose(0, 1)
        if n_own:
            weights = masks[..., slice_or_index(self.own_writers[:n_own], device)].transpose(0, 1)  # [C, r, w]
            kept = weights != 0 if device.type == "cpu" else None
            if kept is not None and _SPARSE * int(kept.sum()) < kept.numel():
                x = self._sums(weights, kept).add_(x)
            elif own := _chosen(seen[self.own_writers[:n_own]].tolist()):
                part = slice_or_index(own, device)
                x = torch.baddbmm(x, weights[..., part], self.buffer[:, part])
        x = x.expand(self.n_masks, len(readers), -1).transpose(0, 1)
        whole = None
        if self.cut_at is not None:
            whole = base[0] + self.shared[:n_visible].sum(0) + self.buffer[:, :n_own].sum(1)
        return self.finished(x, whole, readers)

    def _sums(self, weights: Tensor, kept: Tensor) -> Tensor:
        """What weights [C, r, w] let through of the first w own writers, edge by edge of ``kept``: [C, r, n * D]."""
        n_masks, n_readers, _ = weights.shape
        mask, _, writer = kept.nonzero().unbind(1)
        edges = kept.flatten(0, 1).sum(1)
        found = F.embedding_bag(
            mask * self.buffer.shape[1] + writer,
            self.buffer.flatten(0, 1),
            edges.cumsum(0) - edges,
            mode="sum",
            per_sample_weights=weights[kept],
        )
        return found.unflatten(0, (n_masks, n_readers))

    def finished(self, x: Tensor, whole: Tensor | None, readers: Sequence[int]) -> Tensor:
        """The readers' inputs: ``x`` [r, C, n * D]; where no edge is cut, those without cuts, ``whole`` [C, n * D]."""
        x = x.unflatten(2, (*self.shape, -1))
        if self.offset is not None:
            offset = self.offset[:, slice_or_index(readers, x.device)].transpose(0, 1)
            x = x + (offset[:, :, None] if offset.ndim == 4 else offset[:, :, None, None])
        if whole is None or self.cut_at is None:
            return x
        return torch.where(self.cut_at[:, :, None], x, whole.unflatten(1, (*self.shape, -1)))


def _chosen(seen: list[bool]) -> list[int]:
    """The places of those that are seen; all places where at least half are, because a choice has to be copied."""
    places = [place for place, is_seen in enumerate(seen) if is_seen]
    return places if 2 * len(places) < len(seen) else list(range(len(seen)))


class ConcatenatedStream(Stream):
    """A stream for passes with gradients: it holds every writer, in tensors that are never changed in place.

    It is the plain version, for passes under ``torch.vmap``, which does not allow a buffer that is written in place.
    gradient_stream.py has the fast version.
    """

    def _begin(self, masks: Tensor, shared: Tensor, live: list[bool]) -> None:
        self.by_reader = masks.transpose(1, 2)  # [C, R, W]
        self.written = shared.expand(len(masks), -1, -1)  # [C, w, n * D]

    def write(self, difference: Tensor) -> None:
        self.written = torch.cat([self.written, difference.flatten(2)], 1)

    def read(self, readers: Sequence[int], n_visible: int, base: Tensor) -> Tensor:
        weights = self.by_reader[:, slice_or_index(readers, base.device), :n_visible]
        base = base.expand(*self.shape, -1).reshape(1, 1, -1)
        x = torch.baddbmm(base, weights, self.written[:, :n_visible]).transpose(0, 1)
        whole = None if self.cut_at is None else base[0] + self.written[:, :n_visible].sum(1)
        return self.finished(x, whole, readers)


class PositionStream(Stream):
    """A stream under masks that differ from position to position. It is the plain version, with and without gradients:
    it holds every writer, in tensors that are never changed in place."""

    def _begin(self, masks: Tensor, shared: Tensor, live: list[bool]) -> None:
        self.by_reader = masks.permute(2, 0, 1, 3)  # [R, C, W, P]
        self.writers = [w for w in range(len(live)) if w < self.n_shared or live[w]]  # of those written, in order
        self.written = shared.expand(len(masks), -1, -1)  # [C, w, n * D]

    def write(self, difference: Tensor) -> None:
        self.written = torch.cat([self.written, difference.flatten(2)], 1)

    def read(self, readers: Sequence[int], n_visible: int, base: Tensor) -> Tensor:
        n_seen = bisect_left(self.writers, n_visible)
        weights = self.by_reader[slice_or_index(readers, base.device)]
        weights = weights[:, :, slice_or_index(self.writers[:n_seen], base.device)]  # [r, C, w, P]
        seen = self.written[:, :n_seen].unflatten(2, (*self.shape, -1))  # [C, w, B, P, D]
        x = base + torch.einsum("rcwp,cwbpd->rcbpd", weights, seen)
        whole = None if self.cut_at is None else (base + seen.sum(1)).flatten(1)
        return self.finished(x.flatten(2), whole, readers)
