"""Contextual decomposition for transformers: Hsu et al. 2025, arXiv:2407.00886."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..circuit import EdgeScores
from ..data import Data
from ..intervention.ablation import Ablation
from ..intervention.evaluator import default_batch_size
from ..intervention.objective import Objective
from ..model.block import ACTIVATIONS, Block, Norm
from ..model.device import send
from ..model.passes import spend
from ..model.transformer import Transformer
from ._attribution import Prompts, check_choices, induced, mean_values
from .cost import Cost
from .registry import NODE_KINDS, method

EDGES = ("targets", "ends")


@method(
    "cd-t",
    paper="Hsu et al. 2025, arXiv:2407.00886",
    presets={"ends": {"edges": "ends"}, "quick": {}},
    cost="2 forward, and 1 forward a node, from its layer on",
    cost_only={"batch_size"},
    exact_for=frozenset({"layer norm", "rms norm", "windows"}),
    nodes=NODE_KINDS,
    passes=lambda graph, n, given: Cost(forward=2 * n, cut=n * (len(graph.writers) + 1) / 2),
)
def discover(
    model: Transformer,
    data: Data,
    *,
    ablation: Ablation,
    objective: Objective,
    seed: int,
    edges: str = "targets",
    oppose: bool = True,
    batch_size: int = 0,
) -> EdgeScores:
    """Splits every activation into a part for which a source node is relevant and the rest, up to the logits.

    The output of the source is split into (clean - alternative) and alternative. Each component has a rule by which the
    two parts of its input become two parts of its output, whose sum is the output. The relevant part of a head takes
    its share of the output bias in the layer of the head, as in the released code. The relevance of a node is the size
    of the mean change of the loss when the relevant part of the logits is taken away; for the logit difference, as in
    the paper, it is the logit difference of the relevant part. The paper scores heads at positions; here all positions
    of a node are one source, and MLPs are sources, too.

    Undefined on models whose nodes are features: the paper has no rule that splits the activations of a dictionary, or
    the error of its reconstruction, into two parts.

    The method scores nodes; ``edges`` says how the scores of edges are made from them.

    Args:
        edges: ``targets``: the relevance of the reader's node, times the share of the relevant part in what the reader
            computes: mean |relevant| / (mean |relevant| + mean |rest|) of q, k or v, or of the MLP's output, which is
            the paper's relevance of a source for a target. An edge into the logits has the relevance of its writer.
            What reaches the target through other nodes counts as well. ``ends``: the smaller relevance of the two
            ends; the input nodes and the logits are never removed.
        oppose: whether, where the two parts of the output of an MLP or a layer have opposite signs, the larger part
            gets their sum and the other zero, as in the released code.
        batch_size: prompts at a time; 0 chooses it. Scores do not depend on it.

    Raises:
        SpecError: an unknown way to score edges.
    """
    check_choices("cd-t", edges=(edges, EDGES))
    size = batch_size or max(1, default_batch_size(model, data.clean.shape[1]) // 8)  # all sources' parts at once

    def of_batch(prompts: Prompts) -> Tensor:
        found = decompose(prompts, oppose)
        return torch.cat([found.effect[:, None], found.share.double()], 1)  # [W, 1 + R]

    values = mean_values(model, data, ablation, objective, seed, size, of_batch)
    relevance, share, graph = values[:, 0].abs(), values[:, 1:], model.graph
    of_readers = relevance[list(graph.owners[:-1])]
    if edges == "ends":
        return induced(graph, torch.cat([of_readers, relevance[:1]]))
    return EdgeScores(graph, torch.cat([of_readers * share[:, :-1], relevance[:, None]], 1))


@dataclass
class Decomposition:
    """Where the relevant part of each source went, summed over the examples of a batch.

    Args:
        effect: [W], the change of the loss when the relevant part of the logits is taken away.
        share: [W, R], the share of the relevant part in what each reader computes from its input.
        relevant: the relevant parts themselves, by name and layer: [C, B, P, ...] for the C sources before each.
    """

    effect: Tensor
    share: Tensor
    relevant: dict[tuple[str, int], Tensor] = field(default_factory=dict)


@torch.no_grad()
def decompose(prompts: Prompts, oppose: bool, keep: bool = False) -> Decomposition:
    """Follows the relevant part of what every writer writes through one run. The rest is the run's value minus it.

    Args:
        keep: whether the relevant parts are returned.
    """
    model, graph, taps = prompts.model, prompts.model.graph, []
    logits, _ = model.run(prompts.clean.inputs, read=prompts.runs.read, taps=taps)
    own = -prompts.damage
    share = torch.zeros(graph.exists.shape, dtype=own.dtype, device=own.device)
    weights = prompts.runs.batch.weights.to(own)
    kept: dict[tuple[str, int], Tensor] = {}
    relevant = own[graph.group["input", 0].writers]  # [C, B, P, D], a row more for each source that the pass has met
    for layer, (block, tap) in enumerate(zip(model.blocks, taps, strict=False)):
        spend(forward=len(relevant) * relevant.shape[1] / graph.n_layers)
        sources = len(relevant)
        qkv = _into_heads(block, relevant, tap)
        heads = graph.group["head", layer]
        share[:sources, heads.readers] = torch.cat(
            [_share(p, tap[n], weights) for p, n in zip(qkv, "qkv", strict=True)], 1
        )
        q, k, v = qkv
        z = block.scores(q, k).softmax(-1) @ v
        kept |= {("q", layer): q, ("k", layer): k, ("v", layer): v, ("z", layer): z} if keep else {}
        whole = tap["z"].transpose(1, 2).flatten(-2) @ block.W_O
        after = relevant + _biased(z.transpose(-3, -2).flatten(-2) @ block.W_O, whole, block.b_O)
        after = torch.cat([after, _biased(own[heads.writers], whole, block.b_O)])
        if graph.mlps:
            reads = after if not graph.parallel else torch.cat([relevant, torch.zeros_like(own[heads.writers])])
            m = _through_mlp(
                block, _through_norm(block.norm_mlp, reads, tap["mlp"]), block.norm_mlp(tap["mlp"]), oppose
            )
            share[: len(m), graph.group["mlp", layer].readers] = _share(m[:, :, None], tap["m"][:, None], weights)
            kept |= {("m", layer): m} if keep else {}
            after = torch.cat([after + m, own[graph.group["mlp", layer].writers]])
        following = taps[layer + 1]
        relevant = after if not oppose else _oppose(after, following.get("residual", following.get("logits")))
    final = _through_norm(model.norm_final, relevant, taps[-1]["logits"])
    where = send(prompts.runs.read.flatten().nonzero().flatten(), final.device)
    final = final.flatten(1, 2).index_select(1, where) @ model.unembed
    if model.config.unembed_bias:
        final = _biased(final, logits - model.unembed_bias, model.unembed_bias)
    kept |= {("logits", graph.n_layers): final} if keep else {}
    effect = prompts.losses(logits - final) - prompts.losses(logits)  # [W, B]
    return Decomposition(effect.double().sum(1), share, kept)


def _biased(relevant: Tensor, whole: Tensor, bias: Tensor) -> Tensor:
    """``relevant`` of ``whole`` = relevant + rest, with its share of a bias."""
    return relevant + bias * _ratio(relevant.abs(), (whole - relevant).abs())


def _ratio(size: Tensor, rest: Tensor) -> Tensor:
    """size / (size + rest); 0 where both are 0. The released code adds 1e-8 to the divisor: its shares sum to less than
    1."""
    return torch.where(size > 0, size / (size + rest), 0)


def _through_norm(norm: Norm, relevant: Tensor, x: Tensor) -> Tensor:
    """Relevant part of ``norm(x)``. The scale is that of the whole; each part is centred by its own mean.

    The bias is divided in proportion to the parts before they are centred.
    """
    if norm.kind == "none":
        return relevant
    _, inverse = norm.standardised(x)
    if norm.kind == "rms":
        return relevant * inverse * norm.weight
    scaled = (relevant - relevant.mean(-1, keepdim=True)) * inverse * norm.weight
    return scaled + norm.bias * _ratio(relevant.abs(), (x - relevant).abs())


def _into_heads(block: Block, relevant: Tensor, tap: dict[str, Tensor]) -> list[Tensor]:
    """Relevant parts [C, B, H, P, E] of q, k and v."""
    inside = _through_norm(block.norm_attention, relevant, tap["residual"])
    biases = block.qkv(torch.zeros_like(inside[:1, 0, :1]))  # three of [1, H, 1, E]
    with_bias = [part.unflatten(0, inside.shape[:2]) for part in block.qkv(inside.flatten(0, 1))]
    return [
        _biased(part - bias, tap[name] - bias, bias) for part, bias, name in zip(with_bias, biases, "qkv", strict=True)
    ]


def _through_mlp(block: Block, relevant: Tensor, x: Tensor, oppose: bool) -> Tensor:
    """Relevant part of ``block.mlp(x)``. The activation of the rest belongs to the rest, and so does a product of
    rests."""
    tidy = _oppose if oppose else lambda part, whole: part
    activation = ACTIVATIONS[block.config.activation]
    linear = x @ block.W_in
    before = linear + block.b_in
    hidden = tidy(_biased(relevant @ block.W_in, linear, block.b_in), before)
    if block.config.gated:
        gate = x @ block.W_gate
        whole = activation(gate) * before
        part = whole - activation(gate - tidy(relevant @ block.W_gate, gate)) * (before - hidden)
    else:
        whole = activation(before)
        part = whole - activation(before - hidden)
    linear = whole @ block.W_out
    return tidy(_biased(part @ block.W_out, linear, block.b_out), linear + block.b_out)


def _oppose(relevant: Tensor, whole: Tensor) -> Tensor:
    """``relevant``; where the two parts of ``whole`` differ in sign, the larger part gets their sum, and the other
    0."""
    rest = whole - relevant
    larger = torch.where(relevant.abs() > rest.abs(), whole, 0)
    return torch.where(relevant * rest < 0, larger, relevant)


def _share(relevant: Tensor, whole: Tensor, weights: Tensor) -> Tensor:
    """mean |relevant| / (mean |relevant| + mean |rest|) of [C, S, r, P, d], summed over examples: [C, r].

    Of an example with several runs it is the mean over its runs, and padding has no part in the means.

    Args:
        weights: [S, P], of ``Batch.weights``, whose sum over a run is P times the run's part of its example.
    """
    size, rest = ((part.abs() * weights[:, None, :, None]).flatten(3).mean(-1) for part in (relevant, whole - relevant))
    return (_ratio(size, rest) * weights.mean(1)[:, None]).sum(1)
