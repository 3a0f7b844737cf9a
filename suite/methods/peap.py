"""Position-aware edge attribution patching: Haklay et al. 2025, arXiv:2502.04577."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..circuit import Circuit, Discovery, EdgeScores, NativeCircuit
from ..data import Data
from ..errors import SpecError
from ..intervention.ablation import Ablation
from ..intervention.objective import Objective
from ..model.capture import Gradients, contract_by_position
from ..model.passes import spend
from ..model.position_graph import PositionGraph
from ..model.position_transformer import PositionTransformer
from ..model.transformer import Transformer
from ._attribution import Prompts, check_choices, keep_prompts_apart, mean_values
from .cost import Cost
from .registry import BY_GRADIENTS, NODE_KINDS, method

_AGGREGATES = ("sum", "mean", "largest")
_ATTENTION = ("gradient", "softmax")
_PARTS = ("q", "k", "v")


@method(
    "peap",
    paper="Haklay et al. 2025, arXiv:2502.04577",
    needs={"gradients"},
    objectives="differentiable at clean",
    presets={"softmax": {"attention": "softmax"}, "quick": {}},
    cost="2 forward, 1 backward, and of each layer's attention a softmax for each position",
    cost_only={"batch_size"},
    exact_for=BY_GRADIENTS - {"joint q/k norm"},  # where one head's queries change the patterns of all
    nodes=NODE_KINDS,
    passes=lambda graph, n, given: Cost(forward=n, gradient=n),
    per_prompt=True,
    by_position=True,
)
def discover(
    model: Transformer,
    data: Data,
    *,
    ablation: Ablation,
    objective: Objective,
    seed: int,
    attention: str = "gradient",
    spans: tuple[int, ...] = (),
    aggregate: str = "sum",
    sizes: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    batch_size: int = 0,
) -> Discovery:
    """EAP without its sum over positions, and circuits that grow through attention from position to position.

    score(w -> r @ p) = mean over examples of <alternative_w - clean_w, d loss / d input_r>, both at position p; the
    position of a key or value is its own, whichever queries see it. On a graph without positions the prompt is one
    span, and with ``sum`` this is EAP.

    Crossing edges lead, inside a head, from a key position j to a query position i, one for each of q, k and v. Theirs
    is the change of the head's result at i times the gradient there: with the value at j that of the ablation; with
    the key at j that of the ablation, and the softmax again; with the scores of j alone computed from the query of the
    ablation, and the softmax again. From the logits a circuit takes the best edge or crossing edge into what it has;
    the crossing edges say which positions it can reach next. Sizes count edges and no crossing edges.

    From the paper and its released code (technion-cs-nlp/PEAP) are the scores, the crossing edges, the spans and their
    aggregates, and growth from the logits. Ours are: q, k and v stay apart, where the released growth takes the largest
    of the three; a query is reached at its own position; under an ablation queries, keys and values are the projections
    of what readers read with every edge cut, biases included, where the released code sets them to zero under zero.

    Args:
        attention: how edges into queries and keys are scored. ``gradient``: as above, as released. ``softmax``, which
            is ours: as crossing edges are, the query or the key without the one writer, and the softmax again.
        spans: the first position of each span of positions but the first; each position by itself when empty. Where
            there are several in a span, an edge has the span's score at each of them.
        aggregate: of a span's positions, example by example: the ``sum``, the ``mean``, or the score that is
            ``largest`` in absolute value.
        sizes: of the circuits that are grown, as shares of all edges.
        batch_size: prompts at a time; 0 chooses it. Scores do not depend on it.

    Raises:
        SpecError: spans that do not ascend or are beyond the last position, a size that is no share, or an unknown
            choice.
    """
    check_choices("peap", attention=(attention, _ATTENTION), aggregate=(aggregate, _AGGREGATES))
    if any(not 0 < size <= 1 for size in sizes):
        raise SpecError(f"peap: sizes = {list(sizes)}: give shares of all edges, above 0 and up to 1.")
    whole = model.whole if isinstance(model, PositionTransformer) else model
    graph = model.graph if isinstance(model.graph, PositionGraph) else None
    starts = _starts(spans, graph)
    shape = model.graph.exists.shape

    def of_batch(prompts: Prompts) -> Tensor:
        found = prompts.gradients_at_clean(of_writers=True)
        products = contract_by_position(whole, found, prompts.damage)  # [B, P, W, R]
        if attention == "softmax":
            for layer in range(whole.config.n_layers):
                _attend_again(prompts, layer, found, products)
        scores = _aggregated(products.permute(0, 2, 3, 1), starts, aggregate)  # [B, W, R, P], or 1 in place of P
        scores = scores[..., 0] if graph is None else graph.from_positions(scores)
        if prompts.by_example:
            return scores
        total = scores.double().sum(0)
        if graph is None:
            return total
        across = _crossing(prompts, found).double().sum(1).flatten()  # behind the scores, so that sums are kept of both
        return torch.cat([total.flatten(), across])

    values = mean_values(whole, data, ablation, objective, seed, batch_size, of_batch, keep_prompts_apart())
    if graph is None or values.ndim > 1:
        return Discovery(EdgeScores(model.graph, values))
    n = shape.numel()
    layers = (whole.config.n_layers, len(_PARTS), whole.config.n_heads, graph.n_positions, graph.n_positions)
    return _grown(EdgeScores(graph, values[:n].view(shape)), values[n:].view(layers).abs().numpy(), graph, sizes)


def _starts(spans: Sequence[int], graph: PositionGraph | None) -> list[int]:
    """The first position of every span; one span, the whole prompt, on a graph without positions."""
    if graph is None:
        if spans:
            raise SpecError("peap: spans are of a graph with positions, and this graph has none; leave spans out.")
        return [0]
    if list(spans) != sorted(set(spans)) or any(not 0 < start < graph.n_positions for start in spans):
        raise SpecError(
            f"peap: spans = {list(spans)}: give the first position of each span but the first, ascending, between 1 "
            f"and {graph.n_positions - 1}."
        )
    return [0, *spans] if spans else list(range(graph.n_positions))


def _aggregated(scores: Tensor, starts: Sequence[int], how: str) -> Tensor:
    """Scores [..., P], each position with what its span has."""
    found = torch.empty_like(scores)
    for start, stop in zip(starts, [*starts[1:], scores.shape[-1]], strict=True):
        span = scores[..., start:stop]
        if how == "largest":
            one = span.gather(-1, span.abs().argmax(-1, keepdim=True))
        else:
            one = span.sum(-1, keepdim=True) if how == "sum" else span.mean(-1, keepdim=True)
        found[..., start:stop] = one
    return found


@torch.no_grad()
def _crossing(prompts: Prompts, found: Gradients) -> Tensor:
    """The crossing edges' scores [L, B, 3, H, P, P]: of each layer, for q, k and v of each head, at query i, key j."""
    model = prompts.model
    length = prompts.damage.shape[2]
    before = model.alternative(prompts.cut, length).before
    layers = []
    for layer, block in enumerate(model.blocks):
        tap, to_result = found.taps[layer], found.layers[layer]["mixed"]  # [B, H, P, E]
        q, k, v = tap["q"], tap["k"], tap["v"]
        residual = before["head", layer].expand_as(tap["residual"])
        other_q, other_k, other_v = block.qkv(block.norm_attention(residual))
        scores = block.scores(q, k)
        to_pattern = to_result @ v.transpose(-1, -2)
        of_q, of_k = (
            _columns(scores, other, to_pattern) for other in (block.scores(other_q, k), block.scores(q, other_k))
        )
        of_v = scores.softmax(-1) * (to_result @ (other_v - v).transpose(-1, -2))
        layers.append(torch.stack([of_q, of_k, of_v], 1))
    return torch.stack(layers)


