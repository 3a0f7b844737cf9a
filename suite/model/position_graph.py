"""The graph of a transformer whose edges are told apart by position.

``a0.h1->a2.h3<v>@3`` is what head a0.h1 writes at position 3 and the values of a2.h3 read there. A residual stream
stays at its position, so that the reader's position is the writer's, too; attention alone crosses positions. The
position of a query reader is the query's; that of a key or value reader is the key's, whichever queries look there.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DataError
from .device import send
from .graph import Graph, NodeGroup

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PositionGraph(Graph):
    """A graph with a reader for each position where ``Graph`` has one: ``a0.h1<v>@3``. The writers are the same.

    Args:
        n_positions: the length of all prompts, in tokens.
        causal: whether queries see no later position.

    Raises:
        DataError: no position.
    """

    n_positions: int = 1
    causal: bool = True

    def __post_init__(self) -> None:
        if self.n_positions < 1:
            raise DataError(f"a graph with positions was asked for with {self.n_positions} of them; give 1 at least.")

    @classmethod
    def of(cls, graph: Graph, n_positions: int, causal: bool) -> PositionGraph:
        """A graph's edges at each of so many positions."""
        old = {field.name: getattr(graph, field.name) for field in fields(Graph)}
        return cls(**old, n_positions=n_positions, causal=causal)

    @cached_property
    def whole(self) -> Graph:
        """The same graph without positions: [n_writers, R]."""
        return Graph(*(getattr(self, field.name) for field in fields(Graph)))

    @property
    def readers_a_layer(self) -> int:
        return self.whole.readers_a_layer * self.n_positions

    def qkv(self, layer: int) -> slice:
        start = layer * self.readers_a_layer
        return slice(start, start + 3 * self.n_heads * self.n_positions)

    @cached_property
    def groups(self) -> tuple[NodeGroup, ...]:
        """As ``Graph.groups``; a part of the readers is one of q, k and v at one position: ``v@3``."""
        places = range(self.n_positions)
        return tuple(
            NodeGroup(
                group.kind,
                group.layer,
                group.nodes,
                group.writers,
                slice(group.readers.start * self.n_positions, group.readers.stop * self.n_positions),
                tuple(f"{part}@{place}" for part in group.parts for place in places),
                group.sees,
            )
            for group in self.whole.groups
        )

    @cached_property
    def readers(self) -> tuple[str, ...]:
        """Reader names, group by group, ordered by part, position and node: ``a0.h1<v>@3``."""
        names = self.whole.readers
        return tuple(f"{names[r]}@{p}" for r, p in zip(self.whole_reader, self.position, strict=True))

    @cached_property
    def index_at(self) -> np.ndarray:
        """The reader of this graph for each reader of ``whole`` at each position: int [R, P]."""
        found = np.empty((len(self.whole.readers), self.n_positions), dtype=int)
        for group in self.whole.groups:
            shape = (len(group.parts), self.n_positions, len(group.nodes))
            start = group.readers.start * self.n_positions
            own = np.arange(start, start + int(np.prod(shape))).reshape(shape)
            found[group.readers] = own.swapaxes(1, 2).reshape(-1, self.n_positions)
        return found

    @cached_property
    def whole_reader(self) -> np.ndarray:
        """For each reader, which of ``whole``'s it is: int [n_readers]."""
        return np.divmod(self.index_at.ravel().argsort(), self.n_positions)[0]

    @cached_property
    def position(self) -> np.ndarray:
        """The position of each reader: int [n_readers]."""
        return np.divmod(self.index_at.ravel().argsort(), self.n_positions)[1]

    @property
    def widest(self) -> int:
        return self.whole.widest

    def node_of_reader(self, reader: str) -> str:
        """The node that a reader belongs to: ``a2.h3`` for ``a2.h3<q>@4``."""
        return self.whole.node_of_reader(reader.partition("@")[0])

    def by_position(self, values: Tensor) -> Tensor:
        """Values of this graph's readers, [..., n_readers], as [..., R, P]."""
        import torch

        return values[..., send(torch.from_numpy(self.index_at), values.device)]

    def from_positions(self, values: Tensor) -> Tensor:
        """The reverse of ``by_position``: [..., R, P] as [..., n_readers]."""
        import torch

        where = send(torch.from_numpy(self.whole_reader * self.n_positions + self.position), values.device)
        return values.flatten(-2)[..., where]

    def at_every_position(self, values: Tensor) -> Tensor:
        """Values of the edges of ``whole``, [..., W, R], for the edge at each position: [..., W, n_readers]."""
        import torch

        return values[..., send(torch.from_numpy(self.whole_reader), values.device)]

    def readers_behind(self, writer: int, reader: int) -> tuple[int, ...]:
        """The readers at those positions from which the writer computes what it writes at the reader's position."""
        here = int(self.position[reader])
        node = self.whole.nodes[writer]
        if node.kind != "head":
            return tuple(int(self.index_at[r, here]) for r in node.readers)
        query, *others = node.readers
        seen = range(here + 1 if self.causal else self.n_positions)
        return (int(self.index_at[query, here]), *(int(self.index_at[r, p]) for r in others for p in seen))

    def on_paths(self, edges: np.ndarray) -> np.ndarray:
        """As ``Graph.on_paths``, by position: a head carries on what its queries read at the same position, and what
        its keys and values read at all positions that a query there sees."""
        kept = edges[:, self.index_at]  # [W, R, P]
        n = self.n_positions
        sees = np.tril(np.ones((n, n), dtype=bool)) if self.causal else np.ones((n, n), dtype=bool)  # [query, key]
        nodes = [node for node in self.whole.nodes if node.kind != "logits"]
        fed = np.zeros((len(self.writers), n), dtype=bool)
        for node in nodes:
            if not node.readers:
                fed[node.writers] = True
                continue
            reached = (kept[:, list(node.readers)] & fed[:, None]).any(0)  # [r, P]
            if node.kind == "head":
                reached[1:] = (reached[1:, None] & sees).any(-1)
            fed[node.writers] = reached.any(0)
        feeds = np.zeros_like(fed)  # has a path to the logits
        leads = np.zeros(kept.shape[1:], dtype=bool)  # the readers from which a path goes on to the logits
        leads[-1] = True
        for node in reversed(nodes):
            feeds[node.writers] = own = (kept[node.writers] & leads).any((0, 1))
            for i, reader in enumerate(node.readers):
                leads[reader] = own if node.kind != "head" or i == 0 else (own[:, None] & sees).any(0)
        found = kept & fed[:, None] & leads
        return found[:, self.whole_reader, self.position]

    def __str__(self) -> str:
        return f"{self.whole}, at {self.n_positions} positions: {self.n_edges:,}"
