"""Rules of selection: constraints that hold, totals that are best, and what chance is allowed to give."""

from __future__ import annotations

import itertools
from typing import get_args

import numpy as np
import pytest
import scipy.optimize
import torch

from circuitmeter.suite import selection
from circuitmeter.suite.circuit import Circuit, EdgeScores, greedy, top_n
from circuitmeter.suite.errors import DataError
from circuitmeter.suite.model.graph import Graph
from circuitmeter.suite.selection import above_null, by_program, by_sign, confident

GRAPHS = [
    Graph(n_layers=1, n_heads=1, inputs="token"),
    Graph(n_layers=2, n_heads=2, inputs="token"),
    Graph(n_layers=2, n_heads=1, inputs="split"),
]


def scores_of(graph: Graph, seed: int) -> EdgeScores:
    return EdgeScores(graph, torch.randn(graph.exists.shape, generator=torch.Generator().manual_seed(seed)).double())


def total(scores: EdgeScores, circuit: Circuit, absolute: bool) -> float:
    values = scores.values.abs() if absolute else scores.values
    return float(values[circuit.edges].sum())


@pytest.mark.parametrize("graph", GRAPHS, ids=str)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("absolute", [True, False])
def test_the_integer_program_keeps_whole_paths_and_is_never_below_greedy(graph, seed, absolute):
    scores = scores_of(graph, seed)
    for n in (1, 4, graph.n_edges // 2, graph.n_edges):
        circuit = by_program(scores, n, absolute)
        assert 1 <= circuit.n_edges <= n
        assert torch.equal(circuit.pruned().edges, circuit.edges), "an edge is on no whole path"
        rival = greedy(scores, n, absolute).pruned()
        if rival.n_edges:
            assert total(scores, circuit, absolute) >= total(scores, rival, absolute) - 1e-9


@pytest.mark.parametrize("absolute", [True, False])
def test_a_solver_that_stops_early_gives_nothing_below_greedy(absolute, monkeypatch):
    """The solver stops within a gap of the best total; here within a gap that any circuit meets."""

    def milp(*arguments, **options):
        return scipy.optimize.milp(*arguments, **options, options={"mip_rel_gap": 1e6, "presolve": False})

    monkeypatch.setattr(selection, "milp", milp)
    for seed in range(6):
        scores = scores_of(GRAPHS[1], seed)
        for n in (6, 12, 30):
            circuit, rival = by_program(scores, n, absolute), greedy(scores, n, absolute).pruned()
            assert circuit.n_edges <= n and torch.equal(circuit.pruned().edges, circuit.edges)
            assert not rival.n_edges or total(scores, circuit, absolute) >= total(scores, rival, absolute) - 1e-9


def test_the_integer_program_is_the_best_of_all_circuits():
    graph = GRAPHS[0]
    scores, n = scores_of(graph, 7), 3
    best = -np.inf
    for names in itertools.combinations(graph.named(graph.exists), n):
        circuit = Circuit.of(graph, names).pruned()
        if circuit.n_edges:
            best = max(best, total(scores, circuit, True))
    assert total(scores, by_program(scores, n), True) == pytest.approx(best)


def test_names_on_the_command_line_are_those_of_the_rules():
    from circuitmeter.suite.selection import BY_PROMPT, SELECTIONS, Selection
    from circuitmeter.suite.store.record import OWN_SIZES
    from circuitmeter.suite.verbs.arguments import SELECTION_NAMES as IN_VERBS
    from circuitmeter.suite.verbs.discover import RULE_IN_WORDS

    assert tuple(SELECTIONS) == get_args(Selection) == IN_VERBS
    assert tuple(BY_PROMPT) == tuple(RULE_IN_WORDS) == OWN_SIZES[1:]
    assert by_program(scores_of(GRAPHS[0], 0), 0).n_edges == 0


def test_the_share_of_positive_edges():
    graph = GRAPHS[1]
    scores, n = scores_of(graph, 1), 10
    assert torch.equal(by_sign(scores, n, positive_share=1.0).edges, top_n(scores, n, absolute=False).edges)
    assert torch.equal(by_sign(scores, n, positive_share=0.0).edges, top_n(scores, n).edges)
    half = by_sign(scores, n, positive_share=0.5)
    assert half.n_edges == n
    assert (half.edges & top_n(scores, 5, absolute=False).edges).sum() == 5


@pytest.mark.parametrize("select, n", [(by_program, -1), (by_program, 10**6), (by_sign, 10**6)])
def test_sizes_that_do_not_exist(select, n):
    with pytest.raises(DataError, match="edges"):
        select(scores_of(GRAPHS[0], 0), n)


def noise(seed: int, n_edges: int = 2000) -> np.ndarray:
    """Scores of 50 prompts of which no edge has an effect."""
    return np.random.default_rng(seed).normal(size=(50, n_edges))


def test_the_interval_leaves_out_what_it_should_at_the_stated_rate():
    assert confident(noise(0), level=0.95).mean() == pytest.approx(0.05, abs=0.02)
    assert confident(noise(0) + 1.0).all()


def test_the_released_interval_keeps_more_false_edges_the_more_it_resamples():
    shares = [confident(noise(1), resamples=b, released=True).mean() for b in (10, 100, 1000)]
    ours = [confident(noise(1), resamples=b).mean() for b in (100, 1000)]
    assert 0.4 < shares[0] < shares[1] < shares[2] and shares[2] > 0.9
    assert max(ours) < 0.1


def test_with_true_edges_among_them_the_released_interval_keeps_the_false_ones_too():
    true = np.arange(1000) < 50
    scores = noise(2, 1000) + true
    released, ours = (
        [confident(scores, resamples=b, released=error)[~true].mean() for b in (10, 100, 3000)]
        for error in (True, False)
    )
    assert released[0] < released[1] < released[2] and released[2] > 0.95
    assert max(ours[1:]) < 0.09 and confident(scores)[true].all()


@pytest.mark.parametrize("effect", [0.0, 0.3, 1.0])
def test_intervals_of_scores_cover_the_effect_at_the_stated_rate(effect):
    """An interval around the mean score covers the effect where the same scores less the effect are not kept."""
    scores = np.random.default_rng(int(10 * effect)).normal(effect, 1.0, size=(60, 3000))
    for level in (0.8, 0.95):
        assert 1 - confident(scores - effect, level=level).mean() == pytest.approx(level, abs=0.025)


def test_chance_gives_one_edge_or_more_at_the_stated_rate():
    kept = [above_null(noise(seed, 40), flips=200, seed=seed).any() for seed in range(200)]
    assert 0.01 < np.mean(kept) < 0.1
    effect = noise(3, 40) + np.where(np.arange(40) < 5, 1.0, 0.0)
    assert above_null(effect)[:5].all() and above_null(effect)[5:].sum() <= 1


def test_rounding_chooses_no_edge():
    """Ten edges have an effect, twenty what rounding leaves: the same on every prompt, so that it is sure."""
    effects = np.random.default_rng(0).normal(3, 1, size=(30, 10))
    noise = np.tile(1e-9 * np.random.default_rng(1).uniform(1, 2, size=20), (30, 1))
    exact, noisy = np.c_[effects, 0 * noise], np.c_[effects, noise]
    for rule in (confident, above_null):
        assert (rule(exact) == rule(noisy)).all() and rule(noisy)[:10].all() and not rule(noisy)[10:].any()
