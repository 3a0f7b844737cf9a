"""The computational graph of a transformer: who writes to the residual stream, who reads it, which edges exist.

Node and edge names are those of the EAP-IG and MIB graph files, so that circuits can be exchanged:
``input``, ``a0.h1``, ``m2``, ``logits``; an edge is ``a0.h1->a2.h3<q>``.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from ..errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

InputNodes = Literal["token", "sum", "split"]
Key = tuple[str, int]
"""The kind and the layer of a group of nodes, which together name the group."""
_READER = re.compile(r"^(a\d+\.h\d+)<[qkv]>$")


class Edge(NamedTuple):
    """One arrow of the graph: ``writer`` writes what ``reader`` reads. Prints as it parses.

    >>> str(Edge("a0.h1", "m2")), Edge.parse("a0.h1->a2.h3<q>")
    ('a0.h1->m2', Edge(writer='a0.h1', reader='a2.h3<q>'))
    """

    writer: str
    reader: str

    def __str__(self) -> str:
        return f"{self.writer}->{self.reader}"

    @classmethod
    def parse(cls, text: str) -> Edge:
        """Raises DataError when ``text`` is not ``writer->reader``."""
        writer, arrow, reader = text.partition("->")
        if not (writer and arrow and reader):
            raise DataError(f"{text!r} is not an edge; an edge reads 'a0.h1->a2.h3<q>'.")
        return cls(writer, reader)


@dataclass(frozen=True)
class NodeGroup:
    """The nodes of one kind in one layer. They are computed together, and loops over a graph go from group to group.

    Args:
        kind: ``input``, ``head``, ``mlp``, or ``logits``, which write nothing.
        layer: 0 for the input nodes, ``n_layers`` for the logits.
        nodes: the nodes' names.
        writers: the indices of the nodes as writers, one per node; empty for the logits.
        readers: the indices of the nodes' readers; empty for the input nodes.
        parts: the readers that each node has: ``q``, ``k`` and ``v`` of a head. Readers are ordered by part, then by
            node.
        sees: the writers from which edges lead to these readers.
    """

    kind: str
    layer: int
    nodes: tuple[str, ...]
    writers: slice
    readers: slice
    parts: tuple[str, ...]
    sees: slice

    @property
    def key(self) -> Key:
        return self.kind, self.layer

    @property
    def writes(self) -> bool:
        return self.writers.stop > self.writers.start

    @property
    def reads(self) -> bool:
        return self.readers.stop > self.readers.start

    def part(self, name: str) -> slice:
        """The readers of one part, node by node."""
        start = self.readers.start + self.parts.index(name) * len(self.nodes)
        return slice(start, start + len(self.nodes))

    def by_node(self, values: Tensor) -> Tensor:
        """Values of the group's readers [..., r], as [..., parts, nodes]."""
        return values.unflatten(-1, (len(self.parts), len(self.nodes)))


