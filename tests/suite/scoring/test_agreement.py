"""Paired tests and effect sizes, and what few programs can say."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from circuitmeter.suite.scoring.agreement import holm, paired_test, vargha_delaney


def test_a12_by_hand():
    assert vargha_delaney([1, 2, 3], [1, 2, 3]) == 0.5
    assert vargha_delaney([2, 2], [1, 2]) == 0.75
    assert math.isnan(vargha_delaney([], [1.0]))


def test_six_programs_cannot_get_below_one_in_thirty_two():
    found = paired_test(np.arange(1.0, 7.0), np.zeros(6))
    assert found.p_value == found.smallest_p == pytest.approx(2 / 64)
    assert found.a12 == 1.0 and found.median_difference == 3.5


def test_five_programs_can_never_be_significant():
    found = paired_test(np.arange(1.0, 6.0), np.zeros(5))
    assert found.p_value == found.smallest_p == pytest.approx(0.0625)


def test_equal_methods_have_no_p_value():
    found = paired_test([0.5, 1.0, 1.0], [0.5, 1.0, 1.0 + 1e-12])
    assert found.n == 3 and found.n_different == 0 and math.isnan(found.p_value) and found.a12 == 0.5


def test_programs_only_one_method_ran_on_are_left_out():
    found = paired_test([1.0, math.nan, 0.5], [0.0, 1.0, math.nan])
    assert found.n == 1
    with pytest.raises(ValueError, match="one length"):
        paired_test([1.0], [1.0, 2.0])


@pytest.mark.parametrize("seed", range(3))
def test_p_values_equal_scipys_exact_ones_without_ties(seed):
    generator = np.random.default_rng(seed)
    x, y = generator.random(12), generator.random(12) - 0.2 * seed
    assert paired_test(x, y).p_value == pytest.approx(stats.wilcoxon(x, y, method="exact").pvalue, rel=1e-12)


def test_p_values_with_ties_count_all_signs():
    difference = np.array([0.1, 0.1, -0.1, 0.4, 0.4, 0.5])
    ranks = stats.rankdata(np.abs(difference))
    sums = [ranks[list(signs)].sum() for signs in itertools.product([False, True], repeat=6)]
    observed, middle = ranks[difference > 0].sum(), ranks.sum() / 2
    expected = np.mean(np.abs(np.array(sums) - middle) >= abs(observed - middle))
    assert paired_test(difference, np.zeros(6)).p_value == pytest.approx(expected)


def test_many_programs_use_the_normal_approximation():
    x = np.random.default_rng(0).normal(0.2, 1, 150)
    assert paired_test(x, np.zeros(150)).p_value == pytest.approx(stats.wilcoxon(x, method="asymptotic").pvalue)


def test_holm_by_hand():
    assert holm([0.01, math.nan, 0.04, 0.03]) == pytest.approx([0.03, math.nan, 0.06, 0.06], nan_ok=True)
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
