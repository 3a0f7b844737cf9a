"""Edges cut one at a time, each in a run whose other edges are all kept.

Why: under a mask every reader has an input of its own. When only one edge is cut, only one node reads something else
than the residual stream. All nodes above it share one changed stream, and the nodes below it and beside it in its layer
write what they write in the whole model. So a cut costs one node and the plain layers above it: a third of a plain pass
on average, and only the unembedding for an edge into the logits. ``run_cut`` is the plain version.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .block import Block
from .device import send
from .graph import NodeGroup
from .passes import spend
from .transformer import Transformer

SingleCut = tuple[int, int]
"""The indices of an edge's writer and reader."""


class SingleCuts:
    """One batch's plain run, from which single edges are cut.

    Args:
        inputs: what the input nodes write, [n_inputs, B, P, D].
        difference: what each writer writes less what a cut edge carries, [W, B, P, D].
        read: bool [B, P], the positions whose logits are wanted.
    """

    @torch.no_grad()
    def __init__(self, model: Transformer, inputs: Tensor, difference: Tensor, read: Tensor) -> None:
        self.model, self.difference, self.read = model, difference.expand(-1, *inputs.shape[1:]), read
        self.taps: list[dict[str, Tensor]] = []
        self.plain = model.run(inputs, read=read, taps=self.taps)[0]  # [n_read, d_out]
        self.moved = (difference != 0).flatten(1).any(1).tolist()
        """For each writer, whether a cut edge carries something else than the writer writes."""

    @torch.no_grad()
    def outputs(self, group: NodeGroup, cuts: Sequence[SingleCut]) -> Tensor:
        """Logits [C, n_read, d_out] with each of some edges into a group's nodes cut alone.

        Args:
            cuts: those into one reader stand together.
        """
        return self.outputs_at(group, cuts)

    def outputs_at(self, group: NodeGroup, cuts: Sequence[SingleCut], shares: Tensor | None = None) -> Tensor:
        """The same with each edge cut in part, by its share [C, B] of the way; differentiable in the shares, twice."""
        by_reader: dict[int, list[int]] = {}
        for writer, reader in cuts:
            by_reader.setdefault(reader, []).append(writer)
        streams, start = [], 0
        for reader, writers in by_reader.items():
            stop = start + len(writers)
            missing = self._missing(writers, None if shares is None else shares[start:stop])
            streams.append(self._after(group, reader, missing))
            start = stop
        return self._logits_above(group, torch.cat(streams))

    def outputs_without(self, group: NodeGroup, writers: Sequence[int], shares: Tensor) -> Tensor:
        """Logits [C, n_read, d_out] with each of some writers of a group cut alone, on all of its edges, by its share
        [C, B] of the way; differentiable in the shares, twice."""
        following = self.taps[0] if group.kind == "input" else self.taps[group.layer + 1]
        behind = following.get("residual", following.get("logits"))
        if group.kind == "head" and self._mlp_behind_heads:
            behind = self.taps[group.layer]["mlp"]
        return self._logits_above(group, behind - self._missing(writers, shares))

    @property
    def _mlp_behind_heads(self) -> bool:
        return self.model.graph.mlps and not self.model.config.parallel

    def _missing(self, writers: Sequence[int], shares: Tensor | None) -> Tensor:
        """What is missing [C, B, P, D] where each writer is cut, wholly or by its share [C, B]."""
        whole = self.difference[list(writers)]
        return whole if shares is None else shares[:, :, None, None] * whole

    def _logits_above(self, group: NodeGroup, streams: Tensor) -> Tensor:
        """Logits [C, n_read, d_out] of the stream [C, B, P, D] behind a group; behind heads without their MLP."""
        model, examples = self.model, streams.shape[1]
        first = 0 if group.kind == "input" else group.layer + 1
        spend(forward=len(streams) * examples * (model.config.n_layers - group.layer) / model.config.n_layers)
        flat = streams.flatten(0, 1)  # [C * B, P, D]
        if group.kind == "head" and self._mlp_behind_heads:
            flat = flat + model.blocks[group.layer](Block.mlp_of, flat)
        for layer in range(first, model.config.n_layers):
            flat = model.blocks[layer](_whole_layer, flat)
        return model.to_logits(flat.unflatten(0, (-1, examples)), self.read)

    def _after(self, group: NodeGroup, reader: int, missing: Tensor) -> Tensor:
        """The residual stream [C, B, P, D] behind a group one of whose readers lacks ``missing`` [C, B, P, D].

        Where an MLP stands behind the heads it is not in it yet.
        """
        if group.kind == "logits":
            return self.taps[-1]["logits"] - missing
        tap, following = self.taps[group.layer], self.taps[group.layer + 1]
        behind, block = following.get("residual", following.get("logits")), self.model.blocks[group.layer]
        if group.kind == "mlp":
            return behind + (block(Block.mlp_of, tap["mlp"] - missing) - tap["m"])
        if self._mlp_behind_heads:
            behind = tap["mlp"]
        return behind + block(_heads_change, tap, missing, reader - group.readers.start)


def _whole_layer(block: Block, x: Tensor) -> Tensor:
    """A plain layer on the residual stream [N, P, D]."""
    z = block.attend(*block.qkv(block.norm_attention(x)))
    after = x + block.write(block.shares(z.transpose(0, 1)))
    if not block.config.d_mlp:
        return after
    return after + block.mlp_of(x if block.config.parallel else after)


def _heads_change(block: Block, tap: dict[str, Tensor], missing: Tensor, reader: int) -> Tensor:
    """The change [C, B, P, D] in what a layer's heads write when one of 3H readers lacks ``missing`` [C, B, P, D]."""
    part, head = divmod(reader, block.config.n_heads)
    index = send(torch.tensor([reader]), missing.device)
    own = block.project_apart((tap["residual"] - missing)[None], index)[0]  # [C, B, P, E]
    if not block.config.heads_together:
        parts = [tap[name][:, head].expand_as(own) if i != part else own for i, name in enumerate("qkv")]
        return block.write_apart((block.attend(*parts) - tap["z"][:, head])[None], [head])[0]
    every = [tap[name].expand(len(own), -1, -1, -1, -1) for name in "qkv"]  # [C, B, H, P, E]
    every[part] = every[part].clone()
    every[part][:, :, head] = own
    mixed = block.attend(*every).movedim(2, 0)  # [H, C, B, P, E]; one norm scales all heads
    change = block.shares(mixed) - tap["z"].transpose(0, 1).unsqueeze(1)  # [H, C, B, P, E]
    return block.write_apart(change).sum(0)
