"""Edge Pruning from EAP-IG: where its gates start, beside the released code, and what training makes of them."""

import pytest
import released
import torch
from discovering import discover, scores
from oracles import small_data, small_model
from torch.testing import assert_close

from circuitmeter.suite.errors import SpecError
from circuitmeter.suite.methods import METHODS, edge_pruning
from circuitmeter.suite.methods._masks import BETA, GAMMA, ZETA, Lagrangian, soft_gate, to_matrix


def medians(log_alpha):
    """The gates of log alphas where the uniform number is one half."""
    return (log_alpha / BETA).sigmoid() * (ZETA - GAMMA) + GAMMA


def test_gates_start_where_the_released_code_puts_them():
    found = edge_pruning.start_from_scores(released.start_scores(), 0.8, 0.2)
    assert_close(found, released.start(0.8), rtol=0, atol=2e-6)


@pytest.mark.parametrize("sparsity", [0.3, 0.8, 0.95])
def test_the_gates_of_each_layer_are_as_sparse_as_asked_which_the_released_ones_are_not(sparsity):
    graph = released.start_scores().graph
    layers = torch.tensor([graph.reader_layer(graph.index(edge)[1]) for edge in graph.edges])
    found = medians(edge_pruning.start_from_scores(released.start_scores(), sparsity, 0.2))
    for layer in (0, 1):
        assert float(found[layers == layer].mean()) == pytest.approx(1 - sparsity, abs=1e-9)
        sizes = torch.from_numpy(released.start_scores().flat())[layers == layer].abs()
        assert torch.equal(found[layers == layer].argsort(), sizes.argsort(stable=True))
    if sparsity == 0.95:
        theirs = medians(released.start(sparsity))
        assert float(theirs[layers == 0].mean()) > 0.13, "their bias stays below 1"


@pytest.mark.parametrize("ablation", ["patch", "zero", "mean", "resample", "noise"])
def test_training_starts_at_the_scores_of_eap_ig_under_the_same_ablation(ablation):
    model, data = small_model(n_layers=2), small_data()
    given = {"ablation": ablation, "objective": "kl"}
    still = {"steps": 2, "rate": 1e-12, "targets": [0.5], "nodes": "none", "weight_decay": 0.0}
    found = scores("edge-pruning", model, data, **given, start="eap-ig", start_steps=3, start_sparsity=0.7, **still)
    attributed = discover("eap-ig", model, data, steps=3, endpoint="right", **given).scores
    expected = soft_gate(edge_pruning.start_from_scores(attributed, 0.7, 0.2))
    assert_close(found, to_matrix(model.graph, expected), rtol=1e-8, atol=1e-8)


def test_the_target_rises_from_the_sparsity_of_the_start(monkeypatch):
    seen = []
    monkeypatch.setattr(edge_pruning, "Lagrangian", lambda *given: seen.append(given[2:]) or Lagrangian(*given))
    short = {"objective": "kl", "steps": 2, "targets": [0.5], "rate_warmup": 1, "nodes": "none"}
    for start in ("eap-ig", "open"):
        discover("edge-pruning", small_model(n_layers=1), small_data(), start=start, start_sparsity=0.6, **short)
    assert seen == [(0.6,), (0.0,)]
    limit = Lagrangian(torch.tensor([1.0]), warmup=10, first=0.6)
    reached, multipliers = torch.tensor([0.6]), torch.tensor([[1.0], [0.0]])
    assert [float(limit(reached, multipliers, step)) for step in (0, 5, 10)] == pytest.approx([0, -0.2, -0.4], abs=1e-6)


def test_the_start_costs_what_eap_ig_costs():
    graph, method = small_model().graph, METHODS.get("edge-pruning")
    given = [method.resolve({"start": start, "start_steps": 7}) for start in ("open", "eap-ig")]
    opened, started = (method.cost_of(graph, 9, each).passes for each in given)
    assert started - opened == METHODS.get("eap-ig").cost_of(graph, 9, {"steps": 7}).passes


def test_a_start_without_sparsity_or_spread_is_refused():
    for wrong in ({"start": "acdc"}, {"start_sparsity": 1.0}, {"start_spread": 0.0}):
        with pytest.raises(SpecError, match="edge-pruning"):
            discover("edge-pruning", small_model(n_layers=1), small_data(), objective="kl", **wrong)
