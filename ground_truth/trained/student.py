"""Several transformers of one shape, run and cut together, for training: every tensor begins with a model axis.

The arithmetic is the engine's (suite/model/transformer.py), which a test compares it with, cuts included. What differs
is what training needs: every row of a batch has a cut of its own, and each of the models learns by itself.

Letters in the shape comments: M models, N inputs, B rows of a batch, P positions, D d_model, E d_head, H heads,
W writers, R readers, r the readers at hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ...suite.model.block import ACTIVATIONS, Config
from ...suite.model.graph import Graph

Parameters = dict[str, Tensor]  # by the names of Transformer.state_dict(), each [M, ...]


def initial(config: Config, seeds: list[int]) -> Parameters:
    """Random weights, those of model m from ``seeds[m]`` alone: a product's entries have variance 1 / its inputs."""
    models = []
    for seed in seeds:
        chance = torch.Generator().manual_seed(seed)
        models.append({name: _drawn(name, shape, chance) for name, shape in _shapes(config).items()})
    return {name: torch.stack([model[name] for model in models]) for name in models[0]}


def _shapes(config: Config) -> dict[str, tuple[int, ...]]:
    d, wide = config.d_model, config.n_heads * config.d_head
    shapes: dict[str, tuple[int, ...]] = {
        "embed": (config.d_vocab, d),
        "pos_embed": (config.n_positions, d),
        "unembed": (d, config.d_out),
    }
    norms = []
    for layer in range(config.n_layers):
        at = f"blocks.{layer}"
        shapes |= {f"{at}.W_QKV": (d, 3 * wide), f"{at}.b_QKV": (3 * wide,)}
        shapes |= {f"{at}.W_O": (wide, d), f"{at}.b_O": (d,)}
        shapes |= {f"{at}.W_in": (d, config.d_mlp), f"{at}.b_in": (config.d_mlp,)}
        shapes |= {f"{at}.W_out": (config.d_mlp, d), f"{at}.b_out": (d,)}
        norms += [f"{at}.norm_attention", f"{at}.norm_mlp"]
    if config.norm == "layer":
        shapes |= {f"{norm}.{part}": (d,) for norm in (*norms, "norm_final") for part in ("weight", "bias")}
    return shapes


def _drawn(name: str, shape: tuple[int, ...], chance: torch.Generator) -> Tensor:
    if len(shape) == 1:
        return torch.ones(shape) if name.endswith("weight") else torch.zeros(shape)
    scale = 0.5 if name in ("embed", "pos_embed") else 1 / math.sqrt(shape[0])
    return scale * torch.randn(shape, generator=chance)


