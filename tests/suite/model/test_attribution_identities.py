"""Gradients contracted to edge scores: against the mask gradient, finite differences, cuts and rows."""

import pytest
import torch
from oracles import ARCHITECTURES, INPUTS, small_data, small_model
from torch.testing import assert_close

from circuitmeter.suite.model.capture import contract, gradients

EXACT = dict(rtol=1e-9, atol=1e-10)
everything = pytest.mark.parametrize("architecture", ARCHITECTURES)


def prepared(architecture, inputs="token", data=None):
    model, data = small_model(inputs, **ARCHITECTURES[architecture]), data or small_data()
    with torch.no_grad():
        _, clean = model.run(model.input_nodes(data.clean))
        _, other = model.run(model.input_nodes(data.counterfactual))
    return model, clean, other


def loss(logits):
    weights = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)
    return (logits.tanh() * weights).sum()


def edge_scores(model, inputs, difference):
    """<difference, gradient of the loss at the run from ``inputs``> of each edge."""
    return contract(model, gradients(model, inputs, loss), difference)


@everything
@pytest.mark.parametrize("inputs", INPUTS)
def test_equal_to_the_gradient_of_the_loss_in_the_mask(architecture, inputs):
    model, clean, other = prepared(architecture, inputs)
    scores = edge_scores(model, clean.inputs, model.difference(other, clean))
    mask = torch.ones(1, *model.graph.exists.shape, dtype=torch.float64, requires_grad=True)
    cut = loss(model.run_cut(mask, model.alternative(other, 5), inputs=clean.inputs))
    (gradient,) = torch.autograd.grad(cut, mask)
    assert_close(scores, -gradient[0] * model.graph.exists, **EXACT)
    assert scores.abs().max() > 1e-2


@everything
def test_equal_to_a_finite_difference_along_each_edge(architecture):
    model, clean, other = prepared(architecture)
    scores = edge_scores(model, clean.inputs, model.difference(other, clean))
    alternative = model.alternative(other, 5)
    for w, r in model.graph.exists.nonzero().tolist()[:: max(1, model.graph.n_edges // 12)]:
        masks = torch.ones(2, *model.graph.exists.shape, dtype=torch.float64)
        masks[0, w, r], masks[1, w, r] = 1 - 1e-5, 1 + 1e-5  # a step towards, and away from, the alternative
        with torch.no_grad():
            there, back = (loss(model.run_cut(m[None], alternative, inputs=clean.inputs)) for m in masks)
        assert_close(scores[w, r], (there - back) / 2e-5, rtol=1e-5, atol=1e-6)


@everything
def test_scores_across_a_layer_boundary_sum_to_the_product_of_the_residual_streams(architecture):
    model, clean, other = prepared(architecture)
    graph, difference = model.graph, model.difference(other, clean)
    scores = edge_scores(model, clean.inputs, difference)
    out = model.outputs(clean)
    for layer in range(graph.n_layers + 1):
        visible = graph.visible(layer)
        biases = sum((block.b_O for block in model.blocks[:layer]), model.constant(5))
        residual = (out[:visible].sum(0) + biases).requires_grad_()
        (gradient,) = torch.autograd.grad(loss(_from_boundary(model, residual, layer)), residual)
        later = torch.tensor([graph.reader_layer(r) >= layer for r in range(len(graph.readers))])
        assert_close(scores[:visible, later].sum(), (difference[:visible].sum(0) * gradient).sum(), **EXACT)


def _from_boundary(model, residual, first_layer):
    """Logits of the plain model from the residual stream before a layer."""
    for block in model.blocks[first_layer:]:
        z = block.attend(*block.qkv(block.norm_attention(residual)))
        out = z.transpose(1, 2).flatten(-2) @ block.W_O
        after = residual + (block.norm_after_attention(out) if model.config.post_norms else out) + block.b_O
        if model.graph.mlps:
            after = after + block.mlp(block.norm_mlp(residual if model.config.parallel else after))
        residual = after
    return model.to_logits(residual)


def test_the_row_of_a_writer_sums_to_its_node_attribution():
    model, clean, other = prepared("gpt2")
    difference = model.difference(other, clean)
    scores = edge_scores(model, clean.inputs, difference)
    inputs = clean.inputs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(model.run(inputs)[0]), inputs)
    assert_close(scores[0].sum(), (difference[0] * gradient[0]).sum(), **EXACT)
    for layer in range(3):
        for kind in ("head", "mlp"):
            before = clean[kind, layer]
            node = before.detach().clone().requires_grad_()
            out = loss(_with_replaced(model, clean.inputs, layer, kind, node))
            (gradient,) = torch.autograd.grad(out, node)
            change = (other[kind, layer] - before) * gradient
            if kind == "mlp":
                assert_close(scores[model.graph.mlp(layer)].sum(), change.sum(), **EXACT)
            else:
                assert_close(scores[model.graph.heads(layer)].sum(1), change.sum((1, 2, 3)), **EXACT)


def _with_replaced(model, inputs, layer, kind, value):
    """Logits of the plain model with one layer's head outputs, or MLP output, replaced."""
    residual = inputs.sum(0) + model.constant(inputs.shape[2])
    for index, block in enumerate(model.blocks):
        z = block.attend(*block.qkv(block.norm_attention(residual)))
        if (index, kind) == (layer, "head"):
            z = value.transpose(0, 1)
        residual = residual + z.transpose(1, 2).flatten(-2) @ block.W_O + block.b_O
        out = block.mlp(block.norm_mlp(residual))
        residual = residual + (value[0] if (index, kind) == (layer, "mlp") else out)
    return model.to_logits(residual)
