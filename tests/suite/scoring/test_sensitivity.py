"""Spread, conclusion flips, percentiles among random circuits, and rank reversals."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from circuitmeter.suite.scoring.sensitivity.ranks import kendall_matrix, kendall_w, pairs, reversals
from circuitmeter.suite.scoring.sensitivity.spread import (
    binary_entropy,
    flips,
    percentiles,
    spread_of_faithfulness,
    weighted_quantile,
)


def test_spread_by_hand():
    found = spread_of_faithfulness(np.array([-0.2, 0.4, 0.6, 1.0, 1.3]), np.full(5, 0.2))
    assert (found.worst, found.best, found.range) == pytest.approx((-0.2, 1.3, 1.5))
    assert found.quartiles == pytest.approx((0.4, 1.0)) and found.iqr == pytest.approx(0.6)
    assert (found.mean, found.negative, found.above_one) == pytest.approx((0.62, 0.2, 0.2))


def test_settings_that_weigh_nothing_do_not_count():
    found = spread_of_faithfulness(np.array([-9.0, 0.5, 0.7]), np.array([0.0, 0.25, 0.75]))
    assert (found.worst, found.negative, found.mean) == pytest.approx((0.5, 0, 0.65))


def test_weighted_quantile_of_repeated_values_is_that_of_the_list():
    values, times = np.array([3.0, 1.0, 2.0]), np.array([2, 3, 1])
    listed = np.repeat(values, times)
    assert weighted_quantile(values, times / 6, 0.5) == np.median(listed) == 1.5
    assert weighted_quantile(values, times / 6, 0.75) == 3.0


def test_a_conclusion_that_half_of_the_settings_share_is_one_bit():
    values = np.array([0.2, 0.9, 0.7, 1.0])
    found = flips(values, values - 0.15, values + 0.15, np.full(4, 0.25), threshold=0.8)
    assert (found.hold, found.entropy, found.surely, found.surely_not) == (0.5, 1.0, 0.25, 0.25)
    certain = flips(values, values, values, np.full(4, 0.25), threshold=0.1)
    assert (certain.hold, certain.entropy) == (1.0, 0.0)
    without = flips(values, np.full(4, math.nan), np.full(4, math.nan), np.full(4, 0.25), threshold=0.8)
    assert (without.surely, without.surely_not) == (0, 0)
    assert binary_entropy(0.25) == pytest.approx(0.8112781245)


def test_percentiles_count_ties_half_and_leave_out_what_has_no_number():
    null = np.array([[0.1, 1.0], [0.2, 1.0], [0.3, 1.0 + 1e-12], [0.4, math.nan]])
    assert percentiles(np.array([0.25, 1.0]), null).tolist() == [0.5, 0.5]
    assert percentiles(np.array([[0.5, 2.0], [0.0, 0.0]]), null[None]).tolist() == [[1, 1], [0, 0]]
    assert math.isnan(percentiles(np.array([1.0]), np.array([[math.nan]]))[0])


def test_kendall_matrix_is_scipys():
    values = np.random.default_rng(0).integers(0, 4, size=(7, 5)).astype(float)
    found = kendall_matrix(values)
    for d, e in itertools.product(range(5), repeat=2):
        assert found[d, e] == pytest.approx(stats.kendalltau(values[:, d], values[:, e]).statistic)
    assert np.isnan(kendall_matrix(np.array([[1.0, 1.0], [2.0, 1.0]]))[0, 1])


def test_kendall_w_is_friedmans_statistic():
    values = np.random.default_rng(1).integers(0, 5, size=(6, 8)).astype(float)
    friedman = stats.friedmanchisquare(*values).statistic  # circuits are treatments, settings are blocks
    assert kendall_w(values) == pytest.approx(friedman / (8 * 5))
    assert kendall_w(np.arange(6.0)[:, None].repeat(4, 1)) == pytest.approx(1)
    assert math.isnan(kendall_w(values[:1])) and math.isnan(kendall_w(np.ones((3, 3))))


def test_reversals_against_counting():
    generator = np.random.default_rng(2)
    differences = generator.normal(size=(3, 6))
    low, high = differences - 0.8, differences + 0.8
    raw = significant = 0
    for pair, (d, e) in itertools.product(range(3), itertools.combinations(range(6), 2)):
        raw += differences[pair, d] * differences[pair, e] < 0
        above = [low[pair, s] > 0 for s in (d, e)]
        below = [high[pair, s] < 0 for s in (d, e)]
        significant += (above[0] and below[1]) or (above[1] and below[0])
    found = reversals(differences, low, high)
    assert (found.n, found.raw, found.significant) == (45, raw, significant)
    assert 0 < significant < raw
    assert pairs(3) == [(0, 1), (0, 2), (1, 2)]


def test_noise_reverses_raw_orders_and_hardly_ever_significant_ones():
    """Two circuits that are the same but for noise, 40 prompts, eight settings."""
    generator = np.random.default_rng(3)
    raw, significant = [], []
    for _ in range(200):
        scores = generator.normal(size=(40, 8))
        half = stats.t.ppf(0.975, 39) * scores.std(0, ddof=1) / math.sqrt(40)
        mean = scores.mean(0)
        found = reversals(mean[None], (mean - half)[None], (mean + half)[None])
        raw.append(found.raw / found.n)
        significant.append(found.significant / found.n)
    assert np.mean(raw) == pytest.approx(0.5, abs=0.05)
    assert np.mean(significant) < 0.005  # 2 x 0.025^2
