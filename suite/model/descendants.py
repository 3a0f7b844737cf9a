"""Runs of candidates, which cut a few more edges of a circuit: only the nodes that these edges lead to are computed.

Why: a search that tries edge after edge runs thousands of circuits, each of which differs from the one before only in
the edges into one node. A pass by mask (``run_cut``, the plain version) computes every node above that node, each from
an input of its own. Here the circuit's own run is kept: what every node writes, and the queries, keys and values of
every head. A candidate then computes only the nodes to which a path of kept edges leads from the node whose edges are
cut. Three things make it cheaper still: readers that keep the same edges share one input; the candidates that cut edges
into one group of nodes share the sum over all writers that they do not change; and behind the attention of the last
layer only the read positions are computed. When a search accepts a candidate, its run becomes the circuit's run.

Inputs are summed anew from what writers wrote each time, so that rounding errors do not pile up over thousands of cuts.

The letters in the shape comments are those of transformer.py, and S slots, U circuits of one call, K changed writers,
G distinct inputs, m positions: all n of them, or the read ones behind the attention of the last layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .block import Block
from .device import send
from .graph import NodeGroup
from .passes import spend
from .stream import slice_or_index
from .transformer import Alternative, Transformer

_SEPARATE = 4  # from so many readers of each distinct input on, one product for each input is faster than one for all


@dataclass(frozen=True)
class _Step:
    """What is computed in a group: the readers whose inputs have changed, and the nodes that they belong to."""

    group: NodeGroup
    readers: list[int]
    nodes: list[int]  # within the group


class CircuitRuns:
    """Runs of one batch under several circuits, in slots, and of candidates that cut edges of them.

    Args:
        model: one whose nodes share their inputs in the plain run (not ``reads_apart``).
        alternative, read: as in ``Transformer.run_cut``.
        difference: the ``prefix`` of ``Transformer.run_cut``.
        slots: how many circuits are held.

    Circuits are bool [W, R] arrays. When a call cuts edges into a group, all edges into the groups below it are kept.
    """

    @torch.no_grad()
    def __init__(
        self, model: Transformer, alternative: Alternative, difference: Tensor, read: Tensor, slots: int
    ) -> None:
        graph, config = model.graph, model.config
        self.model, self.alternative = model, alternative
        self.shape = tuple(read.shape)
        self.plain = difference.expand(-1, *self.shape, -1).flatten(1)  # [W, n * D]
        self.moved = (difference != 0).flatten(1).any(1).cpu().numpy()
        """Whether a cut edge carries something else than its writer writes, for each writer: bool [W]."""
        where = read.flatten().nonzero().flatten()
        self.read = None if len(where) == read.numel() else send(where, model.device)
        self.written = self.plain.new_empty(slots, *self.plain.shape)
        self.qkv = self.plain.new_empty(slots, config.n_layers, 3 * graph.n_heads, *self.shape, config.d_head)
        self._lowest = config.n_layers  # the lowest layer whose queries, keys and values are held
        self._kept_buffer = self.plain.new_empty(0)
        self._last: _Values | None = None

    @staticmethod
    def numbers(model: Transformer, n: int) -> int:
        """How many numbers a slot takes, for ``n`` positions of all prompts."""
        graph, config = model.graph, model.config
        return n * (len(graph.writers) * config.d_model + 3 * graph.n_heads * config.n_layers * config.d_head)

    # ---- the circuits' own runs --------------------------------------------------------------------------------------

    @torch.no_grad()
    def enter(self, layer: int) -> None:
        """Prepares for cuts of edges into this layer's nodes. Until now all circuits have kept these edges."""
        for below in range(layer, self._lowest):
            base = self.alternative.before["head", below].expand(*self.shape, -1)
            total = self.plain[: self.model.graph.visible(below)].sum(0).unflatten(0, base.shape)
            parts = self.model.blocks[below](_plain_parts, base + total)
            self.qkv[:, below] = torch.cat(parts, 1).transpose(0, 1)
        self._lowest = min(self._lowest, layer)

    @torch.no_grad()
    def build(self, slots: Sequence[int], circuits: np.ndarray) -> None:
        """Runs circuits [U, W, R], one in each of ``slots``, from the lowest layer that was entered."""
        for slot in slots:
            self.written[slot] = self.plain
        live = self._live(circuits)
        steps = []
        for group in self.model.graph.groups:
            if group.kind in ("head", "mlp") and group.layer >= self._lowest:
                nodes = live[:, group.writers].any(0).nonzero()[0].tolist()
                if nodes:
                    readers = [part * len(group.nodes) + node for part in range(len(group.parts)) for node in nodes]
                    steps.append(_Step(group, readers, nodes))
        values = self._run(list(slots), circuits, steps, None, 1)
        for i, slot in enumerate(slots):
            self._take(values, i, 0, slot)

    @torch.no_grad()
    def copy(self, source: int, target: int) -> None:
        """Copies the run in one slot to another slot."""
        self.written[target], self.qkv[target] = self.written[source], self.qkv[source]

    @torch.no_grad()
    def take(self, i: int, candidate: int, slot: int) -> None:
        """Puts the run of the i-th circuit's candidate, in the last call of ``outputs``, into a slot that holds a copy
        of the i-th circuit's run."""
        if self._last is not None:
            self._take(self._last, i, candidate, slot)

    # ---- candidates --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def outputs(
        self, slots: Sequence[int], circuits: np.ndarray, group: NodeGroup, candidates: np.ndarray, plan: list[_Step]
    ) -> Tensor:
        """Logits [U, C, n_read, d_out] of candidates that cut further edges into one group's readers.

        Args:
            slots: where the circuits' runs are.
            circuits: [U, W, R].
            candidates: what the group's readers then keep, [U, C, W, r].
            plan: see ``plan``.
        """
        self._last = values = self._run(list(slots), circuits, plan, candidates, candidates.shape[1])
        values.be_late(self)
        last, d_model = self.model.graph.groups[-1], self.model.config.d_model
        if group.kind == "logits":
            x = self._own_inputs(values, last, candidates, [0])
        else:
            x = self._inputs(values, last, circuits[:, None, :, -1])
        return self.model.to_logits(x[:, 0].unflatten(-1, (-1, d_model)))

    def plan(self, circuits: np.ndarray, group: NodeGroup, readers: Sequence[int]) -> list[_Step]:
        """Which nodes differ between circuits [U, W, R] and candidates that cut edges into some readers of a group."""
        graph, live = self.model.graph, self._live(circuits)
        changed = np.zeros(len(graph.writers), dtype=bool)
        steps = []
        for each in graph.groups[graph.groups.index(group) :]:
            if not each.writes:
                continue
            n_nodes = len(each.nodes)
            if each is group:
                touched = np.zeros(each.readers.stop - each.readers.start, dtype=bool)
                touched[[r - each.readers.start for r in readers]] = True
            else:
                touched = circuits[:, changed, each.readers].any((0, 1))
            alive = live[:, each.writers].any(0)
            touched &= np.tile(alive, len(each.parts))
            if not touched.any():
                continue
            nodes = touched.reshape(-1, n_nodes).any(0)
            if each.kind == "head" and self.model.config.heads_together:
                nodes[:] = True
            changed[each.writers] |= nodes
            steps.append(_Step(each, touched.nonzero()[0].tolist(), nodes.nonzero()[0].tolist()))
        return steps

    def _live(self, circuits: np.ndarray) -> np.ndarray:
        """For each circuit [U, W, R], the writers from which a path of kept edges leads to the logits: bool [U, W]."""
        return np.stack([self.model.live_writers(torch.from_numpy(kept)).numpy() for kept in circuits])

    # ---- one pass ----------------------------------------------------------------------------------------------------

    def _run(
        self, slots: list[int], circuits: np.ndarray, steps: list[_Step], own: np.ndarray | None, n_candidates: int
    ) -> _Values:
        """Computes the steps' nodes, for ``n_candidates`` candidates of each circuit.

        Args:
            own: the edges that the first step's readers keep, [U, C, W, r]; when omitted, those of the circuit.
        """
        config = self.model.config
        n_changed = sum(len(step.nodes) for step in steps if not self._is_late(step.group))
        values = _Values(self, slots, n_candidates, n_changed)
        spent = 0.0
        for i, step in enumerate(steps):
            group, block = step.group, self.model.blocks[step.group.layer]
            if self._is_late(group) and group.kind == "mlp":
                values.be_late(self)
            if i == 0 and own is not None:
                distinct = list(range(len(step.readers)))
                x = self._own_inputs(values, group, own, step.readers)
            else:
                columns = circuits[:, :, group.readers][:, :, step.readers].transpose(0, 2, 1)
                distinct, first = _distinct(columns)
                x = self._inputs(values, group, columns[:, first])
            if group.kind == "mlp":
                spent += _share(config, mlps=1)
                cut = self._rows(values, self.alternative.activations[group.key][0])
                out = block(Block.mlp_of, x[:, 0].unflatten(-1, (*cut.shape[:-1], -1))) - cut
                values.add(group, step.nodes, out.flatten(2).unsqueeze(1))
                continue
            spent += _share(config, heads=len(step.nodes))
            x = x.unflatten(-1, (*self.shape, -1))  # [U, G, C, B, P, D]
            new = block(_project, x, step.readers, distinct)  # [r, U, C, B, P, E]
            values.projections.append((group, step.readers, new))
            parts = self._parts(values, step, new)
            cut = self.alternative.activations[group.key]
            z = block(_mixed, parts, step.nodes, cut)  # [h, U, C, B, P, E]
            if self._is_late(group):
                values.be_late(self)
                z = self._at_read(z.flatten(3, 4))
            chosen = slice_or_index(step.nodes, self.model.device)
            out = block(Block.write_apart, z, chosen)
            values.add(group, step.nodes, out.flatten(3).transpose(0, 1))
        spend(forward=spent * len(slots) * n_candidates * self.shape[0])
        return values

    def _is_late(self, group: NodeGroup) -> bool:
        """Whether what the group writes is held at the read positions only."""
        return self.read is not None and group.layer == self.model.config.n_layers - 1

    def _own_inputs(self, values: _Values, group: NodeGroup, own: np.ndarray, readers: list[int]) -> Tensor:
        """Inputs [U, r, C, m * D] of readers whose kept edges ``own`` [U, C, W, r] differ between candidates."""
        columns = own[..., readers].transpose(0, 3, 1, 2)  # [U, r, C, W]
        x = self._sum(values, group, columns.reshape(len(own), -1, columns.shape[-1]), values.none_changed)
        return x.unflatten(1, columns.shape[1:3])

    def _inputs(self, values: _Values, group: NodeGroup, columns: np.ndarray) -> Tensor:
        """Inputs [U, G, C, m * D] of readers that keep the edges ``columns`` [U, G, W] in all candidates."""
        shared = self._sum(values, group, columns, values.changed_mask).unsqueeze(2)
        kept = columns[:, :, values.changed]  # [U, G, K]
        if not kept.any():
            return shared.expand(-1, -1, values.n_candidates, -1)
        new = values.new()  # [U, K, C, m * D]
        used = kept.any((0, 1)).nonzero()[0].tolist()
        if len(used) == 1:  # no sum
            weight = self._number(kept[:, :, used])[..., None]  # [U, G, 1, 1]
            return torch.addcmul(shared, weight, new[:, used[0], None])
        if 2 * len(used) < kept.shape[2]:
            new, kept = new[:, slice_or_index(used, new.device)], kept[..., used]
        return self._number(kept).bmm(new.flatten(2)).unflatten(2, (values.n_candidates, -1)).add_(shared)

    def _sum(self, values: _Values, group: NodeGroup, columns: np.ndarray, without: np.ndarray) -> Tensor:
        """The sum of what unchanged writers write to readers that keep ``columns`` [U, X, W]: [U, X, m * D]."""
        kept = columns & ~without
        used = kept.any((0, 1)).nonzero()[0].tolist()
        key = group.key
        base = self._rows(values, self.alternative.before[key]).reshape(1, 1, -1)
        if not used:
            return base.expand(*kept.shape[:2], -1)
        span = range(used[0], used[-1] + 1)
        indices = used if 2 * len(used) < len(span) else list(span)
        where = slice_or_index(indices, self.model.device)
        if values.late and self.read is not None:
            written = self.written[values.where][:, where].unflatten(2, (-1, self.model.config.d_model))
            written = written.index_select(2, self.read).flatten(2)
        else:
            written = self.written[values.where][:, where]
        return torch.baddbmm(base, self._number(kept[..., indices]), written)

    def _number(self, kept: np.ndarray) -> Tensor:
        return send(torch.from_numpy(np.ascontiguousarray(kept)).to(self.model.dtype), self.model.device)

    def _rows(self, values: _Values, constant: Tensor) -> Tensor:
        """A constant [B or 1, P or 1, D], expanded to all positions [B, P, D], or to the read ones [n_read, D]."""
        every = constant.expand(*self.shape, -1)
        return self._at_read(every.flatten(0, 1)) if values.late and self.read is not None else every

    def _at_read(self, rows: Tensor) -> Tensor:
        """The rows [..., n, D] at the read positions: [..., n_read, D]."""
        return rows if self.read is None else rows.index_select(-2, self.read)

    def _parts(self, values: _Values, step: _Step, new: Tensor) -> Tensor:
        """Queries, keys and values [3h, U, C, B, P, E] of the nodes: the new ones, and else the circuits' own."""
        heads = len(step.group.nodes)
        wanted = [part * heads + node for part in range(3) for node in step.nodes]
        if wanted == step.readers:
            return new
        held = self.qkv[values.where, step.group.layer][:, slice_or_index(wanted, new.device)].transpose(0, 1)
        parts = held.unsqueeze(2).repeat(1, 1, values.n_candidates, 1, 1, 1)
        places = {reader: i for i, reader in enumerate(wanted)}
        parts[slice_or_index([places[reader] for reader in step.readers], new.device)] = new
        return parts

    def _take(self, values: _Values, i: int, candidate: int, slot: int) -> None:
        d_model, written = self.model.config.d_model, self.written[slot]
        n_early = len(values.changed) - values.n_late
        if n_early:
            early = slice_or_index(values.changed[:n_early], written.device)
            written[early] = values.early[i, :n_early, candidate]
        if values.n_late:
            rows = values.late_values[i, -values.n_late :, candidate].unflatten(1, (-1, d_model))
            at = send(torch.tensor(values.changed[n_early:]), written.device)
            written.unflatten(1, (-1, d_model))[at[:, None], self.read] = rows
        for group, readers, new in values.projections:
            self.qkv[slot, group.layer, slice_or_index(readers, new.device)] = new[:, i, candidate]


