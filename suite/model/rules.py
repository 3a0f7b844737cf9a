"""How a gradient is carried back through the parts of the model that are not linear.

Some methods replace a derivative by another coefficient: a norm whose scale is held, a softmax at another temperature.
The values are those of the plain model with gradients recorded, bit for bit: each rule computes the plain value and
gives it the gradient of another expression.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .block import ACTIVATIONS, Block, Norm

# The ratio act(x) / x of an activation is not defined at zero. For x nearer to zero than this, it is taken at this x.
_NEAR_ZERO = 1e-6


@dataclass(frozen=True)
class Rules:
    """The backward pass of one method; with the defaults it gives the derivative.

    Args:
        freeze_norm: the scale of every norm is a constant (LN-rule of RelP; GIM).
        activation_ratio: the slope of an activation at x is act(x) / x (identity rule of RelP).
        freeze_attention: the attention pattern is a constant (AH-rule of RelP).
        softmax_temperature: the derivative of the attention softmax is p_T (g - <p_T, g>) with p_T the softmax of the
            scores divided by T (GIM; without the 1/T of the chain rule, as its authors define it).
        query_share, key_share, value_share: what the gradients that arrive at q, k and v are multiplied by.
        gate_share: what the gradient that arrives at a gated product is multiplied by (half-rule of RelP; GIM).
    """

    freeze_norm: bool = False
    activation_ratio: bool = False
    freeze_attention: bool = False
    softmax_temperature: float = 1.0
    query_share: float = 1.0
    key_share: float = 1.0
    value_share: float = 1.0
    gate_share: float = 1.0

    def norm(self, norm: Norm, x: Tensor) -> Tensor:
        """``norm(x)``, [..., D]."""
        if not self.freeze_norm or norm.kind == "none":
            return norm(x)
        with torch.no_grad():
            value, (_, inverse) = norm(x), norm.standardised(x)
        centred = x - x.mean(-1, keepdim=True) if norm.kind == "layer" else x
        return _hang(value, centred * inverse * norm.weight)

    def qkv(self, block: Block, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v [B, H, P, E] of one residual stream [B, P, D]."""
        return block.qkv(self.norm(block.norm_attention, x))

    def project_apart(self, block: Block, x: Tensor) -> Tensor:
        """``block.project_apart`` of all readers: queries, keys and values [3H, ..., E] of inputs [3H, ..., D]."""
        return block.project_normed(self.norm(block.norm_attention, x), None)

    def shares(self, block: Block, z: Tensor) -> Tensor:
        """``block.shares(z)``, [H, B, P, E]."""
        if not self.freeze_norm or not block.config.post_norms:
            return block.shares(z)
        return z * block.inverse_scale(z.detach())

    def mlp_of(self, block: Block, x: Tensor) -> Tensor:
        """``block.mlp_of(x)``, [..., D]."""
        return self.mlp(block, self.norm(block.norm_mlp, x))

    def mlp(self, block: Block, x: Tensor) -> Tensor:
        """``block.mlp(x)``, [..., D]."""
        gated = block.config.gated and self.gate_share != 1
        frozen = block.config.post_norms and self.freeze_norm
        if not self.activation_ratio and not gated and not frozen:
            return block.mlp(x)
        with torch.no_grad():
            value = block.mlp(x)
        hidden = F.linear(x, block.W_in.T, block.b_in)
        hidden = (
            self._activation(block, x @ block.W_gate) * hidden
            if block.config.gated
            else self._activation(block, hidden)
        )
        out = F.linear(self.gate_share * hidden if gated else hidden, block.W_out.T, block.b_out)
        return _hang(value, self.norm(block.norm_after_mlp, out) if block.config.post_norms else out)

    def _activation(self, block: Block, x: Tensor) -> Tensor:
        activation = ACTIVATIONS[block.config.activation]
        if not self.activation_ratio:
            return activation(x)
        at = x.detach()
        at = torch.where(at.abs() < _NEAR_ZERO, torch.where(at < 0, -_NEAR_ZERO, _NEAR_ZERO), at)
        return x * (activation(at) / at)

    def attend(self, block: Block, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """``block.attend(q, k, v)``, [..., P, E]."""
        q, k, v = (_share(x, s) for x, s in ((q, self.query_share), (k, self.key_share), (v, self.value_share)))
        if not self.freeze_attention and self.softmax_temperature == 1:
            return block.attend(q, k, v)
        value = block.attend(q, k, v)  # gradients are recorded: without them torch would choose another kernel
        with torch.no_grad():
            pattern = block.scores(q, k).softmax(-1)
        if not self.freeze_attention:
            temperature = self.softmax_temperature
            pattern = _hang(pattern, temperature * (block.scores(q, k) / temperature).softmax(-1))
        return _hang(value, pattern @ v)


EXACT = Rules()


class _Hang(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value: Tensor, gradient_of: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


def _hang(value: Tensor, gradient_of: Tensor) -> Tensor:
    """``value``, with the gradient of ``gradient_of``."""
    return _Hang.apply(value.detach(), gradient_of)


def _share(x: Tensor, share: float) -> Tensor:
    """``x``, whose gradient is multiplied by ``share``."""
    return x if share == 1 else _hang(x, share * x)