@dataclass(frozen=True)
class Node:
    """One node: its name, ``kind`` and ``layer``, the slice of writers it owns, and the indices of its readers."""

    name: str
    kind: str
    layer: int
    writers: slice
    readers: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """Writers, readers and the edges between them, for one architecture and one choice of input nodes.

    Args:
        n_layers, n_heads: the transformer's shape. Grouped keys and values are read once per query head.
        inputs: ``token``: the token embedding is the input node and the position embedding a constant on no edge
            (EAP-IG, MIB); ``sum``: one input node, token plus position (ACDC, auto-circuit); ``split``: two nodes,
            ``tok_embed`` and ``pos_embed`` (Edge Pruning). Numbers from different choices are not comparable.
        mlps: whether layers have an MLP.
        parallel: whether attention and MLP of a layer read the same residual stream (GPT-NeoX).

    Biases belong to no edge. Layer norm belongs to the reader.
    """

    n_layers: int
    n_heads: int
    inputs: InputNodes = "token"
    mlps: bool = True
    parallel: bool = False

    @property
    def input_nodes(self) -> tuple[str, ...]:
        return ("tok_embed", "pos_embed") if self.inputs == "split" else ("input",)

    @property
    def writers_a_layer(self) -> int:
        return self.n_heads + self.mlps

    @property
    def readers_a_layer(self) -> int:
        return 3 * self.n_heads + self.mlps

    @cached_property
    def writers(self) -> tuple[str, ...]:
        """Node names in the order in which they write."""
        names = list(self.input_nodes)
        for layer in range(self.n_layers):
            names += [f"a{layer}.h{head}" for head in range(self.n_heads)]
            names += [f"m{layer}"] * self.mlps
        return tuple(names)

    @cached_property
    def readers(self) -> tuple[str, ...]:
        """Reader names: per layer all q, then all k, then all v, then the MLP; the logits last."""
        names: list[str] = []
        for layer in range(self.n_layers):
            names += [f"a{layer}.h{head}<{part}>" for part in "qkv" for head in range(self.n_heads)]
            names += [f"m{layer}"] * self.mlps
        return (*names, "logits")

    @cached_property
    def groups(self) -> tuple[NodeGroup, ...]:
        """All nodes, by kind and layer, in the order in which they run: the input nodes first, the logits last.

        Loops over a graph go over these, so that they meet a new kind of node without being changed.
        """
        layers, n = self.n_layers, len(self.writers)
        inputs = slice(0, len(self.input_nodes))
        found = [NodeGroup("input", 0, self.input_nodes, inputs, slice(0, 0), (), slice(0, 0))]
        for layer in range(layers):
            heads, qkv, sees = self.heads(layer), self.qkv(layer), slice(0, self.visible(layer))
            found.append(NodeGroup("head", layer, self.writers[heads], heads, qkv, ("q", "k", "v"), sees))
            if self.mlps:
                own = slice(self.mlp(layer), self.mlp(layer) + 1)
                reader = slice(self.mlp_reader(layer), self.mlp_reader(layer) + 1)
                sees = slice(0, self.visible(layer, to_mlp=True))
                found.append(NodeGroup("mlp", layer, self.writers[own], own, reader, ("",), sees))
        last = slice(len(self.readers) - 1, len(self.readers))
        return (*found, NodeGroup("logits", layers, ("logits",), slice(n, n), last, ("",), slice(0, n)))

    @cached_property
    def group(self) -> dict[Key, NodeGroup]:
        """The groups by kind and layer."""
        return {group.key: group for group in self.groups}

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, in the order in which they write; last the logits, which write nothing."""
        found = []
        for group in self.groups:
            for i, name in enumerate(group.nodes):
                start = group.writers.start + i
                own = slice(start, start + 1) if group.writes else group.writers
                readers = range(group.readers.start + i, group.readers.stop, len(group.nodes))
                found.append(Node(name, group.kind, group.layer, own, tuple(readers)))
        return tuple(found)

    @cached_property
    def owners(self) -> tuple[int, ...]:
        """The writer of each reader's node; -1 for the logits, which write nothing."""
        owners = [-1] * len(self.readers)
        for node in self.nodes:
            for reader in node.readers:
                owners[reader] = node.writers.start if node.writers.stop > node.writers.start else -1
        return tuple(owners)

    # Index arithmetic. Only code in ``suite/model`` uses it; all other code loops over the groups.

    def heads(self, layer: int) -> slice:
        """Writer indices of the heads of ``layer``."""
        start = len(self.input_nodes) + layer * self.writers_a_layer
        return slice(start, start + self.n_heads)

    def mlp(self, layer: int) -> int:
        """Writer index of the MLP of ``layer``."""
        return self.heads(layer).stop

    def qkv(self, layer: int) -> slice:
        """Reader indices of the 3 x n_heads attention readers of ``layer``."""
        start = layer * self.readers_a_layer
        return slice(start, start + 3 * self.n_heads)

    def mlp_reader(self, layer: int) -> int:
        """Reader index of the MLP of ``layer``."""
        return self.qkv(layer).stop

    def visible(self, layer: int, to_mlp: bool = False) -> int:
        """The number n such that the attention, or the MLP, of ``layer`` can read the first n writers.

        ``layer = n_layers`` stands for the logits, which can read every writer.
        """
        before = self.heads(layer).start if layer < self.n_layers else len(self.writers)
        return before + self.n_heads if to_mlp and not self.parallel else before

    def reader_layer(self, reader: int) -> int:
        """Layer of a reader index; ``n_layers`` for the logits."""
        return min(reader // self.readers_a_layer, self.n_layers)

    def node_of_reader(self, reader: str) -> str:
        """The node that a reader belongs to: ``a2.h3`` for ``a2.h3<q>``; ``m2`` and ``logits`` are their own."""
        head = _READER.match(reader)
        return head.group(1) if head else reader

    @cached_property
    def exists(self) -> Tensor:
        """Which edges exist: bool [n_writers, n_readers]."""
        import torch  # only here and in ``matrix``: reports read graphs without it

        return torch.from_numpy(self.existing.copy())

    @cached_property
    def existing(self) -> np.ndarray:
        """``exists`` as a numpy array, for code that does not import torch: bool [n_writers, n_readers]."""
        exists = np.zeros((len(self.writers), len(self.readers)), dtype=bool)
        for group in self.groups:
            exists[group.sees, group.readers] = True
        return exists

    @cached_property
    def n_edges(self) -> int:
        return int(self.existing.sum())

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """All edges, ordered by writer and then by reader: the order in which ties are broken."""
        return tuple(Edge(self.writers[w], self.readers[r]) for w, r in np.argwhere(self.existing).tolist())

    @property
    def widest(self) -> int:
        """The largest number of readers whose inputs a cut pass holds at once: those of one group."""
        return max(group.readers.stop - group.readers.start for group in self.groups)

    def readers_behind(self, writer: int, reader: int) -> tuple[int, ...]:
        """The readers on whose inputs depends what an edge carries: those of its writer."""
        return self.nodes[writer].readers

    def on_paths(self, edges: np.ndarray) -> np.ndarray:
        """Those of some edges that are on a path of them from an input node to the logits: bool [W, R] each."""
        owner = np.array(self.owners)
        fed = np.zeros(len(self.writers), dtype=bool)
        feeds = np.zeros_like(fed)  # has a path to the logits
        writers = [node for node in self.nodes if node.kind != "logits"]
        for node in writers:
            fed[node.writers] = not node.readers or (edges[:, list(node.readers)] & fed[:, None]).any()

        def leads_on() -> np.ndarray:  # the readers [R] from which a path goes on to the logits
            return np.where(owner >= 0, feeds[owner.clip(0)], True)

        for node in reversed(writers):
            feeds[node.writers] = (edges[node.writers] & leads_on()).any(1)
        return edges & fed[:, None] & leads_on()[None, :]

    @cached_property
    def _places(self) -> tuple[dict[str, int], dict[str, int]]:
        return {w: i for i, w in enumerate(self.writers)}, {r: i for i, r in enumerate(self.readers)}

    def index(self, edge: Edge | str) -> tuple[int, int]:
        """(writer index, reader index) of an edge. Raises DataError when the graph has no such edge."""
        edge = Edge.parse(edge) if isinstance(edge, str) else edge
        writers, readers = self._places
        w, r = writers.get(edge.writer), readers.get(edge.reader)
        if w is None or r is None or not self.existing[w, r]:
            raise DataError(
                f"no edge {str(edge)!r} in this graph ({self}); edges read like {str(self.edges[0])!r}, "
                f"and a writer must come before its reader."
            )
        return w, r

    def matrix(self, edges) -> Tensor:
        """bool [n_writers, n_readers] that is true on ``edges`` (Edge or text)."""
        import torch

        return torch.from_numpy(self.array(edges))

    def array(self, edges) -> np.ndarray:
        """``matrix`` as a numpy array, for code that does not import torch."""
        chosen = np.zeros_like(self.existing)
        for edge in edges:
            chosen[self.index(edge)] = True
        return chosen

    def named(self, matrix: Tensor) -> list[str]:
        """The names of the edges on which ``matrix`` [n_writers, n_readers] is true, in index order."""
        return [f"{self.writers[w]}->{self.readers[r]}" for w, r in (matrix & self.exists).nonzero().tolist()]

    @cached_property
    def hash(self) -> str:
        """16 hex digits that differ whenever two graphs' scores cannot be compared."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def __str__(self) -> str:
        block = "attention only" if not self.mlps else "parallel blocks" if self.parallel else "sequential blocks"
        return f"{self.n_layers} layers x {self.n_heads} heads, {block}, inputs={self.inputs}, {self.n_edges:,} edges"