def _columns(scores: Tensor, other: Tensor, to_pattern: Tensor) -> Tensor:
    """<pattern' - pattern, its gradient> at each query [..., P, P], for each column of the scores replaced alone."""
    pattern, found = scores.softmax(-1), torch.empty_like(scores)
    for j in range(scores.shape[-1]):
        replaced = scores.clone()
        replaced[..., j] = other[..., j]
        found[..., j] = ((replaced.softmax(-1) - pattern) * to_pattern).sum(-1)
    return found


@torch.no_grad()
def _attend_again(prompts: Prompts, layer: int, found: Gradients, products: Tensor) -> None:
    """Fills in the products [B, P, W, R] of a layer's queries and keys, by patterns with a writer cut at a position."""
    model, block, tap = prompts.model, prompts.model.blocks[layer], found.taps[layer]
    group = model.graph.group["head", layer]
    q, k = tap["q"], tap["k"]
    scores = block.scores(q, k)
    pattern, to_pattern = scores.softmax(-1), found.layers[layer]["mixed"] @ tap["v"].transpose(-1, -2)
    for writer in range(group.sees.start, group.sees.stop):
        its_q, its_k, _ = block.qkv(block.norm_attention(tap["residual"] + prompts.damage[writer]))
        spend(forward=len(q) / (4 * model.config.n_layers))  # attention is a quarter of a layer
        of_q = ((block.scores(its_q, k).softmax(-1) - pattern) * to_pattern).sum(-1)  # [B, H, P], the query's
        of_k = _columns(scores, block.scores(q, its_k), to_pattern).sum(-2)  # [B, H, P], the key's
        for part, its in (("q", of_q), ("k", of_k)):
            products[:, :, writer, group.part(part)] = its.transpose(1, 2).to(products.dtype)


