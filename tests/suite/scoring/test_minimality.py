"""The largest set of edges that can go: against one edge at a time, against all sets, and on compiled models."""

import itertools
import random

import pytest
import torch
from oracles import small_data, small_model

from circuitmeter import ground_truth, tasks
from circuitmeter.suite.circuit import Circuit
from circuitmeter.suite.errors import Undefined
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.intervention.setting import Cut
from circuitmeter.suite.model.graph import Graph
from circuitmeter.suite.scoring.minimality import LOSS_ROUNDING, all_sets, greedily, minimality

PATCH, LOGITS = Cut(Ablation.parse("patch")), OBJECTIVES.get("logit-difference")


def changes(circuit, model, data):
    """How far circuits are from this one, as minimality measures it."""
    evaluator = Evaluator(model, data, Ablation.parse("patch"), LOGITS)
    exists = circuit.graph.exists
    full, empty, own = evaluator.per_example(torch.stack([exists, exists & False, circuit.edges]))
    scale = (full - empty).abs().mean()
    return lambda masks: (evaluator.per_example(masks) - own).abs().mean(1) / scale


def plain_removal(circuit, change, tolerance):
    """One edge at a time, each on a fresh circuit."""

    def without(edges, edge):
        edges = edges.clone()
        edges[edge] = False
        return edges

    kept = circuit.edges
    edges = [tuple(edge) for edge in kept.nonzero().tolist()]
    edges.sort(key=lambda edge: float(change(without(kept, edge)[None])[0]))
    while True:
        before = kept
        for edge in edges:
            if kept[edge] and float(change(without(kept, edge)[None])[0]) <= tolerance + LOSS_ROUNDING:
                kept = without(kept, edge)
        if torch.equal(before, kept):
            return kept


@pytest.mark.parametrize("tolerance", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("seed", [0, 1])
def test_evaluating_many_at_once_decides_as_one_at_a_time(tolerance, seed):
    model, data = small_model(n_layers=2, n_heads=1, seed=seed), small_data()
    generator = torch.Generator().manual_seed(seed)
    circuit = Circuit(model.graph, torch.rand(model.graph.exists.shape, generator=generator) < 0.7)
    change = changes(circuit, model, data)
    found = greedily(circuit, change, tolerance)
    assert torch.equal(found.circuit.edges, plain_removal(circuit, change, tolerance))
    assert found.change <= tolerance + LOSS_ROUNDING and len(found.removed) == circuit.n_edges - found.circuit.n_edges
    assert found.change == pytest.approx(float(change(found.circuit.edges[None])[0]), abs=LOSS_ROUNDING)


@pytest.mark.parametrize("seed", range(8))
def test_what_lies_behind_a_refused_cut_is_not_taken(seed):
    """Changes that have nothing to do with each other: cutting one more edge may well be better again."""
    graph = Graph(2, 1)
    circuit = Circuit(graph, graph.exists)

    def change(masks):
        drawn = [random.Random(f"{seed}{mask.tolist()}").random() for mask in masks]
        return torch.tensor(drawn, dtype=torch.float64)

    assert torch.equal(greedily(circuit, change, 0.6).circuit.edges, plain_removal(circuit, change, 0.6))


def test_all_sets_of_a_small_circuit_are_tried():
    """All 256 subsets of a graph of eight edges."""
    model, data = small_model(n_layers=1, n_heads=1), small_data()
    circuit = Circuit(model.graph, model.graph.exists)
    assert circuit.n_edges == 8
    change, where = changes(circuit, model, data), circuit.edges.nonzero()
    subsets = torch.tensor(list(itertools.product([False, True], repeat=8)))
    masks = torch.zeros(256, *circuit.edges.shape, dtype=torch.bool)
    masks[:, where[:, 0], where[:, 1]] = subsets
    far, kept = change(masks), subsets.sum(1)
    removed = []
    for tolerance in (0.0, 0.1, 0.3, 0.6, 0.9, 1.1):
        found = all_sets(circuit, change, tolerance)
        assert found.largest and found.change <= tolerance + LOSS_ROUNDING
        assert 8 - len(found.removed) == int(kept[far <= tolerance + LOSS_ROUNDING].min())
        assert len(greedily(circuit, change, tolerance).removed) <= len(found.removed)
        removed.append(len(found.removed))
    assert removed[0] == 0 and removed[-1] > removed[2] > 0


def test_greedy_can_miss_a_set_that_only_goes_together():
    circuit = Circuit.of(Graph(1, 1, mlps=False), ["input->a0.h0<v>", "a0.h0->logits"])

    def change(masks):  # nothing, where an even number of edges is cut
        return (circuit.edges.sum() - masks.sum((1, 2))).remainder(2).double()

    assert greedily(circuit, change, 0.5).removed == () and not greedily(circuit, change, 0.5).largest
    assert len(all_sets(circuit, change, 0.5).removed) == 2


@pytest.mark.parametrize("ablation", ["patch", "zero"])
def test_what_is_added_to_a_certified_circuit_goes_and_nothing_else(ablation):
    truth, data = ground_truth.load("tracr/xproportion"), tasks.load("tracr/xproportion").data()
    core, model, cut = truth.reference(ablation).core, truth.model(), Cut(Ablation.parse(ablation))
    objective = OBJECTIVES.get("l2")
    exact = minimality(model, data, Circuit(truth.graph, core), cut, objective)
    assert exact.removed == () and exact.share == 0 and exact.circuit.names == truth.graph.named(core)
    every = minimality(model, data, Circuit(truth.graph, truth.graph.exists), cut, objective, tolerance=1e-6)
    assert torch.equal(every.circuit.edges, core)
    assert every.share == 1 - int(core.sum()) / truth.graph.n_edges
    assert exact.largest and not every.largest
    # 32 edges in few calls: the speculation is not worse than trying each edge alone twice.
    assert every.evaluated <= 4 * truth.graph.n_edges


def test_an_empty_circuit_has_nothing_to_remove():
    model, data = small_model(n_layers=1), small_data()
    found = minimality(model, data, Circuit(model.graph, model.graph.exists & False), PATCH, LOGITS)
    assert found.removed == () and found.share == 0 and found.change <= LOSS_ROUNDING


def test_components_other_than_edges_are_refused():
    model, data = small_model(n_layers=1), small_data()
    with pytest.raises(Undefined, match="one by one"):
        minimality(model, data, Circuit(model.graph, model.graph.exists), Cut(Ablation.parse("patch"), "node"), LOGITS)
