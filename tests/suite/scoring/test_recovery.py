"""Scores and circuits against a known circuit: brute force, ties, optional edges, what is undefined."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from circuitmeter.suite.circuit import Circuit, EdgeScores, Reference, top_n
from circuitmeter.suite.model.graph import Graph
from circuitmeter.suite.scoring import ranking
from circuitmeter.suite.scoring.recovery import circuit_recovery, ranked_edges, recovery

GRAPH = Graph(n_layers=2, n_heads=2, inputs="split")


def reference(core, optional=(), structural=None, graph=GRAPH):
    hard = None if structural is None else graph.matrix(structural)
    return Reference("known", graph, graph.matrix(core), graph.matrix(optional), hard)


def names(*indices):
    return [str(GRAPH.edges[i]) for i in indices]


def random_scores(seed=0):
    return EdgeScores(GRAPH, torch.randn(GRAPH.exists.shape, generator=torch.Generator().manual_seed(seed)))


def brute_force(labels, values):
    wins = [(t > f) + 0.5 * (t == f) for t in values[labels] for f in values[~labels]]
    return float(np.mean(wins))


@pytest.mark.parametrize("seed", range(4))
def test_areas_equal_brute_force(seed):
    truth = reference(names(1, 5, 9, 20), optional=names(2, 30), structural=names(1, 2, 5, 7, 9, 20, 30, 31))
    scores = random_scores(seed)
    found = recovery(scores, truth)
    kept = np.setdiff1d(np.arange(GRAPH.n_edges), [2, 30])
    core = np.isin(kept, [1, 5, 9, 20])
    hard = np.isin(kept, [1, 5, 7, 9, 20, 31])
    flat = scores.flat()[kept]
    assert found["auroc"] == pytest.approx(brute_force(core, np.abs(flat)))
    assert found["auroc_signed"] == pytest.approx(brute_force(core, flat))
    assert found["auroc_structural"] == pytest.approx(brute_force(core[hard], np.abs(flat[hard])))
    assert found["auroc_signed_structural"] == pytest.approx(brute_force(core[hard], flat[hard]))


def test_the_truth_itself_scores_one():
    truth = reference(names(0, 3, 40), optional=names(8), structural=names(0, 3, 8, 11, 40))
    found = recovery(EdgeScores.from_mapping(GRAPH, dict.fromkeys(names(0, 3, 40), 1.0)), truth)
    perfect = {"auroc", "average_precision", "auroc_structural", "precision", "recall", "f1", "exact", "node_auroc"}
    assert {name: found[name] for name in perfect} == dict.fromkeys(perfect, 1.0)
    assert found["true_size"] == 3 and found["pessimistic_auc"] == found["node_pessimistic_auc"] == 1.0


def test_scores_that_say_nothing_have_area_one_half_and_find_nothing():
    found = recovery(EdgeScores.from_mapping(GRAPH, {}), reference(names(0, 3)))
    assert found["auroc"] == found["node_auroc"] == 0.5
    assert found["average_precision"] == pytest.approx(2 / GRAPH.n_edges)
    assert found["recall"] == found["f1"] == found["exact"] == 0 and math.isnan(found["precision"])


def test_optional_edges_are_neither_right_nor_wrong():
    truth = reference(names(0, 3), optional=names(5))
    with_optional = EdgeScores.from_mapping(GRAPH, dict(zip(names(0, 3, 5), [1.0, 2.0, 9.0], strict=True)))
    assert recovery(with_optional, truth)["exact"] == 1.0
    found = circuit_recovery(Circuit.of(GRAPH, names(0, 5)), truth)
    assert found["precision"] == 1.0 and found["recall"] == 0.5 and found["fpr"] == 0.0


def test_numerical_dust_counts_as_zero():
    dust = {name: 1e-9 for name in names(*range(30))}
    found = recovery(
        EdgeScores.from_mapping(GRAPH, dust | dict.fromkeys(names(50, 51), 1.0)), reference(names(50, 51, 45))
    )
    # Two of three found; the third ties with every other edge of score zero.
    assert found["auroc"] == pytest.approx((2 + 0.5) / 3)
    assert found["precision"] == 1.0 and found["recall"] == pytest.approx(2 / 3) and found["exact"] == 0.0


def test_negative_scores_count_by_size_unless_signed():
    scores = EdgeScores.from_mapping(GRAPH, {names(0)[0]: -1.0})
    found = recovery(scores, reference(names(0)))
    assert found["auroc"] == 1.0 and found["auroc_signed"] == 0.0


def test_ties_at_the_true_size_count_half_whatever_the_order_of_the_edges():
    for true in (0, 1):
        found = recovery(EdgeScores.from_mapping(GRAPH, dict.fromkeys(names(0, 1), 1.0)), reference(names(true)))
        assert found["precision"] == found["recall"] == found["f1"] == 0.5 and found["exact"] == 0.0


def test_a_constant_score_has_the_share_of_true_edges_as_precision():
    scores = EdgeScores.from_mapping(GRAPH, dict.fromkeys(names(*range(GRAPH.n_edges)), 1.0))
    found = recovery(scores, reference(names(0, 1, 2)))
    assert found["precision"] == found["recall"] == pytest.approx(3 / GRAPH.n_edges)


def test_a_node_has_the_largest_score_of_its_out_edges():
    edges = [str(e) for e in GRAPH.edges]
    of = {w: [e for e in edges if e.startswith(f"{w}->")] for w in GRAPH.writers}
    truth = reference([of["a0.h0"][0]], optional=[of["m0"][0]])
    scores = {of["a0.h0"][1]: 5.0, of["m0"][0]: 9.0, of["m1"][0]: 7.0}
    found = recovery(EdgeScores.from_mapping(GRAPH, scores), truth)
    # a0.h0 is true and scored by another edge of its; m0 has optional truth only and is left out; m1 is wrongly above.
    assert found["node_auroc"] == pytest.approx((len(GRAPH.writers) - 3) / (len(GRAPH.writers) - 2))


@pytest.mark.parametrize("core", [(), tuple(range(GRAPH.n_edges))])
def test_truths_without_both_kinds_of_edge_have_undefined_areas(core):
    found = recovery(random_scores(), reference(names(*core)))
    assert math.isnan(found["auroc"]) and math.isnan(found["pessimistic_auc"]) and math.isnan(found["mib_auroc"])
    assert math.isnan(found["recall"]) == math.isnan(found["exact"]) == (not core)


def test_structural_metrics_only_where_structure_is_known():
    assert "auroc_structural" not in recovery(random_scores(), reference(names(0)))


@pytest.mark.parametrize("seed", range(6))
def test_mib_auroc_from_its_definition(seed):
    truth, scores = reference(names(4, 9, 33)), random_scores(seed)
    points = []
    for fraction in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1):
        reached, chosen = {"logits"}, set()
        for _ in range(math.ceil(fraction * GRAPH.n_edges)):
            reachable = [e for e in GRAPH.edges if GRAPH.node_of_reader(e.reader) in reached and e not in chosen]
            best = max(reachable, key=lambda e: abs(float(scores.values[GRAPH.index(e)])))
            chosen.add(best)
            reached.add(best.writer)
        circuit = Circuit.of(GRAPH, chosen).pruned()
        hits = sum(name in names(4, 9, 33) for name in circuit.names)
        points.append(((circuit.n_edges - hits) / (GRAPH.n_edges - 3), hits / 3))
    x, y = np.array(points).T
    area = sum((x[i + 1] - x[i]) / x[-1] * (y[i] + y[i + 1]) / 2 for i in range(9))
    assert recovery(scores, truth)["mib_auroc"] == pytest.approx(area, abs=1e-12)


def test_random_scores_rank_at_chance():
    areas = [recovery(random_scores(seed), reference(names(0, 7, 21, 50)))["auroc"] for seed in range(60)]
    assert np.mean(areas) == pytest.approx(0.5, abs=0.06)


def test_circuits_without_edges_have_no_precision():
    found = circuit_recovery(Circuit.of(GRAPH, []), reference(names(0)))
    assert math.isnan(found["precision"]) and found["recall"] == found["f1"] == found["fpr"] == 0.0


def test_curves_pass_through_the_circuits_of_their_scores():
    truth, scores = reference(names(0, 7, 21)), random_scores(1)
    circuit = circuit_recovery(top_n(scores, 10), truth)
    ranked = ranked_edges(scores, truth)
    curve = ranking.roc_curve(*ranked)
    assert (circuit["fpr"], circuit["tpr"]) == (curve.false_positive_rate[10], curve.true_positive_rate[10])
    assert ranking.precision_recall_curve(*ranked).precision[9] == circuit["precision"]


def test_scores_on_another_graph_are_refused():
    other = EdgeScores.from_mapping(Graph(n_layers=2, n_heads=2, inputs="sum"), {})
    with pytest.raises(ValueError, match="another graph"):
        recovery(other, reference(names(0)))


@pytest.mark.parametrize("seed", range(3))
def test_edges_that_the_graph_has_not_are_true_edges_that_rank_last(seed):
    """Of a truth about other features: as if the graph had them, with score zero, and no circuit kept them."""
    truth = dataclasses.replace(reference(names(1, 5, 9), optional=names(2)), missed=("a0.h0", "m7.f3 of the truth"))
    scores = random_scores(seed)
    found, kept = recovery(scores, truth), np.setdiff1d(np.arange(GRAPH.n_edges), [2])
    labels = np.r_[np.isin(kept, [1, 5, 9]), True, True]
    values = np.r_[np.abs(scores.flat()[kept]), 0, 0]
    assert found["auroc"] == pytest.approx(brute_force(labels, values))
    assert found["true_size"] == truth.size == 5
    chosen = set(np.argsort(-values)[:5])
    hits = len(chosen & set(np.flatnonzero(labels)))
    assert (found["precision"], found["recall"]) == (hits / 5, hits / 5)
    own = circuit_recovery(Circuit.of(GRAPH, names(1, 5, 30)), truth)
    assert (own["precision"], own["recall"], own["exact"]) == (2 / 3, 2 / 5, 0)
    assert circuit_recovery(Circuit.of(GRAPH, names(1, 5, 9)), truth)["exact"] == 0
    curve = ranking.roc_curve(*ranked_edges(EdgeScores(GRAPH, truth.core.double()), truth))
    assert 3 / 5 in curve.true_positive_rate.tolist()


def test_a_missed_edge_makes_its_writer_a_true_node():
    plain = reference(names(1, 5, 9))
    writer = GRAPH.edges[40].writer
    assert writer not in {GRAPH.edges[i].writer for i in (1, 5, 9)}
    scores = EdgeScores.from_mapping(GRAPH, {name: 1.0 for name in names(1, 5, 9)} | {names(40)[0]: 0.5})
    assert (
        recovery(scores, plain)["node_auroc"]
        == 1
        == recovery(scores, dataclasses.replace(plain, missed=(writer,)))["node_auroc"]
    )
    unknown = recovery(scores, dataclasses.replace(plain, missed=("m7.f3 of the truth",)))
    assert unknown["node_auroc"] < 1