def _grown(scores: EdgeScores, across: np.ndarray, graph: PositionGraph, sizes: Sequence[float]) -> Discovery:
    """The scores, and the circuits of some sizes that grow from the logits through crossing edges.

    Args:
        across: absolute scores of crossing edges, [L, 3, H, P, P].
        sizes: shares of all edges.
    """
    wanted = {max(1, round(size * graph.n_edges)): size for size in sorted(sizes, reverse=True)}
    values = scores.values.abs().numpy()
    exists, nodes = graph.exists.numpy(), graph.whole.nodes
    # The best first: minus its score, 0 for an edge and 1 for a crossing one, the writer (-1 for a crossing one), the
    # reader.
    waiting: list[tuple[float, int, int, int]] = []
    reached: set[int] = set()
    edges = np.zeros_like(exists)
    circuits, kept, crossed = [], 0, 0

    def reach(reader: int) -> None:
        if reader not in reached:
            reached.add(reader)
            for w in exists[:, reader].nonzero()[0].tolist():
                heapq.heappush(waiting, (-float(values[w, reader]), 0, w, reader))

    def reach_behind(writer: int, reader: int) -> None:
        """What the writer at the reader's position computes from: at once, or through a head's crossing edges."""
        node, here = nodes[writer], int(graph.position[reader])
        if node.kind != "head":
            for behind in graph.readers_behind(writer, reader):
                reach(behind)
            return
        head = node.writers.start - graph.whole.group["head", node.layer].writers.start
        for part, own in enumerate(node.readers):
            rows = across[node.layer, part, head, here]  # [key]
            for key in range(graph.n_positions if not graph.causal else here + 1):
                place = here if part == 0 else key
                heapq.heappush(waiting, (-float(rows[key]), 1, -1, int(graph.index_at[own, place])))

    for reader in nodes[-1].readers:
        for place in range(graph.n_positions):
            reach(int(graph.index_at[reader, place]))
    while waiting and kept < max(wanted):
        _, _, w, r = heapq.heappop(waiting)
        if w < 0:
            crossed += r not in reached
            reach(r)
            continue
        edges[w, r] = True
        kept += 1
        if kept in wanted:
            circuits.append(NativeCircuit({"fraction": wanted[kept]}, Circuit(graph, torch.from_numpy(edges.copy()))))
        reach_behind(w, r)
    return Discovery(scores, tuple(circuits), {"crossing_edges_taken": crossed})
