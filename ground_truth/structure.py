"""Which edges the weights alone rule out, and which are constant over a domain: upper bounds on any circuit.

In models without norm, and without biases of queries, keys and values (compiled and hand-wired ones), an edge whose
write and read subspaces do not meet carries nothing, whatever the input. In others all edges may carry something.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..suite.circuit import Circuit
from ..suite.model.features.dictionary import FeatureDictionary
from ..suite.model.features.transformer import FeatureTransformer
from ..suite.model.graph import NodeGroup
from ..suite.model.position_graph import PositionGraph
from ..suite.model.position_transformer import PositionTransformer
from ..suite.model.transformer import Transformer

ZERO = 1e-9  # relative to the largest value; smaller read-write products and variations are rounding errors


def structural(model: Transformer, read: Tensor | None = None) -> Tensor:
    """Edges whose write and read subspaces meet, on a path from an input to the logits: bool [n_writers, n_readers].

    An attention reader counts only if the head can use what it reads: queries are seen through the keys'
    weights and keys through the queries'. Heads that read no value are dropped with all their edges.
    With norms, or biases in attention, or features that are not linear, no weights exclude an edge.

    Args:
        read: bool [P], the positions whose outputs are compared. Where edges are told apart by position, paths to the
            logits elsewhere do not count.
    """
    graph = model.graph
    if isinstance(model, PositionTransformer):
        found = model.graph.at_every_position(structural(model.whole))
        if read is not None:
            last = model.graph.groups[-1].readers
            found[:, last] &= read[torch.from_numpy(model.graph.position[last])]
        return _usable(Circuit(graph, found))
    if _mixes(model):
        return graph.exists.clone()
    writes, reads = writer_weights(model), reader_weights(model)
    meets = torch.tensor([[float((write @ read).abs().max()) for read in reads] for write in writes])
    scale = torch.tensor([[float(write.abs().max() * read.abs().max()) for read in reads] for write in writes])
    return _usable(Circuit(graph, (meets > ZERO * scale) & graph.exists))


def _usable(edges: Circuit) -> Tensor:
    """Those of some edges that are on a path to the logits, and not into a head that reads no value."""
    while True:
        smaller = _without_valueless_heads(edges).pruned()
        if smaller.n_edges == edges.n_edges:
            return edges.edges
        edges = smaller


def _mixes(model: Transformer) -> bool:
    """Whether what a reader sees of a writer depends on more than the product of two weights."""
    if model.config.norm != "none" or any(bool(block.b_QKV.any()) for block in model.blocks):
        return True
    return isinstance(model, FeatureTransformer) and not all(_linear(d) for d in model.dictionaries.values())


def _linear(dictionary: FeatureDictionary) -> bool:
    return dictionary.activation == "identity" and not dictionary.b_enc.any() and not dictionary.b_dec.any()


def constant(model: Transformer, tokens: Tensor, edges: Tensor | None = None) -> Tensor:
    """Edges whose read projection is the same for all inputs, at every position: bool [n_writers, n_readers].

    Under ``patch`` and ``resample`` such edges are provably inert, alone and together, while all other edges are kept:
    node by node (and position by position, where edges are told apart by it), each reader's projected input is then
    that of a clean run, with and without the cut. Where other
    edges are cut, the writer may compute what it computes in no clean run, and the edge may carry something (see
    ``inert_in_all_circuits``).

    Args:
        model: a model in float64. With norms, or biases in attention, an edge counts only if its writer writes the same
            for all inputs.
        tokens: long [N, P].
        edges: bool [n_writers, n_readers], the edges to test; all edges of the graph by default.
    """
    graph = model.graph
    reads = (
        [torch.eye(model.config.d_model).to(model.embed)] * len(graph.readers)
        if _mixes(model)
        else reader_weights(model)
    )
    with torch.no_grad():
        written = model.outputs(model.run(model.input_nodes(tokens))[1])
    still = torch.zeros_like(graph.exists)
    at = graph.position.tolist() if isinstance(graph, PositionGraph) else None
    for w, r in (graph.exists if edges is None else edges).nonzero().tolist():
        seen = (written[w] if at is None else written[w][:, at[r]]) @ reads[r]
        variation = seen.amax(0) - seen.amin(0)
        still[w, r] = bool(variation.max() <= ZERO * seen.abs().max().clamp_min(1))
    return still


def inert_in_all_circuits(model: Transformer, tokens: Tensor, edges: Tensor) -> Tensor:
    """Edges that carry the same under ``patch`` and ``resample`` whether they are cut or not, whichever others are cut.

    These are the constant edges out of an input node, and out of a node into which no other edge leads: it writes what
    it writes in a clean run of the counterfactual, which is what a cut edge carries.

    Args:
        model, tokens: as in ``constant``.
        edges: bool [n_writers, n_readers]. All other edges are cut.

    Returns:
        bool [n_writers, n_readers], a part of ``edges``.
    """
    still = constant(model, tokens, edges)
    left = edges.clone()
    for node in model.graph.nodes:
        if node.kind == "input" or not bool(left[:, list(node.readers)].any()):
            left[node.writers] &= ~still[node.writers]
    return edges & ~left


def writer_weights(model: Transformer) -> list[Tensor]:
    """For each writer a matrix [?, d_model] whose rows span what it can write."""
    weights: list[Tensor] = []
    for group in model.graph.groups:
        if group.kind == "input":
            weights += [model.embed] if model.graph.inputs != "sum" else [torch.cat([model.embed, model.pos_embed])]
            weights += [model.pos_embed] * (model.graph.inputs == "split")
        elif group.kind == "head":
            weights += list(_values(model, group.layer))
        elif group.kind == "mlp":
            weights.append(_mlp_writes(model, group.layer))
        elif group.writes:
            weights += list(site_writes(model, group))
    return weights


def reader_weights(model: Transformer) -> list[Tensor]:
    """For each reader a matrix [d_model, ?] that is zero on what it ignores."""
    if isinstance(model, PositionTransformer):
        whole = reader_weights(model.whole)
        return [whole[r] for r in model.graph.whole_reader]
    weights: list[Tensor] = []
    for group in model.graph.groups:
        if group.kind == "head":
            q, k, v = _by_part(model.blocks[group.layer])
            weights += [*(q @ k.mT), *(k @ q.mT), *_values(model, group.layer)]
        elif group.kind == "mlp":
            block = model.blocks[group.layer]
            weights.append(block.W_in * block.W_out.abs().amax(1).gt(0))
        elif group.kind == "logits":
            weights.append(model.unembed)
        elif group.reads:
            weights += site_reads(model, group)
    return weights


def site_writes(model: FeatureTransformer, group: NodeGroup) -> list[Tensor]:
    """Like ``writer_weights``, for the nodes at a site: the decoder rows of features, and the writes of the error node.

    The dictionary is linear, so that the error of each vector that the component can write is known.
    """
    dictionary = model.dictionary_at(group)
    features = model.features_at(group)
    if group.kind.endswith("feature"):
        return [row[None] for row in dictionary.W_dec[features]]
    whole = component_writes(model, model.site_of(group).place, group.layer)
    rest = whole - whole @ dictionary.W_enc[:, features] @ dictionary.W_dec[features]
    return [rest.where(rest.abs() > ZERO * whole.abs().max(), 0.0)]


def site_reads(model: FeatureTransformer, group: NodeGroup) -> list[Tensor]:
    """Like ``reader_weights``, for the nodes at a site: the parts of the input that can reach a node's output."""
    dictionary, features = model.dictionary_at(group), model.features_at(group)
    if group.kind.endswith("feature"):
        about = [dictionary.W_enc[:, [f]] for f in features.tolist()]
    else:
        eye = torch.eye(model.config.d_model).to(model.embed)
        rest = eye - dictionary.W_enc[:, features] @ dictionary.W_dec[features]
        whole = component_writes(model, model.site_of(group).place, group.layer)
        nothing = (whole @ rest).abs().max() <= ZERO * whole.abs().max()
        about = [rest.new_zeros(len(rest), 1) if nothing else rest]
    return [_component_reads(model, group, each) for each in about]