class _Values:
    """What the changed writers write in the candidates of a call, in the order in which the writers run."""

    def __init__(self, runs: CircuitRuns, slots: list[int], n_candidates: int, n_changed: int) -> None:
        self.where = slice_or_index(slots, runs.model.device)
        self.n_candidates, self.changed, self.n_late, self.late = n_candidates, [], 0, False
        self.none_changed = np.zeros(len(runs.plain), dtype=bool)
        self.changed_mask = self.none_changed.copy()
        shape = (len(slots), n_changed, n_candidates, runs.plain.shape[1])
        size = int(np.prod(shape))
        if runs._kept_buffer.numel() < size:  # kept from call to call, because the first writes to new memory are slow
            runs._kept_buffer = runs.plain.new_empty(size)
        self.early = runs._kept_buffer[:size].view(shape)
        self.late_values: Tensor = self.early[:, :0]
        self.projections: list[tuple[NodeGroup, list[int], Tensor]] = []

    def be_late(self, runs: CircuitRuns) -> None:
        """Drops the positions that are not read; from here on nobody asks for them."""
        if self.late or runs.read is None:
            return
        self.late, n = True, len(self.changed)
        rows = self.early[:, :n].unflatten(3, (-1, runs.model.config.d_model))
        self.late_values = rows.index_select(3, runs.read).flatten(3)

    def add(self, group: NodeGroup, nodes: list[int], out: Tensor) -> None:
        """Appends what nodes of a group write, [U, h, C, m * D]."""
        n = len(self.changed)
        self.changed += [group.writers.start + node for node in nodes]
        self.changed_mask[self.changed[n:]] = True
        if self.late:
            self.late_values = torch.cat([self.late_values, out], 1)
            self.n_late += len(nodes)
        else:
            self.early[:, n : n + len(nodes)] = out

    def new(self) -> Tensor:
        """What the changed writers so far write, [U, K, C, m * D]."""
        return self.late_values if self.late else self.early[:, : len(self.changed)]


