"""What the weights alone say about edges, and what is constant over a domain: bounds on any circuit, from above.

In models without norm, and without biases of queries, keys and values (compiled and hand-wired ones), an edge whose
write and read subspaces do not meet carries nothing, whatever the input. In others all edges may carry something.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..suite.circuit import Circuit
from ..suite.model.transformer import Transformer

ZERO = 1e-9  # relative to the largest number of its kind: below it a read-write product or a variation is rounding


def structural(model: Transformer) -> Tensor:
    """Edges whose write and read subspaces meet, on a path from an input to the logits: bool [n_writers, n_readers].

    An attention reader counts only where the head can do something with it: queries are seen through the keys'
    weights and keys through the queries'. Heads that read no value are dropped with all their edges.
    With norms, or biases in attention, nothing is excluded.
    """
    graph = model.graph
    if _mixes(model):
        return graph.exists.clone()
    writes, reads = write_weights(model), read_weights(model)
    meets = torch.tensor([[float((write @ read).abs().max()) for read in reads] for write in writes])
    scale = torch.tensor([[float(write.abs().max() * read.abs().max()) for read in reads] for write in writes])
    edges = Circuit(graph, (meets > ZERO * scale) & graph.exists)
    while True:
        smaller = _without_valueless_heads(edges).pruned()
        if smaller.n_edges == edges.n_edges:
            return edges.edges
        edges = smaller


def _mixes(model: Transformer) -> bool:
    """Whether what a reader sees of a writer depends on more than the product of two weights."""
    return model.config.norm != "none" or any(bool(block.b_QKV.any()) for block in model.blocks)


def constant(model: Transformer, tokens: Tensor, edges: Tensor | None = None) -> Tensor:
    """Edges whose read projection is the same for all inputs, at every position: bool [n_writers, n_readers].

    Under ``patch`` and ``resample`` such edges are provably inert, alone and together: each reader's projected input
    is the same with and without the cut.

    Args:
        model: in float64. With norms, or biases in attention, an edge counts only if what is written is the same.
        tokens: long [N, P].
        edges: bool [n_writers, n_readers], the ones to look at; all that exist when omitted.
    """
    graph = model.graph
    reads = (
        [torch.eye(model.config.d_model).to(model.embed)] * len(graph.readers) if _mixes(model) else read_weights(model)
    )
    with torch.no_grad():
        written = model.outputs(model.run(model.input_nodes(tokens))[1])
    still = torch.zeros_like(graph.exists)
    for w, r in (graph.exists if edges is None else edges).nonzero().tolist():
        seen = written[w] @ reads[r]
        variation = seen.amax(0) - seen.amin(0)
        still[w, r] = bool(variation.max() <= ZERO * seen.abs().max().clamp_min(1))
    return still


def write_weights(model: Transformer) -> list[Tensor]:
    """For each writer a matrix [?, d_model] whose rows span what it can write."""
    weights = [model.embed] + [model.pos_embed] * (model.graph.inputs == "split")
    if model.graph.inputs == "sum":
        weights = [torch.cat([model.embed, model.pos_embed])]
    for block in model.blocks:
        values = _by_part(block)[2]
        weights += list(values @ block.W_O_by_head)
        weights += [torch.cat([block.W_out, block.b_out[None]])] * model.graph.mlps
    return weights


def read_weights(model: Transformer) -> list[Tensor]:
    """For each reader a matrix [d_model, ?] that is zero on what it ignores."""
    weights: list[Tensor] = []
    for block in model.blocks:
        q, k, v = _by_part(block)
        weights += [*(q @ k.mT), *(k @ q.mT), *(v @ block.W_O_by_head)]
        if model.graph.mlps:
            weights.append(block.W_in * block.W_out.abs().amax(1).gt(0))
    return [*weights, model.unembed]


def _by_part(block) -> tuple[Tensor, Tensor, Tensor]:
    """Projections of queries, keys and values, each [H, d_model, d_head]."""
    return block.reader_weights()[0].unflatten(0, (3, -1)).unbind(0)


def _without_valueless_heads(circuit: Circuit) -> Circuit:
    graph, edges = circuit.graph, circuit.edges.clone()
    for group in graph.groups:
        if group.kind == "head":
            valued = edges[:, group.part("v")].any(0)
            edges[:, group.readers] &= valued.repeat(len(group.parts))  # no q or k of a head without a value edge
    return Circuit(graph, edges)
