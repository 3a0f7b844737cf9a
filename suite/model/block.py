"""One layer: its weights, and what they compute from given inputs. Nothing here knows of edges.

Letters in the shape comments as in transformer.py: B examples, P positions, D d_model, E d_head, H query heads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ModelError
from .attention import Pattern, Rotation

Activation = Literal["gelu_tanh", "gelu", "relu", "silu", "identity"]
NormKind = Literal["layer", "rms", "none"]
ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "identity": lambda x: x,
}


# The features of architectures that a method needs a rule for. A method declares for which of them it is exact.
FEATURES = ("layer norm", "rms norm", "q/k norm", "joint q/k norm", "post norm", "caps", "windows")


@dataclass(frozen=True)
class Config:
    """The architecture: everything about a model that is not a weight.

    ``d_mlp = 0``: the model has attention alone. ``n_kv_heads`` below ``n_heads``: queries are grouped. ``positions``
    are ``learned`` embeddings, ``rotary`` (the first ``rotary_dims`` of each head) or ``none``; ``attention_scale``
    multiplies q.k and is 1/sqrt(d_head) unless given.

    ``rotary_frequencies``, in radians per position, one for each pair of rotated dimensions, replace the powers of
    ``rotary_base`` where a model scales them; cosine and sine are multiplied by ``rotary_scale``. ``score_cap`` c
    turns every attention score s into c tanh(s / c); ``logit_cap`` does the same to the logits. ``n_positions`` is
    the length in tokens of the longest prompt for which this configuration describes the model.

    ``layer_frequencies``, one tuple per layer, replace ``rotary_frequencies`` where layers differ (Gemma-3).
    ``qk_norms`` (Qwen-3, Gemma-3): a root-mean-square norm of each head's query and key stands before the rotation.
    This norm belongs to attention: what a query or key reader passes on is its projection, before the norm. With
    ``joint_qk_norms`` (OLMo-2) the queries of all heads of a layer are normed by one scale, and their keys by another:
    the scale of the run at hand, as with ``post_norms``. Under grouped queries, a cut edge gives the heads of a group
    different versions of the key that they share; the keys' scale is then taken over all versions. In the plain model
    the versions are equal, and the scale is the model's own. So every head of a layer takes part in the attention
    patterns of all its heads.

    ``windows``: for each layer, how many positions a query sees, its own and those just before it; None for all.

    ``pre_norms``: a norm stands before attention and another before the MLP; each belongs to the reader. Without them
    (OLMo-2) attention and MLP read the residual stream as it is.

    ``post_norms`` (Gemma-2): a norm stands behind attention and another behind the MLP. They belong to the writers:
    what a node writes is what arrives in the residual stream. The norm behind attention has one scale for all heads
    of its layer. For a fixed scale the heads add up, so each head's output is defined as its share of the normed sum:
    head h writes (z_h W_h * gain) / rms(sum over heads of z_h W_h). The scale is that of the run at hand; in a cut pass
    it is computed from the heads of that pass. So a head takes part in its layer's scale even when no kept edge leads
    out of it, and cutting all edges out of a node still means replacing what the node writes.
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
    norm: NormKind = "layer"
    norm_eps: float = 1e-5
    activation: Activation = "gelu_tanh"
    gated: bool = False
    parallel: bool = False
    causal: bool = True
    positions: Literal["learned", "rotary", "none"] = "learned"
    rotary_dims: int = 0
    rotary_base: float = 10000.0
    attention_scale: float | None = None
    unembed_bias: bool = False
    rotary_frequencies: tuple[float, ...] | None = None
    rotary_scale: float = 1.0
    score_cap: float | None = None
    logit_cap: float | None = None
    post_norms: bool = False
    windows: tuple[int | None, ...] | None = None
    layer_frequencies: tuple[tuple[float, ...], ...] | None = None
    qk_norms: bool = False
    joint_qk_norms: bool = False
    pre_norms: bool = True

    def __post_init__(self) -> None:
        if self.windows is not None:
            object.__setattr__(self, "windows", tuple(self.windows))
            if len(self.windows) != self.n_layers or any(window is not None and window < 1 for window in self.windows):
                raise ModelError(
                    f"windows={self.windows}: give one for each of {self.n_layers} layers, at least 1, or None."
                )
        if self.rotary_frequencies is not None:  # a list, from JSON; a tuple can be hashed
            object.__setattr__(self, "rotary_frequencies", tuple(self.rotary_frequencies))
        if self.layer_frequencies is not None:
            object.__setattr__(self, "layer_frequencies", tuple(map(tuple, self.layer_frequencies)))
            if len(self.layer_frequencies) != self.n_layers:
                raise ModelError(
                    f"layer_frequencies has {len(self.layer_frequencies)} entries for {self.n_layers} layers; give one "
                    f"for each."
                )
        if self.joint_qk_norms and not self.qk_norms:
            raise ModelError("joint_qk_norms has a meaning only with qk_norms; set both.")
        if self.post_norms and (self.norm != "rms" or self.parallel):
            raise ModelError(
                "post_norms have a meaning only with root-mean-square norms (norm='rms') and sequential blocks."
            )

    @property
    def kv_heads(self) -> int:
        return self.n_kv_heads or self.n_heads

    @property
    def scale(self) -> float:
        return self.d_head**-0.5 if self.attention_scale is None else self.attention_scale

    @property
    def frequencies(self) -> tuple[float, ...]:
        """The frequencies of the rotary embedding, in radians per position."""
        if self.rotary_frequencies is not None:
            return self.rotary_frequencies
        return tuple(self.rotary_base ** (-2 * i / self.rotary_dims) for i in range(self.rotary_dims // 2))

    @property
    def heads_together(self) -> bool:
        """Whether what a head computes depends on the other heads of its layer, so that no head can be left out."""
        return self.post_norms or self.joint_qk_norms

    @property
    def features(self) -> frozenset[str]:
        """Those of ``FEATURES`` that this model has."""
        windows = self.windows or ()
        found = {
            "layer norm": self.norm == "layer",
            "rms norm": self.norm == "rms",
            "q/k norm": self.qk_norms and not self.joint_qk_norms,
            "joint q/k norm": self.joint_qk_norms,
            "post norm": self.post_norms,
            "caps": self.score_cap is not None or self.logit_cap is not None,
            "windows": any(window is not None and window < self.n_positions for window in windows),
        }
        return frozenset(name for name, has in found.items() if has)


class Norm(nn.Module):
    """Layer norm, root-mean-square norm, or no norm. It is a part of the reader that it stands before."""

    def __init__(self, config: Config, kind: str | None = None, width: int | None = None) -> None:
        super().__init__()
        self.kind, self.eps = kind or config.norm, config.norm_eps
        if self.kind != "none":
            self.weight = nn.Parameter(torch.ones(width or config.d_model), requires_grad=False)
        if self.kind == "layer":
            self.bias = nn.Parameter(torch.zeros(width or config.d_model), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "layer":
            return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)
        if self.kind == "rms":
            return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)
        return x

    def standardised(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(the normed x before gain and bias, one over the scale [..., 1]): what the norm's backward pass needs."""
        centred = x - x.mean(-1, keepdim=True) if self.kind == "layer" else x
        inverse = (centred.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return centred * inverse, inverse


class Block(nn.Module):
    """One layer: its weights, and how it attends.

    The columns of W_QKV are all q heads, then all k heads, then all v heads; the rows of W_O are head by head.

    Args:
        layer: the layer's number in the model, since windows and frequencies may differ from layer to layer.
    """

    def __init__(self, config: Config, layer: int = 0) -> None:
        super().__init__()
        self.config = config
        window = None if config.windows is None else config.windows[layer]
        self.pattern = Pattern(config.scale, config.causal, window, config.score_cap)
        rotary = config.positions == "rotary"
        frequencies = config.frequencies if config.layer_frequencies is None else config.layer_frequencies[layer]
        self.rotation = Rotation(frequencies, config.rotary_scale) if rotary else None
        wide = (config.n_heads + 2 * config.kv_heads) * config.d_head
        shapes = {"W_QKV": (config.d_model, wide), "b_QKV": (wide,)}
        shapes |= {"W_O": (config.n_heads * config.d_head, config.d_model), "b_O": (config.d_model,)}
        before = None if config.pre_norms else "none"
        self.norm_attention = Norm(config, before)
        if config.d_mlp:
            self.norm_mlp = Norm(config, before)
            shapes |= {"W_in": (config.d_model, config.d_mlp), "b_in": (config.d_mlp,)}
            shapes |= {"W_out": (config.d_mlp, config.d_model), "b_out": (config.d_model,)}
            if config.gated:
                shapes["W_gate"] = (config.d_model, config.d_mlp)
        if config.qk_norms:
            heads = (config.n_heads, config.kv_heads) if config.joint_qk_norms else (1, 1)
            self.norm_q, self.norm_k = (Norm(config, "rms", n * config.d_head) for n in heads)
        if config.post_norms:
            self.norm_after_attention = Norm(config)
            if config.d_mlp:
                self.norm_after_mlp = Norm(config)
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape), requires_grad=False))

    def forward(self, compute: Callable, *given):
        """``compute(self, *given)``. Passes use a layer's weights only in here: whatever spreads weights over ranks,
        devices or a disk (FSDP, accelerate) brings them when a module is called and takes them away behind."""
        return compute(self, *given)

    def attending(self, compute: Callable, *given):
        """``compute(self, *given)`` for attention from queries, keys and values, which has weights in some models."""
        return self(compute, *given) if self.config.qk_norms else compute(self, *given)

    def mlp(self, x: Tensor) -> Tensor:
        hidden = F.linear(x, self.W_in.T, self.b_in)
        act = ACTIVATIONS[self.config.activation]
        hidden = act(x @ self.W_gate) * hidden if self.config.gated else act(hidden)
        out = F.linear(hidden, self.W_out.T, self.b_out)
        return self.norm_after_mlp(out) if self.config.post_norms else out

    def mlp_of(self, x: Tensor) -> Tensor:
        """What the MLP writes when it reads [..., D]."""
        return self.mlp(self.norm_mlp(x))

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

    def project_apart(self, x: Tensor, readers: Tensor | None) -> Tensor:
        """Queries, keys and values [r, ..., E] of the ``readers`` (see reader_weights) that read x [r, ..., D]."""
        return self.project_normed(self.norm_attention(x), readers)

    def project_alike(self, x: Tensor, readers: Tensor) -> Tensor:
        """``project_apart`` of one input [..., D] that all of the ``readers`` read."""
        return self.project_normed(self.norm_attention(x).expand(len(readers), *x.shape), readers)

    def project_normed(self, normed: Tensor, readers: Tensor | None) -> Tensor:
        """``project_apart`` of inputs [r, ..., D] that are normed already."""
        weight, bias = self.reader_weights(readers)
        projected = torch.baddbmm(bias.unsqueeze(1), normed.flatten(1, -2), weight)
        return projected.unflatten(1, normed.shape[1:-1])

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Each query's average of the values, [..., P, E], after rotation where positions are rotary.

        Queries, keys and values are [..., P, E]; they are those of all heads, [..., H, P, E], where the model norms all
        heads together.
        """
        q, k = self._placed(q, k)
        return self.pattern.attend(q, k, v)

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        """Attention scores [..., P, P] before the softmax, minus infinity where a query does not see a key."""
        return self.pattern.scores(*self._placed(q, k))

    def _placed(self, q: Tensor, k: Tensor) -> tuple[Tensor, ...]:
        """Queries and keys [..., P, E], normed where the model norms them, and rotated where positions are rotary."""
        if self.config.joint_qk_norms:
            q, k = self._normed_together(self.norm_q, q), self._normed_together(self.norm_k, k)
        elif self.config.qk_norms:
            q, k = self.norm_q(q), self.norm_k(k)
        return (q, k) if self.rotation is None else self.rotation(q, k)

    def _normed_together(self, norm: Norm, x: Tensor) -> Tensor:
        """Queries or keys [..., H, P, E], normed over all heads at once; each head has the gain of its own key."""
        gain = norm.weight.unflatten(0, (-1, self.config.d_head))
        gain = gain.repeat_interleave(self.config.n_heads // len(gain), 0).flatten()  # [H * E]
        together = x.movedim(-3, -2).flatten(-2)  # [..., P, H * E]
        return F.rms_norm(together, gain.shape, gain, norm.eps).unflatten(-1, x.shape[-3::2]).movedim(-2, -3)

    def shares(self, z: Tensor) -> Tensor:
        """Head outputs [H, ..., E], scaled such that ``W_write`` turns them into what arrives in the residual stream.

        They are the heads' shares of the norm behind attention, or z itself in a model without that norm (see Config).
        """
        return z * self.inverse_scale(z) if self.config.post_norms else z

    def inverse_scale(self, z: Tensor) -> Tensor:
        """One over the scale of the norm behind attention, of all head outputs [H, ..., E]: [..., 1]."""
        return self.norm_after_attention.standardised(z.movedim(0, -2).flatten(-2) @ self.W_O)[1]

    def write(self, z: Tensor) -> Tensor:
        """What the heads together write, from their shares [H, B, P, E]: [B, P, D], output bias included."""
        return F.linear(z.permute(1, 2, 0, 3).flatten(-2), self.W_write.T, self.b_O)

    def write_apart(self, z: Tensor, heads: slice | Tensor = slice(None)) -> Tensor:
        """What each of some heads writes, from their shares [h, ..., E]: [h, ..., D]."""
        return z.flatten(1, -2).bmm(self.W_O_by_head[heads]).unflatten(1, z.shape[1:-1])

    @property
    def W_write(self) -> Tensor:
        """[H * E, D]: W_O, and the gain of the norm behind attention where there is one."""
        return self.W_O * self.norm_after_attention.weight if self.config.post_norms else self.W_O

    @property
    def W_O_by_head(self) -> Tensor:
        """``W_write`` by head, [H, E, D]."""
        return self.W_write.unflatten(0, (self.config.n_heads, -1))
