"""Attention on queries, keys and values that are given: positions rotated, scores capped where the model does it.

Letters in the shape comments as in transformer.py: P positions, E d_head.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .block import Config

# Queries of up to so many numbers a head and example: one small product each would be nearly all overhead.
SMALL = 256


def attend(config: Config, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of [..., P, E] queries, keys and values: what they mix, [..., P, E]."""
    if config.score_cap is not None:
        return scores(config, q, k).softmax(-1) @ v
    q, k = rotated(config, q, k)
    if q.requires_grad and q.device.type == "cpu" and q.shape[-2] * q.shape[-1] <= SMALL:
        return _attend_small(q, k, v, config.causal, config.scale)
    return F.scaled_dot_product_attention(q, k, v, is_causal=config.causal, scale=config.scale)


def scores(config: Config, q: Tensor, k: Tensor) -> Tensor:
    """Attention scores [..., P, P], minus infinity where a query must not look: ``attend`` up to the softmax."""
    q, k = rotated(config, q, k)
    found = q @ k.transpose(-1, -2) * config.scale
    if config.score_cap is not None:
        found = config.score_cap * (found / config.score_cap).tanh()
    if config.causal:
        later = torch.ones(found.shape[-2:], dtype=torch.bool, device=found.device).triu(1)
        found = found.masked_fill(later, float("-inf"))
    return found


def rotated(config: Config, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys [..., P, E] with their positions in them, where positions are rotary."""
    if config.positions != "rotary":
        return q, k
    cos, sin = _table(config, q.shape[-2], q.dtype, q.device)
    return _rotate(q, cos, sin), _rotate(k, cos, sin)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The first dims of [..., P, E], as many as the table [P, dims] has, in the half-split layout."""
    turned, still = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
    first, second = turned.chunk(2, -1)
    return torch.cat([turned * cos + torch.cat([-second, first], -1) * sin, still], -1)


@lru_cache(maxsize=16)
def _table(config: Config, n_positions: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every angle [P, dims]; taken in float32 or wider, as transformers does."""
    wide = torch.promote_types(dtype, torch.float32)
    frequency = torch.tensor(config.frequencies, dtype=wide, device=device)
    angle = torch.arange(n_positions, dtype=wide, device=device)[:, None] * frequency
    angle = torch.cat([angle, angle], -1)
    return (angle.cos() * config.rotary_scale).to(dtype), (angle.sin() * config.rotary_scale).to(dtype)


def _attend_small(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> Tensor:
    """Attention of [..., P, E] with the many small problems innermost: several times faster backwards on a CPU."""
    many = q.shape[:-2]
    q, k, v = (part.flatten(0, -3).permute(1, 2, 0).contiguous() for part in (q * scale, k, v))  # [P, E, N]
    found = (q.unsqueeze(1) * k.unsqueeze(0)).sum(2)  # [P, P, N]
    if causal:
        later = torch.ones(len(q), len(q), dtype=torch.bool, device=q.device).triu(1)
        found = found.masked_fill(later.unsqueeze(-1), -torch.inf)
    return (found.softmax(1).unsqueeze(2) * v.unsqueeze(0)).sum(1).permute(2, 0, 1).unflatten(0, many)
