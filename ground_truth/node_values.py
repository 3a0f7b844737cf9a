"""The values that the nodes of a model can have on some rows while edges are cut, each different one computed once.

Letters in the shape comments: B rows, P positions, D d_model, n = B * P * D; c choices that are computed together, m
values that are known; ? what a reader works with (a head's B * P * d_head, an MLP's B * P * d_mlp; n with norms).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from ..suite.model.block import ACTIVATIONS, Block
from ..suite.model.graph import Node
from ..suite.model.transformer import Transformer
from .cuts import CutTest

_SAME = 1e-8  # values nearer than this are the same; the rest is rounding
_AT_ONCE = 2_000_000  # numbers in a chunk of values that are computed together

Signature = tuple[tuple[int, int], ...]
"""What a reader is given: of every kept edge the writer, and which of the writer's values it carries."""


class NodeValues:
    """What readers and nodes can be given and can write on some rows, each different value computed once and numbered.

    Value 0 of a writer is what a cut edge carries.
    """

    def __init__(self, test: CutTest, rows: Tensor) -> None:
        self.model: Transformer = test.model
        self.ready = test.prepared(rows)
        self.clean = self.model.run(self.ready.inputs, read=self.ready.runs.read)[0]
        self.shape = tuple(self.ready.inputs.shape[1:])  # B, P, D
        n, config = int(np.prod(self.shape)), self.model.config
        # Without norms a reader's input is linear in what it is given, up to its projection.
        self._linear = config.norm == "none" and not (config.gated or config.unembed_bias or config.logit_cap)
        self._written = {w: Numbered(torch.zeros(1, n).double()) for w in range(len(self.model.graph.writers))}
        graph = self.model.graph
        self._group = {r: group for group in graph.groups for r in range(group.readers.start, group.readers.stop)}
        self._base = {r: self._seen(r, self._before(r).flatten()[None])[0] for r in self._group}
        self._carried: dict[tuple[int, int], Tensor] = {}
        self._read: dict[int, tuple[dict[Signature, int], Numbered]] = {}
        self._of_node: dict[str, dict[tuple[int, ...], int]] = {}

    def of_input(self, writer: int) -> int:
        """The value of an input node: what it writes, or 0 where a cut edge carries the same."""
        difference = self.ready.inputs[writer] - self.ready.alternative.activations.inputs[writer]
        return self._written[writer].number(difference.expand(self.shape).flatten()[None])[0]

    def read(self, reader: int, signatures: Iterable[Signature]) -> dict[Signature, int]:
        """What a reader makes of each signature, by number: a head's query, key or value; of an MLP, what it writes."""
        known, table = self._read.setdefault(reader, ({}, Numbered()))
        new = [signature for signature in signatures if signature not in known]
        for part in _chunks(new, self._base[reader].numel()):
            known.update(zip(part, table.number(self._made(reader, self._given(reader, part))), strict=True))
        return known

    def of_node(self, node: Node, wanted: Iterable[tuple[int, ...]]) -> dict[tuple[int, ...], int]:
        """The value of a node for each choice of what its readers read, by number."""
        known, w = self._of_node.setdefault(node.name, {}), node.writers.start
        new = [parts for parts in wanted if parts not in known]
        for part in _chunks(new, int(np.prod(self.shape))):
            given = [self._read[reader][1].rows([parts[i] for parts in part]) for i, reader in enumerate(node.readers)]
            known.update(zip(part, self._written[w].number(self._difference(node, given)), strict=True))
        return known

    def fits(self, signatures: Iterable[Signature], tolerance: float) -> dict[Signature, bool]:
        """Whether the outputs are the whole model's, for each choice of what the logits read."""
        found, reader = {}, len(self.model.graph.readers) - 1
        for part in _chunks(list(signatures), self._base[reader].numel()):
            outputs = self._made(reader, self._given(reader, part))
            found.update(zip(part, ((outputs - self.clean.flatten()).abs().amax(1) <= tolerance).tolist(), strict=True))
        return found

    def _before(self, reader: int) -> Tensor:
        return self.ready.alternative.before[self._group[reader].key].expand(self.shape)

    def _given(self, reader: int, signatures: Sequence[Signature]) -> Tensor:
        """What a reader sees of its input, [c, ?]: added up of what each kept edge carries."""
        total = self._base[reader].repeat(len(signatures), 1)
        by_writer: dict[int, tuple[list[int], list[int]]] = {}
        for i, signature in enumerate(signatures):
            for w, value in signature:
                rows, values = by_writer.setdefault(w, ([], []))
                rows.append(i)
                values.append(value)
        for w, (rows, values) in by_writer.items():
            total.index_add_(0, torch.tensor(rows), self._of_writer(reader, w)[torch.tensor(values)])
        return total

    def _of_writer(self, reader: int, w: int) -> Tensor:
        """What a reader sees of each value of a writer: [m, ?]."""
        values = self._written[w].all
        known = self._carried.get((reader, w))
        if known is None or len(known) < len(values):
            new = self._seen(reader, values if known is None else values[len(known) :], constant=False)
            self._carried[reader, w] = known = new if known is None else torch.cat([known, new])
        return known

    def _seen(self, reader: int, x: Tensor, constant: bool = True) -> Tensor:
        """What a reader computes with, from the residual stream [m, n]; without a norm, the reader's linear part."""
        if not self._linear:
            return x
        group, x = self._group[reader], x.unflatten(1, self.shape)
        if group.kind == "logits":
            return x[:, self.ready.runs.read].matmul(self.model.unembed).flatten(1)
        block = self.model.blocks[group.layer]
        if group.kind == "mlp":
            return (x @ block.W_in + (block.b_in if constant else 0)).flatten(1)
        weight, bias = (part[0] for part in block.reader_weights(torch.tensor([reader - group.readers.start])))
        return (x @ weight + (bias if constant else 0)).flatten(1)

    def _made(self, reader: int, seen: Tensor) -> Tensor:
        """What a node makes of what one of its readers sees [c, ?]: a projection, an MLP's output, the logits."""
        group = self._group[reader]
        if not self._linear:
            x = seen.unflatten(1, self.shape)
            if group.kind == "logits":
                return self.model.to_logits(x, self.ready.runs.read).flatten(1)
            block = self.model.blocks[group.layer]
            if group.kind == "mlp":
                return block(Block.mlp_of, x).flatten(1)
            which = torch.tensor([reader - group.readers.start])
            return block(Block.project_apart, x[None], which)[0].flatten(1)
        if group.kind == "mlp":
            block = self.model.blocks[group.layer]
            hidden = ACTIVATIONS[self.model.config.activation](seen.unflatten(1, (*self.shape[:2], -1)))
            return (hidden @ block.W_out + block.b_out).flatten(1)
        return seen

    def _difference(self, node: Node, given: Sequence[Tensor]) -> Tensor:
        """What a node writes less what a cut edge carries [c, n], from what its readers made of their inputs."""
        alternative = self.ready.alternative.activations[node.kind, node.layer]
        if node.kind == "mlp":
            return given[0] - alternative[0].expand(self.shape).flatten()
        head = node.readers[0] - self._group[node.readers[0]].readers.start
        block, d_head = self.model.blocks[node.layer], self.model.config.d_head
        q, k, v = (each.unflatten(1, (*self.shape[:2], d_head)) for each in given)
        z = block.attending(Block.attend, q, k, v) - alternative[head]
        return (z @ block.W_O_by_head[head]).flatten(1)


