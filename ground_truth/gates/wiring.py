"""Weights from a description: heads that copy a token, MLP units, and what is added up to the output.

Every gate reads three bits and an answer token, ``x0 x1 x2 =``, with causal attention and no norm. A head looks from
the answer token at one position, by its position alone, and so sharply that it copies exactly; elsewhere it sees all
earlier tokens evenly. Biases belong to no edge: an MLP's stay when its edges are cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...suite.model.transformer import Config

N_BITS = 3
TOKENS = (0, 1, "=")
ANSWER = TOKENS.index("=")
SHARPNESS = 100.0  # attention score of the position looked at; the others' is 0, and exp(-100) is no number to notice


@dataclass(frozen=True)
class Copy:
    """A head that copies ``reads`` of the token at ``position`` to dimensions of the residual stream, times weights."""

    position: int
    writes: Mapping[str, float]
    reads: str = "bit"


@dataclass(frozen=True)
class Unit:
    """One MLP unit: relu(weights . residual + bias), written to dimensions times weights."""

    reads: Mapping[str, float]
    bias: float
    writes: Mapping[str, float]


@dataclass(frozen=True)
class Wiring:
    """A one-layer transformer.

    The token embedding writes ``bit`` (0 or 1) and ``sign`` (-1 or 1), both 0 for the answer token; the position
    embedding writes ``at0`` .. ``at3`` and ``index``. Every other dimension is one that heads or units write.

    Args:
        heads: one or more; ``None`` for one that does nothing.
        units: of the MLP.
        output: the dimensions that are added up to the output, times weights.
        constant: what the MLP writes whatever it reads (the bias of its output).
    """

    heads: Sequence[Copy | None]
    output: Mapping[str, float]
    units: Sequence[Unit] = ()
    constant: Mapping[str, float] | None = None

    @property
    def dimensions(self) -> dict[str, int]:
        """Residual dimensions by name."""
        written = [*(head.writes for head in self.heads if head), *(unit.writes for unit in self.units)]
        names = ["bit", "sign", *(f"at{i}" for i in range(N_BITS + 1)), "index"]
        names += [name for writes in written for name in writes]
        return {name: i for i, name in enumerate(dict.fromkeys(names))}

    @property
    def config(self) -> Config:
        return Config(
            n_layers=1,
            n_heads=len(self.heads),
            d_model=len(self.dimensions),
            d_head=1,
            d_mlp=max(1, len(self.units)),
            d_vocab=len(TOKENS),
            d_out=1,
            n_positions=N_BITS + 1,
            norm="none",
            activation="relu",
        )

    def state(self) -> dict[str, Tensor]:
        """The state dict of ``Transformer(config, "split")``, float32."""
        at, config = self.dimensions, self.config
        embed = torch.zeros(config.d_vocab, config.d_model)
        embed[:2, at["bit"]] = torch.tensor([0.0, 1.0])
        embed[:2, at["sign"]] = torch.tensor([-1.0, 1.0])
        pos_embed = torch.zeros(config.n_positions, config.d_model)
        pos_embed[:, at["index"]] = torch.arange(config.n_positions).float()
        for position in range(config.n_positions):
            pos_embed[position, at[f"at{position}"]] = 1

        q, k, v = (torch.zeros(config.d_model, config.n_heads) for _ in "qkv")
        output = torch.zeros(config.n_heads, config.d_model)
        for h, head in enumerate(self.heads):
            if head:
                q[at[f"at{N_BITS}"], h] = SHARPNESS
                k[at[f"at{head.position}"], h] = 1
                v[at[head.reads], h] = 1
                output[h] = self._row(head.writes)
        w_in = torch.zeros(config.d_model, config.d_mlp)
        b_in, w_out = torch.zeros(config.d_mlp), torch.zeros(config.d_mlp, config.d_model)
        for u, unit in enumerate(self.units):
            w_in[:, u], b_in[u], w_out[u] = self._row(unit.reads), unit.bias, self._row(unit.writes)
        return {
            "embed": embed,
            "pos_embed": pos_embed,
            "unembed": self._row(self.output)[:, None].clone(),
            "blocks.0.W_QKV": torch.cat([q, k, v], 1),
            "blocks.0.b_QKV": torch.zeros(3 * config.n_heads),
            "blocks.0.W_O": output,
            "blocks.0.b_O": torch.zeros(config.d_model),
            "blocks.0.W_in": w_in,
            "blocks.0.b_in": b_in,
            "blocks.0.W_out": w_out,
            "blocks.0.b_out": self._row(self.constant or {}),
        }

    @property
    def writers(self) -> dict[str, list[str]]:
        """For every node that writes anything, the names of what it writes."""
        positions = [f"at{i}" for i in range(N_BITS + 1)]
        written = {"tok_embed": ["bit", "sign"], "pos_embed": [*positions, "index"]}
        written |= {f"a0.h{h}": sorted(head.writes) for h, head in enumerate(self.heads) if head}
        written["m0"] = sorted({name for unit in self.units for name in unit.writes})
        return {node: names for node, names in written.items() if names}

    def _row(self, weights: Mapping[str, float]) -> Tensor:
        row = torch.zeros(len(self.dimensions))
        for name, weight in weights.items():
            row[self.dimensions[name]] = weight
        return row
