"""Parallel ensembles, and the node level of EAP-IG: both made of scores that are proved elsewhere."""

import pytest
import torch
from discovering import discover, scores
from oracles import small_data, small_model, written
from torch.testing import assert_close

from circuitmeter.suite.errors import SpecError, Undefined
from circuitmeter.suite.methods import METHODS


@pytest.mark.parametrize("combine", ["mean", "min", "max"])
@pytest.mark.parametrize("ablation", ["patch", "zero"])
def test_an_ensemble_is_its_members_on_one_scale(combine, ablation):
    model, data = small_model(n_layers=1), small_data(n=2)
    each = [scores(name, model, data, ablation=ablation).abs() for name in ("eap", "exact")]
    sizes = torch.stack([found / found.max() for found in each])
    expected = {"mean": sizes.mean(0), "min": sizes.min(0).values, "max": sizes.max(0).values}[combine]
    found = scores("ensemble", model, data, ablation=ablation, members=["eap", "exact"], combine=combine)
    assert_close(found, expected)
    alone = scores("ensemble", model, data, ablation=ablation, members=["exact"], combine=combine)
    assert alone.argmax() == each[1].argmax() and float(alone.max()) == 1


def test_what_an_ensemble_cannot_be_made_of():
    model, data = small_model(n_layers=1), small_data(n=2)
    for members in ([], ["ensemble"], ["eapp"]):
        with pytest.raises(SpecError):
            discover("ensemble", model, data, members=members)
    with pytest.raises(Undefined, match="given the truth"):
        discover("ensemble", model, data, members=["truth"])
    with pytest.raises(Undefined, match="eap takes the gradient at the clean run"):
        discover("ensemble", model, data, members=["eap"], objective="kl")


def test_an_ensemble_costs_what_its_members_cost():
    graph = small_model(n_layers=1).graph
    cost = [
        METHODS.get(name).cost_of(graph, 5, METHODS.get(name).resolve(given))
        for name, given in (("ensemble", {"members": ["eap", "eap-ig"]}), ("eap", {}), ("eap-ig", {}))
    ]
    assert cost[0].passes == cost[1].passes + cost[2].passes


def test_node_level_scores_are_gradients_at_what_nodes_write():
    """By moving what one node writes in the plain run: central differences, one step of the path at the clean end."""
    model, data = small_model(n_layers=1), small_data(n=2)
    graph, by_edge = model.graph, scores("eap", model, data)
    found = scores("eap-ig", model, data, steps=1, endpoint="right", preset="node")
    nodes = {}
    for name in graph.writers[1:]:
        total = 0.0
        for row in range(data.n):
            clean, other = written(model, data.clean[row]), written(model, data.counterfactual[row])
            losses = [
                _loss(model, data, row, name, clean[name] + t * (other[name] - clean[name])) for t in (1e-5, -1e-5)
            ]
            total += (losses[0] - losses[1]) / 2e-5 / data.n
        nodes[name] = abs(total)
        assert_close(by_edge[graph.writers.index(name)].sum().abs().item(), nodes[name], rtol=1e-5, atol=1e-8)
    for w, r in graph.exists.nonzero().tolist():
        ends = [nodes.get(graph.writers[w]), nodes.get(graph.node_of_reader(graph.readers[r]))]
        expected = min((end for end in ends if end is not None), default=max(nodes.values()))
        assert float(found[w, r]) == pytest.approx(expected, rel=1e-5, abs=1e-8)


def _loss(model, data, row, name, value):
    """Logit difference as a loss of one prompt where one node writes ``value`` [P, D], by hand."""
    tokens = data.clean[row]
    with torch.no_grad():
        _, run = model.run(model.input_nodes(tokens[None]))
        out = model.outputs(run)[:, 0].clone()
        residual = out[: len(model.graph.input_nodes)].sum(0) + model.constant(len(tokens)) + model.blocks[0].b_O
        index = model.graph.writers.index(name)
        out[index] = value
        heads = out[model.graph.heads(0)].sum(0)
        mlp = value if name == "m0" else model.blocks[0].mlp_of(residual + heads)
        logits = model.to_logits(residual + heads + mlp)[-1]
    return float(logits[data.wrong[row, 0]] - logits[data.answers[row, 0]])
