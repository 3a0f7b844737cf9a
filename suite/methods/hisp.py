"""Head importance for pruning: Michel, Levy and Neubig 2019, arXiv:1905.10650, as adapted by Conmy et al. 2023."""

from __future__ import annotations

import torch
from torch import Tensor

from ..circuit import EdgeScores
from ..data import Data
from ..intervention.ablation import Ablation
from ..intervention.objective import Objective
from ..model.capture import contract
from ..model.graph import Graph
from ..model.transformer import Transformer
from ._attribution import Prompts, check_choices, induced, mean_scores, mean_values
from .cost import Cost
from .registry import BY_GRADIENTS, NODE_KINDS, method

_LEVELS = ("node", "edge")
COMPONENTS = ("readers", "heads")
ALTERNATIVES = ("ablation", "zero")


@method(
    "hisp",
    paper="Michel et al. 2019, arXiv:1905.10650; Conmy et al. 2023, arXiv:2304.14997, appendix",
    needs={"gradients", "one run a prompt"},
    objectives="differentiable at clean",
    presets={
        "reference-code": {"alternative": "zero", "least_norm": 0.0},
        "heads": {"components": "heads"},
        "edge": {"level": "edge"},
        "quick": {},
    },
    cost="2 forward, 1 backward",
    cost_only={"batch_size"},
    exact_for=BY_GRADIENTS,
    nodes=NODE_KINDS,
    passes=lambda graph, n, given: Cost(forward=n, gradient=n),
    per_prompt=True,
)
def discover(
    model: Transformer,
    data: Data,
    *,
    ablation: Ablation,
    objective: Objective,
    seed: int,
    level: str = "node",
    components: str = "readers",
    alternative: str = "ablation",
    normalise: bool = True,
    least_norm: float = 1e-5,
    batch_size: int = 0,
) -> EdgeScores:
    """Estimates to first order the absolute change of the loss when a component is ablated.

    importance(C) = mean over examples of |<C(x') - C(x), d loss / d C at x>|, divided by the L2 norm over its layer.

    An edge has the smaller importance of its two ends: both are there until then, when components are removed in order
    of importance, the least first. As a writer, a head is there as long as one of its readers is. The input nodes and
    the logits are never removed; an edge between them gets the largest score.

    Args:
        level: ``node``, as above; or ``edge``: the score of each edge is the mean over examples of |<alternative_w -
            clean_w, d loss / d input_r>|, without norm (edge-level HISP of Miller et al. 2024).
        components: ``readers``: q, k and v of each head, and the outputs of MLPs, as in the code of Conmy et al.;
            or ``heads``: the outputs of heads and of MLPs, as in Michel et al.
        alternative: C(x'). ``ablation``: as in the formula; q, k and v, which write nothing, have the value that they
            have when all edges into them are cut. ``zero``: C(x') = 0, as in the code of Conmy et al. under every
            ablation, whose cache of C(x') is still empty when scores are taken (preset ``reference-code``).
        normalise: whether importances are divided by the norm over the layer.
        least_norm: the least norm of a layer, as a share of the largest layer's norm, so that rounding in a layer in
            which nothing changes is not made as large as effects. The released code has no such bound
            (``reference-code``). In both, the norm of sums over examples is 1e-6 at least.
        batch_size: prompts at a time; 0 chooses it. Scores do not depend on it.

    Raises:
        SpecError: a choice is unknown.
    """
    check_choices(
        "hisp",
        level=(level, _LEVELS),
        components=(components, COMPONENTS),
        alternative=(alternative, ALTERNATIVES),
    )
    if level == "edge":

        def of_edges(prompts: Prompts) -> Tensor:
            found = prompts.gradients_at_clean()
            products = contract(model, found, prompts.damage, by_example=True).double().abs()
            return products if prompts.by_example else products.sum(0)

        return mean_scores(model, data, ablation, objective, seed=seed, batch_size=batch_size, of_batch=of_edges)

    def of_batch(prompts: Prompts) -> Tensor:
        return _importance(prompts, components, to_zero=alternative == "zero")

    nodes = mean_values(model, data, ablation, objective, seed, batch_size, of_batch)
    nodes = _normalised(model.graph, nodes, 1e-6 / data.n, least_norm) if normalise else nodes
    return induced(model.graph, _shared_by_readers(model.graph, nodes) if components == "heads" else nodes)


@torch.no_grad()
def _importance(prompts: Prompts, components: str, to_zero: bool) -> Tensor:
    """Importance of every reader [R], summed over examples. With ``heads`` a head has its importance at its q."""
    model, graph = prompts.model, prompts.model.graph
    found = prompts.gradients_at_clean(of_writers=True)
    cut_off = model.alternative(prompts.cut, prompts.clean.inputs.shape[2])
    total = torch.zeros(len(graph.readers), dtype=torch.float64, device=model.device)

    def change(values: Tensor, alternative: Tensor, gradient: Tensor) -> Tensor:  # [..., B, P, d] to [...]
        moved = (-values if to_zero else alternative - values) * gradient
        return moved.double().sum((-2, -1)).abs().sum(-1)

    for group in (group for group in graph.groups if group.kind in ("head", "mlp")):
        block, tap, parts = model.blocks[group.layer], found.taps[group.layer], found.layers[group.layer]
        if group.kind == "mlp":
            total[group.readers] = change(tap["m"][None], prompts.cut[group.key], parts["m"][None])
        elif components == "heads":
            own = change(tap["z"].transpose(0, 1), prompts.cut[group.key], parts["z"].transpose(0, 1))
            total[group.part("q")] = own
        else:
            others = block.qkv(block.norm_attention(cut_off.before[group.key]))
            for name, other in zip("qkv", others, strict=True):
                own = change(*(part.transpose(0, 1) for part in (tap[name], other, parts[name])))
                total[group.part(name)] = own
    return total


def _shared_by_readers(graph: Graph, nodes: Tensor) -> Tensor:
    """Importances [R] in which the k and v of each head have the importance of its q."""
    nodes = nodes.clone()
    for group in graph.groups:
        if group.kind == "head":
            nodes[group.readers] = nodes[group.part("q")].repeat(len(group.parts))
    return nodes


def _normalised(graph: Graph, nodes: Tensor, least: float, least_share: float) -> Tensor:
    """The importances of each layer divided by their L2 norm, which counts as ``least`` and ``least_share`` x the
    largest norm at least."""
    layer_of = torch.tensor([graph.reader_layer(reader) for reader in range(len(graph.readers) - 1)])
    of_layers = [nodes[:-1][layer_of == layer] for layer in range(graph.n_layers)]
    norm = torch.stack([part.norm() for part in of_layers])
    norm = norm.clamp_min(max(least, least_share * float(norm.max())))
    return torch.cat([nodes[:-1] / norm[layer_of], nodes[-1:]])
