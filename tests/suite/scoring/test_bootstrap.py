"""Intervals: seeded, hierarchical, and honest about too few programs."""

import math

import numpy as np
import pytest

from circuitmeter.suite.scoring.bootstrap import interval, mean_band


def test_same_seed_same_interval():
    values = {str(i): [v] for i, v in enumerate(np.random.default_rng(0).random(9))}
    assert interval(values, statistic="mean") == interval(values, statistic="mean")
    assert interval(values, statistic="mean") != interval(values, statistic="mean", seed=1)


@pytest.mark.parametrize("kind", ["percentile", "bca"])
def test_interval_of_the_mean_is_close_to_the_normal_one(kind):
    data = np.random.default_rng(1).normal(size=200)
    found = interval({str(i): [v] for i, v in enumerate(data)}, statistic="mean", kind=kind)
    half = 1.96 * data.std() / math.sqrt(200)
    assert found.estimate == pytest.approx(data.mean())
    assert found.low == pytest.approx(data.mean() - half, abs=0.03)
    assert found.high == pytest.approx(data.mean() + half, abs=0.03)


def test_runs_of_one_program_do_not_count_as_programs():
    few = {str(i): [v] for i, v in enumerate([0.0, 0.5, 1.0, 0.2])}
    repeated = {name: runs * 50 for name, runs in few.items()}
    assert interval(repeated, statistic="mean").n == 4
    width = [
        found.high - found.low for found in (interval(few, statistic="mean"), interval(repeated, statistic="mean"))
    ]
    assert width[1] == pytest.approx(width[0], abs=0.1)


def test_runs_within_programs_widen_the_interval():
    steady = interval({"a": [0.5] * 4, "b": [0.5] * 4}, statistic="mean")
    noisy = interval({"a": [0.0, 1.0, 0.0, 1.0], "b": [0.0, 1.0, 0.0, 1.0]}, statistic="mean")
    assert steady[:3] == (0.5, 0.5, 0.5)
    assert noisy.estimate == 0.5 and noisy.low < 0.4 and noisy.high > 0.6


def test_one_program_has_no_interval_and_none_no_estimate():
    one = interval({"a": [0.3, 0.5], "b": [math.nan]})
    assert one.estimate == pytest.approx(0.4) and math.isnan(one.low) and one.n == 1
    none = interval({"a": [math.nan]})
    assert math.isnan(none.estimate) and none.n == 0


def test_band_holds_the_mean_and_needs_two_programs():
    curves = np.random.default_rng(0).random((8, 5))
    low, high = mean_band(curves)
    assert (low <= curves.mean(axis=0)).all() and (curves.mean(axis=0) <= high).all()
    assert np.isnan(mean_band(curves[:1])).all()
