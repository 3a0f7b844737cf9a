"""Circuits from scores: ties, sizes, pruning, and that nothing given is changed."""

import numpy as np
import pytest
import torch
from oracles import small_data, small_model

from circuitmeter.suite.circuit import Circuit, EdgeScores, greedy, grown, ranking, threshold, top_n
from circuitmeter.suite.errors import DataError, MethodError
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.model.graph import Graph

GRAPH = Graph(2, 2)


def random_scores(seed=0, graph=GRAPH):
    return EdgeScores(graph, torch.randn(graph.exists.shape, generator=torch.Generator().manual_seed(seed)))


def test_top_n_takes_the_largest_and_breaks_ties_by_index():
    scores = EdgeScores.from_mapping(GRAPH, {"m0->logits": -3, "m1->logits": 2, "input->a0.h0<q>": 2, "input->m0": 1})
    assert top_n(scores, 2).names == ["input->a0.h0<q>", "m0->logits"]
    assert top_n(scores, 2, absolute=False).names == ["input->a0.h0<q>", "m1->logits"]
    assert top_n(scores, 0).n_edges == 0 and top_n(scores, GRAPH.n_edges).n_edges == GRAPH.n_edges
    with pytest.raises(DataError, match="0 to"):
        top_n(scores, GRAPH.n_edges + 1)


def test_ranking_is_a_stable_sort_by_absolute_score():
    scores = random_scores()
    order = ranking(scores)
    assert sorted(order) == list(range(GRAPH.n_edges))
    assert (np.diff(np.abs(scores.flat()[order])) <= 0).all()


def test_threshold_includes_what_equals_it():
    scores = EdgeScores.from_mapping(GRAPH, {"m0->logits": -0.5, "m1->logits": 0.4})
    assert threshold(scores, 0.5).names == ["m0->logits"]
    assert threshold(scores, 0.4, absolute=False).names == ["m1->logits"]


def test_greedy_grows_back_from_the_logits():
    scores = EdgeScores.from_mapping(
        GRAPH, {"input->m0": 9, "m0->a1.h0<v>": 8, "a1.h0->logits": 1, "m1->logits": 0.5, "input->a0.h0<q>": 7}
    )
    assert greedy(scores, 1).names == ["a1.h0->logits"]  # 9 leads nowhere yet
    assert greedy(scores, 3).names == ["input->m0", "m0->a1.h0<v>", "a1.h0->logits"]
    for n in (1, 5, 20):
        found = greedy(random_scores(3), n)
        assert found.n_edges == n
        reached = {"logits"} | {edge.split("->")[0] for edge in found.names}
        assert all(GRAPH.node_of_reader(edge.split("->")[1]) in reached for edge in found.names)


def test_pruning_leaves_what_lies_on_a_path():
    circuit = Circuit.of(
        GRAPH, ["input->m0", "m0->a1.h0<q>", "a1.h0->logits", "a0.h0->m0", "m0->a1.h1<v>", "a0.h1->logits"]
    )
    assert circuit.pruned().names == ["input->m0", "m0->a1.h0<q>", "a1.h0->logits"]
    assert Circuit.of(GRAPH, ["m0->logits", "input->m1"]).pruned().n_edges == 0
    assert Circuit.of(GRAPH, ["input->logits"]).pruned().n_edges == 1
    whole = Circuit(GRAPH, GRAPH.exists)
    assert whole.pruned().n_edges == GRAPH.n_edges
    once = Circuit(GRAPH, torch.rand(GRAPH.exists.shape, generator=torch.Generator().manual_seed(1)) < 0.3).pruned()
    assert torch.equal(once.pruned().edges, once.edges)


def test_pruning_edges_into_nodes_that_lead_nowhere_never_changes_the_outputs():
    model, data = small_model(), small_data()
    evaluator = Evaluator(model, data, Ablation.parse("zero"), OBJECTIVES.get("logit-difference"))
    for seed in range(5):
        kept = torch.rand(model.graph.exists.shape, generator=torch.Generator().manual_seed(seed)) < 0.15
        live = model.live_writers(kept & model.graph.exists)
        nodes = dict(zip(model.graph.writers, live.tolist(), strict=True))
        useful = torch.tensor([nodes.get(model.graph.node_of_reader(reader), True) for reader in model.graph.readers])
        losses = evaluator.loss(torch.stack([kept, kept & useful]).double())
        assert losses[0] == pytest.approx(losses[1].item(), abs=1e-12)


def test_nothing_given_is_changed():
    scores = random_scores()
    before = scores.values.clone()
    circuit = top_n(scores, 9)
    edges = circuit.edges.clone()
    circuit.pruned(), greedy(scores, 4), threshold(scores, 0.2)
    assert torch.equal(scores.values.nan_to_num(), before.nan_to_num()) and torch.equal(circuit.edges, edges)
    mine = GRAPH.exists.clone()
    kept = Circuit(GRAPH, mine)
    mine[:] = False
    assert kept.n_edges == GRAPH.n_edges


def test_scores_that_are_not_scores_are_refused():
    values = torch.zeros(GRAPH.exists.shape)
    assert EdgeScores(GRAPH, values).values[~GRAPH.exists].isnan().all()
    values[GRAPH.index("m0->m1")] = float("nan")
    with pytest.raises(MethodError, match="m0->m1"):
        EdgeScores(GRAPH, values)
    with pytest.raises(MethodError, match="shape"):
        EdgeScores(GRAPH, values.T)
    with pytest.raises(MethodError, match="m1->m0"):
        EdgeScores.from_mapping(GRAPH, {"m1->m0": 1})


def test_one_growth_gives_the_circuits_of_every_size():
    scores = random_scores(5)
    sizes = [0, 3, 1, 7, scores.graph.n_edges, 10**6]
    for n, found in zip(sizes, grown(scores, sizes), strict=True):
        assert found.names == greedy(scores, n).names and found.n_edges == min(n, scores.graph.n_edges)


def test_pruning_leaves_the_edges_that_are_on_a_path():
    generator = torch.Generator().manual_seed(0)
    graph = random_scores(0).graph
    for share in (0.1, 0.2, 0.4, 0.8):
        for _ in range(10):
            circuit = Circuit(graph, torch.rand(graph.exists.shape, generator=generator) < share)
            kept, names = set(circuit.names), set()
            while (
                kept != names
            ):  # plain: drop edges out of unfed nodes and into nodes that lead nowhere, until none is left
                names = set(kept)
                writes = {name.partition("->")[0] for name in names}
                reads = {graph.node_of_reader(name.partition("->")[2]) for name in names}
                fed, useful = reads | set(graph.input_nodes), writes | {"logits"}
                kept = {
                    name
                    for name in names
                    if name.partition("->")[0] in fed and graph.node_of_reader(name.partition("->")[2]) in useful
                }
            assert set(circuit.pruned().names) == kept
