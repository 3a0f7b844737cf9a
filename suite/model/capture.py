"""Gradients of every reader's input, contracted with writers' differences into edge scores, layer by layer.

    score(w, r) = sum over examples and positions of <difference[w], d loss / d input[r]>          (EAP, eq. 2)

The gradients are taken at q, k and v, which are d_head wide, and carried back through the projection and the layer
norm once for all heads of a layer; no copy of the residual stream per reader is ever made.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .passes import spend
from .transformer import Activations, Transformer


def edge_products(
    model: Transformer,
    inputs: Tensor,
    difference: Tensor,
    loss: Callable[[Tensor], Tensor],
    read: Tensor | None = None,
) -> tuple[Tensor, Activations]:
    """The products of ``difference`` with the loss gradient at every reader, from one forward and one backward pass.

    Args:
        inputs: what the input nodes write, [n_inputs, B, P, D]; need not be a clean prompt's (integrated gradients).
        difference: [W, B, P, D].
        loss: logits (at ``read`` positions) to a scalar, summed over examples.
        read: bool [B, P].

    Returns:
        Scores [W, R], summed over examples, in float32 or wider; zero where no edge exists. And the activations.
    """
    graph, taps = model.graph, []
    with torch.enable_grad():
        logits, run = model.run(inputs.detach().requires_grad_(), read=read, taps=taps)
        value = loss(logits)
    names = ["q", "k", "v"] + ["mlp"] * graph.mlps
    wanted = [tap[name] for tap in taps[:-1] for name in names] + [taps[-1]["logits"]]
    spend(backward=inputs.shape[1])
    # A part that the loss does not depend on (values of an attention-free path, say) has no gradient: it is zero.
    gradients = iter(torch.autograd.grad(value, wanted, allow_unused=True, materialize_grads=True))

    wide = torch.promote_types(model.dtype, torch.float32)
    flat = difference.to(wide).flatten(1)  # [W, n * D]
    scores = torch.zeros(graph.exists.shape, dtype=wide, device=model.device)
    with torch.no_grad():
        for layer in range(graph.n_layers):
            parts = torch.stack([next(gradients) for _ in "qkv"])
            into_heads = _through_norm(model, layer, taps[layer], parts).to(wide).flatten(1)
            visible = graph.visible(layer)
            scores[:visible, graph.qkv(layer)] = flat[:visible] @ into_heads.T
            if graph.mlps:
                visible = graph.visible(layer, to_mlp=True)
                scores[:visible, graph.mlp_reader(layer)] = flat[:visible] @ next(gradients).to(wide).flatten()
        scores[:, -1] = flat @ next(gradients).to(wide).flatten()
    return scores, run.map(Tensor.detach)


def _through_norm(model: Transformer, layer: int, tap: dict[str, Tensor], gradients: Tensor) -> Tensor:
    """Gradients at q, k, v, [3, B, H, P, E], carried back to each reader's residual input: [3H, n, D].

    The backward pass of a norm at x is linear in the gradient g behind its gain, with y the standardised x:
    (g - mean(g) - y mean(y g)) / scale. mean(g) vanishes when the weights are centred over d_model (layer norm only),
    1 / scale is applied while still d_head wide, and mean(y g) is g.q / d_model, with q less all of its biases.
    """
    block = model.blocks[layer]
    norm, d_model = block.norm_attention, model.config.d_model
    weight, bias = block.reader_weights()  # [3H, D, E], [3H, E]

    def by_reader(parts: Tensor) -> Tensor:  # [3, B, H, P, E] to [3H, n, E]
        return parts.transpose(1, 2).flatten(2, 3).flatten(0, 1)

    narrow = by_reader(gradients)
    if norm.kind == "none":
        return narrow.bmm(weight.transpose(1, 2))
    if norm.kind == "layer":
        bias = bias + norm.bias @ weight
    weight = weight * norm.weight[:, None]
    standardised, inverse = (part.flatten(0, 1) for part in norm.standardised(tap["residual"]))  # [n, D], [n, 1]
    narrow = narrow * inverse
    unbiased = by_reader(torch.stack([tap["q"], tap["k"], tap["v"]])) - bias[:, None]
    along = (narrow * unbiased).sum(-1, keepdim=True) / d_model  # mean(y g)
    if norm.kind == "layer":
        weight = weight - weight.mean(1, keepdim=True)
    wide = narrow.bmm(weight.transpose(1, 2))
    return wide.addcmul_(along, standardised[None], value=-1)
