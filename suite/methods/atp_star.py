"""AtP*: Kramar, Lieberum, Shah and Nanda 2024, arXiv:2403.00745."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..circuit import EdgeScores
from ..data import Data
from ..intervention.ablation import Ablation
from ..intervention.objective import Objective
from ..model.capture import Gradients, Written, contract
from ..model.graph import Graph
from ..model.passes import spend
from ..model.transformer import Transformer
from ._attribution import Prompts, mean_scores
from .cost import Cost
from .registry import BY_GRADIENTS, NODE_KINDS, method

# The most numbers that are held at once while attention is recomputed.
_BUDGET = 16_000_000


def _cost(graph: Graph, prompts: int, grad_drop: bool, **_: object) -> Cost:
    # The gradients of every layer's run are held together: q, k, v and MLP, each as wide as a writer's output.
    held = 4 * graph.n_layers**2 / len(graph.writers) if grad_drop else 1
    return Cost(forward=2 * prompts, gradient=prompts * (graph.n_layers if grad_drop else 1), stacks=2 + held)


@method(
    "atp-star",
    paper="Kramar et al. 2024, arXiv:2403.00745",
    needs={"gradients", "one run a prompt"},
    objectives="differentiable at clean",
    presets={"attribution-patching": {"qk_fix": False, "grad_drop": False}, "quick": {}},
    cost="2 forward, layers x (1 forward, 1 backward), and for each edge into queries or keys their layer's attention",
    cost_only={"batch_size"},
    exact_for=BY_GRADIENTS - {"joint q/k norm"},  # where one head's queries change the patterns of all
    nodes=NODE_KINDS,
    passes=lambda graph, n, given: _cost(graph, n, **given),
    per_prompt=True,
)
def discover(
    model: Transformer,
    data: Data,
    *,
    ablation: Ablation,
    objective: Objective,
    seed: int,
    qk_fix: bool = True,
    grad_drop: bool = True,
    batch_size: int = 0,
) -> EdgeScores:
    """Attribution patching, corrected where it fails: at saturated attention, and where effects cancel.

    The paper scores nodes at positions; here edges are scored, and cut at all positions together. A score is the mean
    over examples of an absolute value, averaged over the layers whose gradients are dropped.

    Args:
        qk_fix: whether, for edges into queries and keys, the attention pattern with the edge cut is computed through
            norm and softmax, and only what follows is taken to first order: <pattern' - pattern, d loss / d pattern>
            (section 3.1.1). All keys change together; the paper changes one at a time.
        grad_drop: whether gradients are taken once for each layer, with those through the heads and the MLP of that
            layer set to zero. The absolute scores are averaged over all layers but that of the edge's reader (section
            3.1.2), and over all layers for edges into the logits. In a model of two layers, an edge into the first
            layer that matters only through the second scores zero; with many layers this is one term of many.
        batch_size: prompts at a time; 0 chooses it. Scores do not depend on it.
    """
    dropped = range(model.config.n_layers) if grad_drop and model.config.n_layers > 1 else [None]

    def of_batch(prompts: Prompts) -> Tensor:
        found = [prompts.gradients(prompts.clean.inputs, written=_drop(layer), of_writers=True) for layer in dropped]
        products = torch.stack([contract(model, one, prompts.damage, by_example=True) for one in found])
        if qk_fix:
            for layer in range(model.config.n_layers):
                for writers, readers, fixed in _fixed(prompts, layer, found):
                    products[:, :, writers, readers] = fixed.to(products.dtype)
        counted = torch.full(model.graph.exists.shape, max(1, len(dropped) - 1), device=model.device)
        counted[:, -1] = len(dropped)
        averaged = products.double().abs().sum(0) / counted
        return averaged if prompts.by_example else averaged.sum(0)

    return mean_scores(model, data, ablation, objective, seed=seed, batch_size=batch_size, of_batch=of_batch)


def _drop(dropped: int | None) -> Written | None:
    """Passes on what the nodes of one layer write, without gradients."""
    if dropped is None:
        return None
    return lambda kind, layer, value: value.detach() if layer == dropped else value


@torch.no_grad()
def _fixed(prompts: Prompts, layer: int, found: list[Gradients]) -> Iterator[tuple[slice, slice, Tensor]]:
    """(writers, readers, their products [drops, B, writers, readers]) for the queries and the keys of a layer."""
    model, graph, block, tap = prompts.model, prompts.model.graph, prompts.model.blocks[layer], found[0].taps[layer]
    q, k, v = tap["q"], tap["k"], tap["v"]
    group = graph.group["head", layer]
    pattern = block.scores(q, k).softmax(-1)
    into_pattern = torch.stack(
        [one.layers[layer]["mixed"] @ v.transpose(-1, -2) for one in found]
    )  # [drops, B, H, P, P]
    examples, heads, positions, _ = q.shape
    step = max(1, _BUDGET // (examples * positions * max(heads * positions, 3 * model.config.d_model)))
    for start in range(group.sees.start, group.sees.stop, step):
        writers = slice(start, min(start + step, group.sees.stop))
        damaged = (tap["residual"] + prompts.damage[writers]).flatten(0, 1)  # [w * B, P, D]
        its_q, its_k, _ = (part.unflatten(0, (-1, examples)) for part in block.qkv(block.norm_attention(damaged)))
        spend(forward=(writers.stop - start) * examples / (4 * graph.n_layers))  # attention is a quarter of a layer
        for readers, scores in ((group.part("q"), block.scores(its_q, k)), (group.part("k"), block.scores(q, its_k))):
            yield writers, readers, torch.einsum("wbhij,dbhij->dbwh", scores.softmax(-1) - pattern, into_pattern)
