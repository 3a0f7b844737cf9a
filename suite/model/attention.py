"""Attention on queries, keys and values that are given: positions rotated, scores capped where the model does it.

Letters in the shape comments as in transformer.py: P positions, E d_head.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

# Queries of up to so many numbers a head and example: one small product each would be nearly all overhead.
SMALL = 256


@dataclass(frozen=True)
class Pattern:
    """How the scores of queries and keys whose positions are in them become a pattern.

    Args:
        scale: multiplies q.k.
        causal: a query sees no later position.
        window: how many positions a query sees, its own and those just before it; None for all.
        cap: c makes every score s into c tanh(s / c).
    """

    scale: float
    causal: bool = True
    window: int | None = None
    cap: float | None = None

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """What [..., P, E] queries, keys and values mix, [..., P, E]."""
        if self.cap is not None:
            return self.scores(q, k).softmax(-1) @ v
        if q.requires_grad and q.device.type == "cpu" and q.shape[-2] * q.shape[-1] <= SMALL:
            return self._attend_small(q, k, v)
        unseen = None if self.window is None or self.window >= q.shape[-2] else self.unseen(q.shape[-2], q.device)
        if unseen is None:
            return F.scaled_dot_product_attention(q, k, v, is_causal=self.causal, scale=self.scale)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=~unseen, scale=self.scale)

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        """Scores [..., P, P], minus infinity where a query must not look: ``attend`` up to the softmax."""
        found = q @ k.transpose(-1, -2) * self.scale
        if self.cap is not None:
            found = self.cap * (found / self.cap).tanh()
        unseen = self.unseen(found.shape[-1], found.device)
        return found if unseen is None else found.masked_fill(unseen, float("-inf"))

    def unseen(self, n_positions: int, device: torch.device) -> Tensor | None:
        """bool [P, P], where a query (row) must not look; None where it may everywhere."""
        window = None if self.window is None or self.window >= n_positions else self.window
        if not self.causal and window is None:
            return None
        every = torch.ones(n_positions, n_positions, dtype=torch.bool, device=device)
        unseen = every.triu(1) if self.causal else torch.zeros_like(every)
        return unseen if window is None else unseen | every.tril(-window)

    def _attend_small(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """``attend`` with the many small problems innermost: several times faster backwards on a CPU."""
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
        frequencies: in radians a position, one for each pair of rotated dimensions.
        scale: multiplies cosine and sine.
    """

    frequencies: tuple[float, ...]
    scale: float = 1.0

    def __call__(self, *parts: Tensor) -> tuple[Tensor, ...]:
        """The same [..., P, E] with their positions in them."""
        cos, sin = _table(self, parts[0].shape[-2], parts[0].dtype, parts[0].device)
        return tuple(_rotate(x, cos, sin) for x in parts)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The first dims of [..., P, E], as many as the table [P, dims] has, in the half-split layout."""
    turned, still = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
    first, second = turned.chunk(2, -1)
    return torch.cat([turned * cos + torch.cat([-second, first], -1) * sin, still], -1)


@lru_cache(maxsize=16)
def _table(rotation: Rotation, n_positions: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every angle [P, dims]; taken in float32 or wider, as transformers does."""
    wide = torch.promote_types(dtype, torch.float32)
    frequency = torch.tensor(rotation.frequencies, dtype=wide, device=device)
    angle = torch.arange(n_positions, dtype=wide, device=device)[:, None] * frequency
    angle = torch.cat([angle, angle], -1)
    return (angle.cos() * rotation.scale).to(dtype), (angle.sin() * rotation.scale).to(dtype)
