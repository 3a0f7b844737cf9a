"""One layer's weights, and what they compute from inputs that are given: nothing here knows of edges.

Letters in the shape comments as in transformer.py: B examples, P positions, D d_model, E d_head, H query heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS = {
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "identity": lambda x: x,
}


@dataclass(frozen=True)
class Config:
    """The architecture: everything about a model that is not a weight.

    ``d_mlp = 0`` is attention only; ``n_kv_heads`` fewer than ``n_heads`` is grouped queries; ``positions`` are
    ``learned`` embeddings, ``rotary`` (the first ``rotary_dims`` of each head) or ``none``; ``attention_scale``
    multiplies q.k and is 1/sqrt(d_head) unless given.
    """

    n_layers: int
    n_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    d_vocab: int
    d_out: int
    n_positions: int
    n_kv_heads: int | None = None
    norm: Literal["layer", "rms", "none"] = "layer"
    norm_eps: float = 1e-5
    activation: Literal["gelu_tanh", "gelu", "relu", "silu", "identity"] = "gelu_tanh"
    gated: bool = False
    parallel: bool = False
    causal: bool = True
    positions: Literal["learned", "rotary", "none"] = "learned"
    rotary_dims: int = 0
    rotary_base: float = 10000.0
    attention_scale: float | None = None
    unembed_bias: bool = False

    @property
    def kv_heads(self) -> int:
        return self.n_kv_heads or self.n_heads

    @property
    def scale(self) -> float:
        return self.d_head**-0.5 if self.attention_scale is None else self.attention_scale


class Norm(nn.Module):
    """Layer norm, root-mean-square norm, or nothing. Part of the reader that it stands before."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.kind, self.eps = config.norm, config.norm_eps
        if self.kind != "none":
            self.weight = nn.Parameter(torch.ones(config.d_model), requires_grad=False)
        if self.kind == "layer":
            self.bias = nn.Parameter(torch.zeros(config.d_model), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "layer":
            return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)
        if self.kind == "rms":
            return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)
        return x

    def standardised(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(x before gain and bias, one over its scale [..., 1]): what the backward pass of the norm needs."""
        centred = x - x.mean(-1, keepdim=True) if self.kind == "layer" else x
        inverse = (centred.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return centred * inverse, inverse


class Block(nn.Module):
    """The weights of one layer. Columns of W_QKV: all q heads, all k heads, all v heads; rows of W_O: head by head."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        wide = (config.n_heads + 2 * config.kv_heads) * config.d_head
        shapes = {"W_QKV": (config.d_model, wide), "b_QKV": (wide,)}
        shapes |= {"W_O": (config.n_heads * config.d_head, config.d_model), "b_O": (config.d_model,)}
        self.norm_attention = Norm(config)
        if config.d_mlp:
            self.norm_mlp = Norm(config)
            shapes |= {"W_in": (config.d_model, config.d_mlp), "b_in": (config.d_mlp,)}
            shapes |= {"W_out": (config.d_mlp, config.d_model), "b_out": (config.d_model,)}
            if config.gated:
                shapes["W_gate"] = (config.d_model, config.d_mlp)
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape), requires_grad=False))

    def mlp(self, x: Tensor) -> Tensor:
        hidden = F.linear(x, self.W_in.T, self.b_in)
        act = ACTIVATIONS[self.config.activation]
        hidden = act(x @ self.W_gate) * hidden if self.config.gated else act(hidden)
        return F.linear(hidden, self.W_out.T, self.b_out)

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q [B, H, P, E] and k, v [B, H, P, E] (repeated for grouped queries) of one shared input [B, P, D]."""
        heads, groups = self.config.n_heads, self.config.kv_heads
        packed = F.linear(x, self.W_QKV.T, self.b_QKV).unflatten(-1, (-1, self.config.d_head)).transpose(1, 2)
        q, k, v = packed.split([heads, groups, groups], dim=1)
        if groups < heads:
            k, v = (part.repeat_interleave(heads // groups, dim=1) for part in (k, v))
        return q, k, v

    def reader_weights(self, readers: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Projection [3H, D, E] and bias [3H, E] of each q, k, v reader, or of ``readers`` (indices into the 3H)."""
        heads, groups = self.config.n_heads, self.config.kv_heads
        weight = self.W_QKV.unflatten(-1, (-1, self.config.d_head)).transpose(0, 1)  # a view: no copy
        bias = self.b_QKV.unflatten(0, (-1, self.config.d_head))
        if groups < heads:
            of_query = torch.arange(heads, device=bias.device) // (heads // groups)
            columns = torch.cat([torch.arange(heads, device=bias.device), heads + of_query, heads + groups + of_query])
            readers = columns if readers is None else columns[readers]
        return (weight, bias) if readers is None else (weight[readers], bias[readers])

    @property
    def W_O_by_head(self) -> Tensor:
        """[H, E, D]."""
        return self.W_O.unflatten(0, (self.config.n_heads, -1))


# Queries of up to so many numbers a head and example: one small product each would be nearly all overhead.
SMALL_ATTENTION = 256


def attend_small(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> Tensor:
    """Attention of [..., P, E] with the many small problems innermost: several times faster backwards on a CPU."""
    many = q.shape[:-2]
    q, k, v = (part.flatten(0, -3).permute(1, 2, 0).contiguous() for part in (q * scale, k, v))  # [P, E, N]
    scores = (q.unsqueeze(1) * k.unsqueeze(0)).sum(2)  # [P, P, N]
    if causal:
        later = torch.ones(len(q), len(q), dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(later.unsqueeze(-1), -torch.inf)
    return (scores.softmax(1).unsqueeze(2) * v.unsqueeze(0)).sum(1).permute(2, 0, 1).unflatten(0, many)
