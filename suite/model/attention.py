"""Attention, from queries, keys and values; rotary positions and capped scores where the model has them.

Letters in the shape comments as in transformer.py: P positions, E d_head.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

# Up to so many numbers (P * E) of a head's queries, all heads and examples are multiplied at once: one product for each
# would spend most of its time on being started.
_SMALL = 256


@dataclass(frozen=True)
class Pattern:
    """The attention pattern: which positions a query sees, and how scores become weights.

    Args:
        scale: multiplies q.k.
        causal: whether a query sees no later position.
        window: how many positions a query sees, its own and those just before it; None for all.
        cap: c, which turns every score s into c tanh(s / c); None leaves scores as they are.
    """

    scale: float
    causal: bool = True
    window: int | None = None
    cap: float | None = None

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The values that each query attends to, averaged: [..., P, E] from queries, keys and values [..., P, E]."""
        if self.cap is not None:
            return self.scores(q, k).softmax(-1) @ v
        if q.requires_grad and q.device.type == "cpu" and q.shape[-2] * q.shape[-1] <= _SMALL:
            return self._attend_small(q, k, v)
        unseen = None if self.window is None or self.window >= q.shape[-2] else self.unseen(q.shape[-2], q.device)
        if unseen is None:
            return F.scaled_dot_product_attention(q, k, v, is_causal=self.causal, scale=self.scale)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=~unseen, scale=self.scale)

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        """Scores [..., P, P], minus infinity where a query does not see a key: ``attend`` before the softmax."""
        found = q @ k.transpose(-1, -2) * self.scale
        if self.cap is not None:
            found = self.cap * (found / self.cap).tanh()
        unseen = self.unseen(found.shape[-1], found.device)
        return found if unseen is None else found.masked_fill(unseen, float("-inf"))

    def unseen(self, n_positions: int, device: torch.device) -> Tensor | None:
        """bool [P, P], true where a query (row) does not see a key (column); None when every query sees every key."""
        window = None if self.window is None or self.window >= n_positions else self.window
        if not self.causal and window is None:
            return None
        every = torch.ones(n_positions, n_positions, dtype=torch.bool, device=device)
        unseen = every.triu(1) if self.causal else torch.zeros_like(every)
        return unseen if window is None else unseen | every.tril(-window)

    def _attend_small(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """``attend`` with heads and examples as the last axis: on a CPU its backward pass is several times faster."""
        many = q.shape[:-2]
        q, k, v = (part.flatten(0, -3).permute(1, 2, 0).contiguous() for part in (q * self.scale, k, v))  # [P, E, N]
        found = (q.unsqueeze(1) * k.unsqueeze(0)).sum(2)  # [P, P, N]
        unseen = self.unseen(len(q), q.device)
        if unseen is not None:
            found = found.masked_fill(unseen.unsqueeze(-1), -torch.inf)
        return (found.softmax(1).unsqueeze(2) * v.unsqueeze(0)).sum(1).permute(2, 0, 1).unflatten(0, many)


@dataclass(frozen=True)
class Rotation:
    """The rotary embedding of queries and keys.

    Args:
        frequencies: in radians per position, one for each pair of rotated dimensions.
        scale: multiplies cosine and sine.
    """

    frequencies: tuple[float, ...]
    scale: float = 1.0

    def __call__(self, *parts: Tensor) -> tuple[Tensor, ...]:
        """The given queries or keys [..., P, E], each rotated by its position."""
        cos, sin = _table(self, parts[0].shape[-2], parts[0].dtype, parts[0].device)
        return tuple(_rotate(x, cos, sin) for x in parts)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [..., P, E] with its first dimensions, as many as the table [P, dims] has, rotated in the half-split layout."""
    turned, still = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
    first, second = turned.chunk(2, -1)
    return torch.cat([turned * cos + torch.cat([-second, first], -1) * sin, still], -1)


@lru_cache(maxsize=16)
def _table(rotation: Rotation, n_positions: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every angle [P, dims]; computed in float32 or wider, as the transformers library does."""
    wide = torch.promote_types(dtype, torch.float32)
    frequency = torch.tensor(rotation.frequencies, dtype=wide, device=device)
    angle = torch.arange(n_positions, dtype=wide, device=device)[:, None] * frequency
    angle = torch.cat([angle, angle], -1)
    return (angle.cos() * rotation.scale).to(dtype), (angle.sin() * rotation.scale).to(dtype)
