"""Sign flips of whole clusters: against counting by hand, and against what a test must do under no difference."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from circuitmeter.suite.scoring.clustered import MOST_EXACT, clustered_test, in_sequence, sign_flip_p


def plain_p(values) -> float:
    """All signs, one after the other."""
    sums = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(values))
    ]
    return sum(each >= abs(sum(values)) - 1e-12 for each in sums) / len(sums)


@pytest.mark.parametrize("n", range(1, 9))
def test_p_is_the_share_of_all_signs(n):
    values = np.random.default_rng(n).normal(size=n).round(1)
    assert sign_flip_p(values) == pytest.approx(plain_p(values), abs=0)


def test_six_programs_of_one_sign_reach_the_smallest_p():
    test = clustered_test({f"p{i}": [0.1 * (i + 1)] * 5 for i in range(6)})
    assert test.p_value == test.smallest_p == 2 / 64
    assert (test.n_clusters, test.n_pairs) == (6, 30)
    assert test.low > 0


def test_pairs_of_one_program_are_no_further_evidence():
    one = clustered_test({"a": [0.3], "b": [0.2], "c": [0.1]})
    many = clustered_test({"a": [0.3] * 100, "b": [0.2] * 100, "c": [0.1] * 100})
    assert one.p_value == many.p_value == 0.25
    assert one.mean_difference == pytest.approx(many.mean_difference)


def test_clusters_count_the_same_whatever_their_size():
    assert clustered_test({"a": [1.0], "b": [0.0] * 9}).mean_difference == 0.5


def test_what_is_equal_or_missing_says_nothing():
    test = clustered_test({"a": [1e-12, -1e-12], "b": [0.5], "c": [math.nan]})
    assert (test.n_clusters, test.n_different, test.smallest_p) == (2, 1, 1.0)
    nothing = clustered_test({"a": [math.nan]})
    assert nothing.n_clusters == 0 and math.isnan(nothing.p_value)


def test_many_clusters_are_drawn_and_agree_with_counting():
    values = np.random.default_rng(3).normal(0.3, 1, size=MOST_EXACT)
    exact, drawn = sign_flip_p(values), sign_flip_p(np.append(values, 0.0))
    assert drawn == pytest.approx(exact, abs=0.005)


def test_it_finds_a_difference_where_there_is_none_at_the_stated_rate():
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(600):
        shared = generator.normal(size=8)  # what a program's pairs share, so that pairs are far from independent
        hits += clustered_test({str(i): shared[i] + 0.1 * generator.normal(size=4) for i in range(8)}).p_value < 0.05
    assert 0.02 < hits / 600 < 0.08


def test_a_later_test_is_never_surer_than_an_earlier_one():
    assert in_sequence([0.01, 0.04, 0.02]) == [0.01, 0.04, 0.04]
    assert in_sequence([0.6, 0.001]) == [0.6, 0.6]
    assert math.isnan(in_sequence([math.nan, 0.01])[1])