class Numbered:
    """Different values, numbered from 0 in the order in which they came; ``start`` [m, n] are the first."""

    def __init__(self, start: Tensor | None = None) -> None:
        self._number: dict[bytes, int] = {}
        self._parts: list[Tensor] = []
        if start is not None:
            self.number(start)

    def number(self, values: Tensor) -> list[int]:
        """The number of each of some values [c, n]; equal ones share theirs."""
        numbers, added = [], []
        for i, row in enumerate((values / _SAME).round().to(torch.int64).numpy()):
            key = blake2b(row.data, digest_size=16).digest()
            if key not in self._number:
                self._number[key] = len(self._number)
                added.append(i)
            numbers.append(self._number[key])
        if added:
            self._parts.append(values[added])
        return numbers

    @property
    def all(self) -> Tensor:
        """The values in the order of their numbers: [m, n]."""
        self._parts = [torch.cat(self._parts)] if len(self._parts) > 1 else self._parts
        return self._parts[0]

    def rows(self, numbers: Sequence[int]) -> Tensor:
        """The values with these numbers: [c, n]."""
        return self.all[torch.tensor(numbers)]


def _chunks(items: list, size: int) -> Iterator[list]:
    step = max(1, _AT_ONCE // size)
    return (items[start : start + step] for start in range(0, len(items), step))