def _distinct(columns: np.ndarray) -> tuple[list[int], list[int]]:
    """The number of each reader's input [U, r, W] among the distinct inputs, and one reader of each of these."""
    found: dict[bytes, int] = {}
    first, of = [], []
    for i in range(columns.shape[1]):
        key = columns[:, i].tobytes()
        if key not in found:
            found[key] = len(found)
            first.append(i)
        of.append(found[key])
    return of, first


def _plain_parts(block: Block, residual: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return block.qkv(block.norm_attention(residual))


def _project(block: Block, x: Tensor, readers: list[int], distinct: list[int]) -> Tensor:
    """Queries, keys and values [r, U, C, B, P, E] of readers whose inputs are among x [U, G, C, B, P, D]."""
    normed, n_inputs = block.norm_attention(x), x.shape[1]
    if len(readers) < _SEPARATE * n_inputs:
        apart = normed if distinct == list(range(n_inputs)) else normed[:, slice_or_index(distinct, x.device)]
        return block.project_normed(apart.transpose(0, 1), send(torch.tensor(readers), x.device))
    new = x.new_empty(len(readers), x.shape[0], *x.shape[2:-1], block.config.d_head)
    for i in range(n_inputs):
        mine = [at for at, of in enumerate(distinct) if of == i]
        weight, bias = block.reader_weights(send(torch.tensor([readers[at] for at in mine]), x.device))
        together = F.linear(normed[:, i], weight.transpose(1, 2).flatten(0, 1), bias.flatten())
        new[slice_or_index(mine, x.device)] = together.unflatten(-1, (len(mine), -1)).movedim(-2, 0)
    return new


def _mixed(block: Block, parts: Tensor, nodes: list[int], cut: Tensor) -> Tensor:
    """Head outputs [h, U, C, B, P, E] of queries, keys and values [3h, U, C, B, P, E], less what a cut edge carries."""
    q, k, v = parts.flatten(1, 3).chunk(3)
    if block.config.joint_qk_norms:
        z = block.attend(*(part.movedim(0, -3) for part in (q, k, v))).movedim(-3, 0)
    else:
        z = block.attend(q, k, v)
    z = block.shares(z) if block.config.post_norms else z
    return z.unflatten(1, parts.shape[1:4]) - cut[slice_or_index(nodes, cut.device)][:, None, None]


def _share(config, heads: int = 0, mlps: int = 0) -> float:
    """The share of a plain pass that some heads and MLPs cost, by the number of their weights."""
    head = 4 * config.d_model * config.d_head
    mlp = (3 if config.gated else 2) * config.d_model * config.d_mlp
    return (heads * head + mlps * mlp) / (config.n_layers * (config.n_heads * head + mlp))
