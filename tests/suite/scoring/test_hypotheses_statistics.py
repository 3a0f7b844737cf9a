"""The statistics of the hypothesis tests: exact values, stated power, and the released code's errors, each by name."""

import numpy as np
import pytest
from scipy import stats

from circuitmeter.suite.scoring.agreement import holm
from circuitmeter.suite.scoring.hypotheses_statistics import (
    equivalence_power,
    equivalence_test,
    independence_test,
    less_often,
    less_often_power,
    more_often,
    more_often_power,
)


def signs(n_better, n):
    return np.where(np.arange(n) < n_better, 1.0, -1.0)


def test_the_sign_test_is_the_binomial_tail_at_the_nulls_edge():
    n, theta = 20, 0.6
    for n_better in (10, 13, 18, 2):
        distance = abs(n_better - 10)
        outcomes = [k for k in range(n + 1) if abs(k - 10) >= distance]
        expected = sum(stats.binom.pmf(k, n, theta) for k in outcomes)
        found = equivalence_test(signs(n_better, n))
        assert found.p_value == pytest.approx(expected, abs=1e-12) and found.proportion == n_better / n


def test_the_sign_test_uses_a_proportion_and_not_a_mean_difference():
    """The released test puts the mean score difference where the share of prompts belongs: units would matter."""
    difference = np.random.default_rng(0).normal(0.3, 1, 60)
    for units in (1e-3, 1.0, 1e3):
        assert equivalence_test(units * difference) == equivalence_test(difference)
    # One prompt on which the circuit is far worse moves the mean and not the share.
    assert equivalence_test(np.append(difference, -1e6)).p_value == pytest.approx(
        equivalence_test(np.append(difference, -1.0)).p_value
    )


def test_ties_count_half():
    assert equivalence_test(np.zeros(50)) == (0.5, 1.0)
    assert equivalence_test(np.full(50, 1e-9), tie=1e-6) == (0.5, 1.0)
    assert equivalence_test(np.full(50, 1e-9)).p_value < 1e-10
    assert equivalence_test(np.concatenate([np.zeros(10), np.ones(10)])).proportion == 0.75


def test_the_stated_power_of_the_sign_test_is_that_of_simulations():
    generator, level = np.random.default_rng(0), 0.01
    for n, better in ((50, 0.8), (51, 0.75)):
        rejecting = [k for k in range(n + 1) if equivalence_test(signs(k, n)).p_value <= level]
        simulated = np.isin(generator.binomial(n, better, 4000), rejecting).mean()
        assert simulated == pytest.approx(equivalence_power(n, better, level=level), abs=0.03)
    assert equivalence_power(100, 0.6, level=0.05) <= 0.05  # at the null's edge it is the level
    assert equivalence_power(5, 0.8, level=0.01) == 0.0  # five prompts can never reject


def test_permutation_p_values_count_the_observed_statistic():
    """The released test divides the number of larger statistics by the permutations alone: its p can be 0."""
    x = np.linspace(0, 1, 40)
    assert independence_test(x, x, permutations=99).p_value == 1 / 100
    assert independence_test(x, x, permutations=9).p_value == 1 / 10


def test_the_bandwidth_comes_from_each_variables_own_distances():
    """The released test takes it from distances between one variable and the other.

    Scores that lie far apart then have kernels so wide that only linear dependence is seen: this one is not linear.
    """
    generator = np.random.default_rng(1)
    x = generator.normal(size=80)
    y = x**2
    found = independence_test(x, y, permutations=199)
    assert found.p_value <= 0.01
    for shifted in (1000 + y, 1e4 * y, 1e-4 * y - 7):
        assert independence_test(x, shifted, permutations=199).p_value == found.p_value
        assert independence_test(x, shifted, permutations=199).statistic == pytest.approx(found.statistic, rel=1e-6)


def test_p_values_of_independent_samples_are_uniform():
    generator = np.random.default_rng(2)
    p_values = [
        independence_test(generator.normal(size=25), generator.normal(size=(25, 2)), permutations=39, seed=i).p_value
        for i in range(300)
    ]
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.035)
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.06)


def test_hsic_is_its_definition():
    """trace(K H L H) / (n - 1)^2, from Gretton et al. 2007."""
    generator = np.random.default_rng(3)
    x, y = generator.normal(size=(12, 2)), generator.normal(size=12)

    def kernel(values):
        values = values.reshape(12, -1)
        apart = np.array([[np.linalg.norm(a - b) for a in values] for b in values])
        width = np.median([apart[i, j] for i in range(12) for j in range(i)])
        return np.exp(-(apart**2) / (2 * width**2))

    centre = np.eye(12) - 1 / 12
    expected = np.trace(kernel(x) @ centre @ kernel(y) @ centre) / 11**2
    assert independence_test(x, y, permutations=1).statistic == pytest.approx(expected, rel=1e-9)


def test_what_does_not_vary_depends_on_nothing():
    assert independence_test(np.ones(10), np.arange(10.0)) == (0.0, 1.0)
    mostly = np.r_[np.zeros(20), 1.0]  # the median distance is 0
    assert independence_test(mostly, mostly, permutations=199).p_value < 0.1


def test_binomial_tests_are_scipys():
    for wins in (80, 90, 97, 100):
        assert more_often(wins, 100, 0.9) == pytest.approx(
            stats.binomtest(wins, 100, 0.9, alternative="greater").pvalue, rel=1e-9
        )
        assert less_often(wins, 100, 0.9) == pytest.approx(
            stats.binomtest(wins, 100, 0.9, alternative="less").pvalue, rel=1e-9
        )


def test_the_stated_power_of_the_binomial_tests_is_that_of_simulations():
    wins = np.random.default_rng(0).binomial(100, 0.97, 4000)
    rejected = np.mean([more_often(int(w), 100, 0.9) <= 0.01 for w in wins])
    assert rejected == pytest.approx(more_often_power(100, 0.97, 0.9, 0.01), abs=0.03)
    wins = np.random.default_rng(0).binomial(100, 0.75, 4000)
    rejected = np.mean([less_often(int(w), 100, 0.9) <= 1e-3 for w in wins])
    assert rejected == pytest.approx(less_often_power(100, 0.75, 0.9, 1e-3), abs=0.03)
    assert more_often_power(20, 1.0, 0.9, 0.05) == 0.0  # twenty circuits can never show a quantile of .9


def test_many_edges_are_corrected_for():
    """The released test of minimality leaves the correction out: of thirty edges, one at p = .04 is no finding."""
    p_values = [less_often(84, 100, 0.9), *[1.0] * 29]
    assert p_values[0] < 0.05 < holm(p_values)[0]
