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
        """Logits [C, n_read, d_out] of C runs, in each of which one edge into a node of the group is cut.

        Args:
            group: the group that all these edges lead into.
            cuts: the edges, ordered by reader.
        """
        model = self.model
        by_reader: dict[int, list[int]] = {}
        for writer, reader in cuts:
            by_reader.setdefault(reader, []).append(writer)
        streams = torch.cat([self._after(group, reader, writers) for reader, writers in by_reader.items()])
        above = range(group.layer + 1, model.config.n_layers)
        examples = streams.shape[1]
        spend(forward=len(cuts) * examples * (model.config.n_layers - group.layer) / model.config.n_layers)
        flat = streams.flatten(0, 1)  # [C * B, P, D]
        if group.kind == "head" and model.graph.mlps and not model.config.parallel:
            flat = flat + model.blocks[group.layer](Block.mlp_of, flat)
        for layer in above:
            flat = model.blocks[layer](_whole_layer, flat)
        return model.to_logits(flat.unflatten(0, (-1, examples)), self.read)

    def _after(self, group: NodeGroup, reader: int, writers: list[int]) -> Tensor:
        """The residual stream [C, B, P, D] behind a group, when one of its readers lacks one of C writers.

        Behind the heads of a sequential layer, the stream is taken before the MLP has written.
        """
        model, missing = self.model, self.difference[writers]
        if group.kind == "logits":
            return self.taps[-1]["logits"] - missing
        tap, following, block = self.taps[group.layer], self.taps[group.layer + 1], model.blocks[group.layer]
        behind = following.get("residual", following.get("logits"))
        if group.kind == "mlp":
            return behind + (block(Block.mlp_of, tap["mlp"] - missing) - tap["m"])
        if model.graph.mlps and not model.config.parallel:
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
