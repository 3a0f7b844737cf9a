"""Areas under curves against brute force, ties, zeros, and what is undefined."""

import math
from itertools import permutations

import numpy as np
import pytest

from circuitmeter.suite.rounding import floor
from circuitmeter.suite.scoring import ranking


def brute_force_auroc(labels, values):
    wins = [(t > f) + 0.5 * (t == f) for t in values[labels] for f in values[~labels]]
    return np.mean(wins)


def brute_force_average_precision(labels, values):
    total, previous_recall = 0.0, 0.0
    for threshold in sorted(set(values), reverse=True):
        chosen = values >= threshold
        recall = (chosen & labels).sum() / labels.sum()
        total += (recall - previous_recall) * (chosen & labels).sum() / chosen.sum()
        previous_recall = recall
    return total


@pytest.mark.parametrize("seed", range(8))
def test_areas_equal_brute_force_with_ties(seed):
    generator = np.random.default_rng(seed)
    n = int(generator.integers(5, 80))
    labels = generator.random(n) < 0.3
    labels[:2] = [True, False]
    values = generator.integers(0, [3, 1000][seed % 2], n).astype(float)
    assert ranking.auroc(labels, values) == pytest.approx(brute_force_auroc(labels, values), abs=1e-12)
    assert ranking.average_precision(labels, values) == pytest.approx(
        brute_force_average_precision(labels, values), abs=1e-12
    )


def test_areas_equal_scikit_learn_where_it_is_installed():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is only compared against")
    generator = np.random.default_rng(0)
    labels, values = generator.random(200) < 0.1, generator.integers(0, 20, 200).astype(float)
    assert ranking.auroc(labels, values) == pytest.approx(metrics.roc_auc_score(labels, values), abs=1e-12)
    assert ranking.average_precision(labels, values) == pytest.approx(
        metrics.average_precision_score(labels, values), abs=1e-12
    )


def test_equal_scores_say_nothing():
    labels = np.array([True, False, False, False])
    assert ranking.auroc(labels, np.ones(4)) == 0.5
    assert ranking.average_precision(labels, np.ones(4)) == 0.25


def test_roc_is_anchored_at_both_ends():
    labels, values = np.array([True, False, True]), np.array([3.0, 2.0, 1.0])
    false_rate, true_rate = ranking.roc_curve(labels, values)
    assert list(false_rate) == [0, 0, 1, 1] and list(true_rate) == [0, 0.5, 0.5, 1]


def test_infinite_scores_tie_with_each_other():
    labels = np.array([True, False, True, False])
    assert ranking.auroc(labels, np.array([np.inf, np.inf, 1.0, 0.0])) == pytest.approx(2.5 / 4)


@pytest.mark.parametrize("labels", [[], [False, False], [True, True]])
def test_areas_without_both_kinds_are_undefined(labels):
    labels = np.array(labels, dtype=bool)
    assert math.isnan(ranking.auroc(labels, np.arange(labels.size, dtype=float)))


def test_average_precision_needs_a_true_item_only():
    assert math.isnan(ranking.average_precision(np.zeros(2, bool), np.arange(2.0)))
    assert ranking.average_precision(np.ones(2, bool), np.arange(2.0)) == 1.0


def test_nan_scores_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        ranking.auroc(np.array([True, False]), np.array([np.nan, 1.0]))


def test_floor_is_relative_to_the_largest_finite_score():
    assert list(floor(np.array([-2.0, 1.9e-6, 2.1e-6, 0.0]))) == pytest.approx([-2.0, 0.0, 2e-6, 0.0], rel=1e-9)
    nearly = floor(np.array([1.0, 0.3, 0.3 + 1e-9]))
    assert nearly[1] == nearly[2]
    assert list(floor(np.array([np.inf, 1.0, 1e-7]))) == [np.inf, 1.0, 0.0]


@pytest.mark.parametrize("seed", range(6))
def test_top_is_the_mean_over_all_ways_to_break_ties(seed):
    generator = np.random.default_rng(seed)
    labels, values = generator.random(6) < 0.5, generator.integers(0, 3, 6).astype(float)
    for n in range(8):
        found = []
        for order in map(list, permutations(range(6))):
            first = [i for i in sorted(order, key=lambda i: -values[i])[:n] if values[i]]
            found.append((sum(labels[first]), len(first)))
        hits, chosen = np.mean(found, axis=0)
        assert ranking.top(labels, values, n) == (pytest.approx(hits), chosen)


def test_top_never_takes_zeros():
    assert ranking.top(np.array([True, True, True]), np.array([1.0, 0.0, 0.0]), 2) == (1, 1)


def test_separated_needs_strictly_larger_nonzero_scores():
    labels = np.array([True, False])
    assert ranking.separated(labels, np.array([2.0, 1.0]))
    assert not ranking.separated(labels, np.array([1.0, 1.0]))
    assert not ranking.separated(np.array([True, True]), np.array([1.0, 0.0]))