def component_writes(model: Transformer, place: str, layer: int) -> Tensor:
    """Rows that span what a layer's MLP (``mlp_out``) or its attention (``attn_out``) can write, [?, d_model]."""
    if place == "mlp_out":
        return _mlp_writes(model, layer)
    return torch.cat([*_values(model, layer), model.blocks[layer].b_O[None]])


def _component_reads(model: Transformer, group: NodeGroup, about: Tensor) -> Tensor:
    """[d_model, ?], zero on what cannot move the component's output along ``about`` [d_model, m]."""
    block = model.blocks[group.layer]
    if group.kind.startswith("mlp"):
        return block.W_in * (block.W_out @ about).abs().amax(1).gt(0)
    q, k, _ = _by_part(block)
    parts = []
    for head, value in enumerate(_values(model, group.layer)):
        along = value @ about
        if bool(along.abs().max() > 0):
            parts += [q[head] @ k[head].mT, k[head] @ q[head].mT, along]
    return torch.cat(parts, 1) if parts else about.new_zeros(len(about), 1)


def _values(model: Transformer, layer: int) -> Tensor:
    """What each head of a layer copies, from the residual stream into it: [H, d_model, d_model]."""
    block = model.blocks[layer]
    return _by_part(block)[2] @ block.W_O_by_head


def _mlp_writes(model: Transformer, layer: int) -> Tensor:
    block = model.blocks[layer]
    return torch.cat([block.W_out, block.b_out[None]])


def _by_part(block) -> tuple[Tensor, Tensor, Tensor]:
    """Projections of queries, keys and values, each [H, d_model, d_head]."""
    return block.reader_weights()[0].unflatten(0, (3, -1)).unbind(0)


def _without_valueless_heads(circuit: Circuit) -> Circuit:
    graph, edges = circuit.graph, circuit.edges.clone()
    for group in graph.groups:
        if group.kind == "head":
            by_node = group.by_node(edges[:, group.readers])  # [W, parts, H]
            valued = by_node[:, [name.startswith("v") for name in group.parts]].flatten(0, 1).any(0)
            edges[:, group.readers] &= valued.repeat(len(group.parts))  # no q or k of a head without a value edge
    return Circuit(graph, edges)
