"""HISP: node importances against a plain computation, the edges they induce, the released code's zero ablation."""

import pytest
import torch
from discovering import discover, scores
from oracles import linear_model, plain_cut, small_data, small_model, written
from torch.testing import assert_close

EXACT = dict(rtol=1e-8, atol=1e-10)


def loss_of(logits, data, i):
    return logits[-1, data.wrong[i, 0]] - logits[-1, data.answers[i, 0]]


def plain_importance(model, data, to_zero):
    """Mean over examples of |d loss / d share| of each component, found by finite differences of its mask: [R]."""
    graph, step = model.graph, 1e-5
    total = torch.zeros(len(graph.readers), dtype=torch.float64)
    for i in range(data.n):
        tokens, other = data.clean[i : i + 1], data.counterfactual[i : i + 1]
        taps, others = [], []
        model.run(model.input_nodes(other), taps=others)
        model.run(model.input_nodes(tokens), taps=taps)
        for r, name in enumerate(graph.readers[:-1]):
            layer = graph.reader_layer(r)
            key = name.split("<")[-1][0] if "<" in name else "m"
            head = int(name.split(".h")[1].split("<")[0]) if "<" in name else None
            losses = []
            for share in (1 - step, 1 + step):
                here, there = taps[layer][key], others[layer][key] * (0 if to_zero else 1)
                mixed = share * here + (1 - share) * there
                if head is not None:
                    mixed = here.clone().index_copy(1, torch.tensor([head]), mixed[:, head : head + 1])
                losses.append(loss_of(_run_with(model, tokens, layer, key, mixed)[0], data, i))
            total[r] += ((losses[0] - losses[1]) / (2 * step)).abs() / data.n
    return total


def _run_with(model, tokens, layer, key, value):
    """Logits of one plain pass in which a layer's q, k, v or MLP output is another."""
    residual = model.input_nodes(tokens).sum(0) + model.constant(tokens.shape[1])
    for index, block in enumerate(model.blocks):
        parts = dict(zip("qkv", block.qkv(block.norm_attention(residual)), strict=True))
        if index == layer and key in parts:
            parts[key] = value
        residual = residual + block.attend(**parts).transpose(1, 2).flatten(-2) @ block.W_O + block.b_O
        residual = residual + (value if (index, key) == (layer, "m") else block.mlp(block.norm_mlp(residual)))
    return model.to_logits(residual)


@pytest.mark.parametrize("alternative", ["ablation", "zero"])
@torch.no_grad()
def test_importances_are_mask_derivatives_and_edges_live_as_long_as_both_ends(alternative):
    model, data = small_model(n_layers=2), small_data(n=3)
    graph = model.graph
    nodes = plain_importance(model, data, alternative == "zero")
    found = scores("hisp", model, data, alternative=alternative, normalise=False)
    of_node = {}
    for r, name in enumerate(graph.readers[:-1]):
        node = graph.node_of_reader(name)
        of_node[node] = max(of_node.get(node, 0.0), float(nodes[r]))
    largest = float(nodes.max())
    for w, r in graph.exists.nonzero().tolist():
        ends = [of_node.get(graph.writers[w], largest), largest if graph.readers[r] == "logits" else float(nodes[r])]
        assert abs(float(found[w, r]) - min(ends)) < 1e-6 * largest


@torch.no_grad()
def test_heads_are_nodes_and_every_layer_has_norm_one():
    model, data = small_model(n_layers=2), small_data(n=3)
    graph = model.graph
    found = scores("hisp", model, data, preset="heads")
    into = torch.stack([found[: graph.visible(1), reader].amax(0) for reader in range(*graph.qkv(1).indices(99))])
    assert_close(into[0:2], into[2:4], **EXACT)
    assert_close(into[0:2], into[4:6], **EXACT)
    # The logits' column holds each writer's own importance.
    for layer in range(2):
        own = torch.cat([found[graph.heads(layer), -1], found[graph.mlp(layer), -1:]])
        assert_close((own**2).sum(), torch.tensor(1.0).double(), **EXACT)


@torch.no_grad()
def test_on_a_linear_model_an_mlp_s_importance_is_the_effect_of_patching_it():
    model, data = linear_model(), small_data(n=3)
    graph = model.graph
    found = scores("hisp", model, data, normalise=False)
    row = graph.mlp(model.config.n_layers - 1)
    effect = 0.0
    for i in range(data.n):
        other = written(model, data.counterfactual[i])
        ones = graph.exists.double()
        without = ones.clone()
        without[row] = 0
        losses = [loss_of(plain_cut(model, data.clean[i], other, kept), data, i) for kept in (without, ones)]
        effect += abs(float(losses[0] - losses[1])) / data.n
    assert abs(float(found[row, -1]) - effect) < 1e-9 * max(1, effect) and effect > 1e-3


def test_the_released_code_scores_zero_ablation_whatever_is_asked_for():
    """Its cache of C(x') is still empty when the scores are taken."""
    model, data = small_model(), small_data()
    released = [scores("hisp", model, data, ablation=a, preset="reference-code") for a in ("patch", "mean")]
    assert torch.equal(*released)
    papers = [scores("hisp", model, data, ablation=a) for a in ("patch", "mean")]
    assert (papers[0] - papers[1]).abs().max() > 1e-2
    assert (released[0] - papers[0]).abs().max() > 1e-2


def test_at_the_level_of_edges_it_is_the_mean_absolute_attribution():
    model, data = small_model(), small_data(n=4)
    one_by_one = sum(scores("eap", model, data.select(torch.tensor([i]))).abs() for i in range(4)) / 4
    assert_close(scores("hisp", model, data, preset="edge"), one_by_one, **EXACT)
    signed = scores("eap", model, data).abs()
    assert (one_by_one - signed).max() > 1e-3  # effects of both signs do not cancel


def test_what_is_never_removed_scores_as_the_best():
    model, data = small_model(), small_data()
    found = discover("hisp", model, data).scores.values
    assert found[0, -1] == found.nan_to_num().max()


@pytest.mark.parametrize("small", [1e-6, 1e-9])
def test_the_released_code_brings_a_layer_of_next_to_nothing_up_to_the_others(small):
    """Its norms, of sums over examples, have one bound, 1e-6; ours also has a share of the largest layer's."""
    model, data = small_model(n_layers=2), small_data(n=4)
    for name in ("W_O", "W_out", "b_out"):
        getattr(model.blocks[0], name).data *= small
    graph = model.graph
    raw, released, ours = (
        scores("hisp", model, data, alternative="zero", **given)[0, :-1]  # of the input's edges: the readers'
        for given in ({"normalise": False}, {"preset": "reference-code"}, {})
    )
    for layer in range(2):
        here = torch.tensor([graph.reader_layer(reader) == layer for reader in range(len(graph.readers) - 1)])
        expected = 4 * raw[here] / max(1e-6, float((4 * raw[here]).square().sum().sqrt()))
        assert_close(released[here], expected, **EXACT)
    assert released[: graph.qkv(1).start].norm() > 2 * ours[: graph.qkv(1).start].norm()
    assert (released[: graph.qkv(1).start].norm() > 0.99) == (small == 1e-6)