class Students:
    """Models of one shape.

    Args:
        config: with learned positions, layer norm or none, MLPs in sequence with attention.
        parameters: their weights, each [M, ...].
    """

    def __init__(self, config: Config, parameters: Mapping[str, Tensor]) -> None:
        self.config, self.parameters = config, dict(parameters)
        self.graph = Graph(config.n_layers, config.n_heads, "split")
        self.act = ACTIVATIONS[config.activation]

    def state(self, model: int) -> dict[str, Tensor]:
        """The state dict of one of the models."""
        return {name: weight[model].detach().clone() for name, weight in self.parameters.items()}

    def run(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """A plain pass over inputs [N, P]: outputs [M, N, P, O], and what every writer wrote [M, N, W, P * D]."""
        written = self._inputs(tokens)
        for layer in range(self.config.n_layers):
            x = self._shaped(written.sum(2, keepdim=True) + self._constant(layer, tokens.shape[1]))
            written = torch.cat([written, self._attend(layer, x)], 2)
            x = self._shaped(written.sum(2, keepdim=True) + self._constant(layer + 1, tokens.shape[1]))
            written = torch.cat([written, self._mlp(layer, x)], 2)
        return self._outputs(written.sum(2), tokens.shape[1]), written

    def cut(self, written: Tensor, clean: Tensor, other: Tensor, kept: Tensor) -> Tensor:
        """Outputs [M, B, P, O] of inputs with their edges cut, on which cut edges carry what another input writes.

        Args:
            written: of the plain pass over all inputs.
            clean, other: long [B], which input each row has, and which its counterfactual.
            kept: [B, W, R], one where a row keeps an edge and zero where it is cut.
        """
        graph = self.graph
        positions = written.shape[3] // self.config.d_model
        nodes, cut = [group for group in graph.groups if group.kind in ("head", "mlp")], written[:, other]
        first = cut[:, :, graph.group["input", 0].writers]  # what cut edges carry, [M, B, w, P * D]
        moved = written[:, clean, : first.shape[2]] - first  # what was written minus what a cut edge carries
        base = first.sum(2, keepdim=True)
        kept = kept.transpose(1, 2)  # [B, R, W]
        for group in nodes:
            compute, n_biases = (self._attend, group.layer) if group.kind == "head" else (self._mlp, group.layer + 1)
            x = kept[:, group.readers, : moved.shape[2]] @ moved + (base + self._constant(n_biases, positions))
            own = cut[:, :, group.writers]
            moved = torch.cat([moved, compute(group.layer, self._shaped(x)) - own], 2)
            base = base + own.sum(2, keepdim=True)
        return self._outputs((kept[:, -1:] @ moved + base)[:, :, 0], positions)

    def _inputs(self, tokens: Tensor) -> Tensor:
        token = self.parameters["embed"][:, tokens]
        position = self.parameters["pos_embed"][:, None, : tokens.shape[1]].expand_as(token)
        return torch.stack([token, position], 2).flatten(3)

    def _constant(self, n_layers: int, positions: int) -> Tensor:
        """The output biases of attention in the first layers, which no edge carries: [M, 1, 1, P * D]."""
        biases = [self.parameters[f"blocks.{layer}.b_O"] for layer in range(n_layers)]
        total = sum(biases, torch.zeros_like(self.parameters["unembed"][:, :, 0]))
        return total[:, None, None].repeat(1, 1, 1, positions)

    def _shaped(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.config.d_model))

    def _normed(self, x: Tensor) -> Tensor:
        if self.config.norm == "none":
            return x
        return F.layer_norm(x, x.shape[-1:], eps=self.config.norm_eps)

    def _reads(self, norm: str, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """A projection [M, D, ?] and its bias [M, 1, ?], with the norm's gain and bias in them."""
        bias = None if bias is None else bias[:, None]
        if self.config.norm == "none":
            return weight, bias
        shift = self.parameters[f"{norm}.bias"][:, None] @ weight
        return self.parameters[f"{norm}.weight"][:, :, None] * weight, shift if bias is None else bias + shift

    def _attend(self, layer: int, x: Tensor) -> Tensor:
        """What the heads write [M, B, H, P * D], from an input for each q, k and v reader [M, B, 3H or 1, P, D]."""
        config, at = self.config, f"blocks.{layer}"
        models, rows, _, positions, d = x.shape
        readers = 3 * config.n_heads
        weight, bias = self._reads(
            f"{at}.norm_attention", self.parameters[f"{at}.W_QKV"], self.parameters[f"{at}.b_QKV"]
        )
        weight = weight.unflatten(2, (readers, -1)).transpose(1, 2).flatten(0, 1)  # [M * 3H, D, E]
        bias = bias.unflatten(2, (readers, -1)).transpose(1, 2).flatten(0, 1)
        x = (
            self._normed(x)
            .expand(-1, -1, readers, -1, -1)
            .permute(0, 2, 1, 3, 4)
            .reshape(models * readers, rows * positions, d)
        )
        x = torch.baddbmm(bias, x, weight).view(models, readers, rows, positions, -1)
        q, k, v = x.permute(0, 1, 3, 4, 2).contiguous().chunk(3, 1)  # [M, H, P, E, B]: many small problems innermost
        found = (q.unsqueeze(3) * k.unsqueeze(2)).sum(4) * config.scale  # [M, H, P, P, B]
        if config.causal:
            later = torch.ones(positions, positions, dtype=torch.bool).triu(1)
            found = found.masked_fill(later[:, :, None], -torch.inf)
        z = (found.softmax(3).unsqueeze(4) * v.unsqueeze(2)).sum(3)  # [M, H, P, E, B]
        z = z.permute(0, 1, 4, 2, 3).reshape(models * config.n_heads, rows * positions, -1)
        out = z.bmm(self.parameters[f"{at}.W_O"].unflatten(1, (config.n_heads, -1)).flatten(0, 1))
        return out.view(models, config.n_heads, rows, positions * d).transpose(1, 2)

    def _mlp(self, layer: int, x: Tensor) -> Tensor:
        """What the MLP writes [M, B, 1, P * D], from its input [M, B, 1, P, D]."""
        at, p = f"blocks.{layer}", self.parameters
        weight, bias = self._reads(f"{at}.norm_mlp", p[f"{at}.W_in"], p[f"{at}.b_in"])
        hidden = self.act(torch.baddbmm(bias, self._normed(x).flatten(1, 3), weight))
        return torch.baddbmm(p[f"{at}.b_out"][:, None], hidden, p[f"{at}.W_out"]).view(*x.shape[:3], -1)

    def _outputs(self, written: Tensor, positions: int) -> Tensor:
        """[M, B, P, O] from all that was written, added up [M, B, P * D]."""
        x = self._shaped(written + self._constant(self.config.n_layers, positions)[:, 0])
        weight, bias = self._reads("norm_final", self.parameters["unembed"], None)
        x = self._normed(x).flatten(1, 2)
        out = x.bmm(weight) if bias is None else torch.baddbmm(bias, x, weight)
        return out.view(written.shape[0], written.shape[1], positions, -1)
