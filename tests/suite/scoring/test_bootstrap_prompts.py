"""Resampling prompts within templates; BCa and simultaneous intervals."""

import math

import numpy as np
import pytest
from scipy import stats

from circuitmeter.suite.scoring.bootstrap_prompts import (
    FEWEST_TEMPLATES,
    bca_interval,
    quantile_interval,
    resample_counts,
    simultaneous_interval,
    split_counts,
    template_blocks,
)


def draw(n, templates, n_resamples=4000, seed=0):
    return resample_counts(n, templates, n_resamples, np.random.default_rng(seed))


def test_every_resample_holds_as_many_prompts_where_templates_are_even():
    templates = np.repeat(np.arange(6), 4)
    counts = draw(24, templates, 500)
    assert (counts.sum(1) == 24).all()
    by_template = counts.reshape(500, 6, 4).sum(2)
    assert set(np.unique(by_template % 4)) == {0}  # whole templates come and go
    assert (by_template == 0).any()
    assert not np.array_equal(counts, draw(24, templates, 500, seed=1))
    assert np.array_equal(counts, draw(24, templates, 500))


def test_few_templates_are_kept_and_prompts_drawn_within():
    templates = np.repeat(np.arange(FEWEST_TEMPLATES - 1), 5)
    by_template = draw(20, templates, 100).reshape(100, -1, 5).sum(2)
    assert (by_template == 5).all()
    assert template_blocks(templates) is None and template_blocks(np.repeat(np.arange(9), 2)) is not None


@pytest.mark.parametrize("templates", [[0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 0, 1], [0, 0, 0, 0, 1], [3, 3], None])
def test_prompts_are_drawn_from_all_where_a_few_templates_cannot_be_drawn_within(templates):
    n = 4 if templates is None else len(templates)
    named = None if templates is None else np.array(templates)
    counts = draw(n, named, 400)
    assert (counts.sum(1) == n).all() and (counts.var(0) > 0.3).all()
    assert np.array_equal(counts, draw(n, None, 400))
    assert template_blocks(named) is None


def test_five_templates_of_one_prompt_are_drawn_themselves():
    counts = draw(5, np.arange(5), 400)
    assert (counts.sum(1) == 5).all() and (counts.var(0) > 0.3).all()


def test_numbers_of_templates_with_several_prompts_each_are_those_that_they_were():
    assert draw(4, np.array([0, 0, 1, 1]), 3).tolist() == [[1, 1, 0, 2], [1, 1, 2, 0], [0, 2, 2, 0]]
    assert draw(6, np.array([0, 1, 2, 3, 4, 4]), 3)[:2].tolist() == [[1, 0, 0, 0, 6, 2], [2, 2, 0, 1, 0, 0]]


@pytest.mark.parametrize("templates", [None, np.array([7])])
def test_a_single_prompt_has_no_interval(templates):
    counts = draw(1, templates)
    assert counts.shape == (0, 1)
    draws = np.zeros((0, 2))
    for low, high in (
        bca_interval(np.array([0.4, 0.4]), draws, np.zeros((1, 2))),
        simultaneous_interval(np.array([0.4, 0.4]), draws),
        quantile_interval(draws),
    ):
        assert np.isnan(low).tolist() == [True, True] and np.isnan(high).tolist() == [True, True]


def test_the_spread_of_the_mean_is_that_of_templates_and_prompts():
    generator = np.random.default_rng(1)
    templates = np.repeat(np.arange(30), 10)
    values = generator.normal(size=30)[templates] + generator.normal(size=300)
    hierarchical = (draw(300, templates) @ values / 300).std()
    alone = (draw(300, None) @ values / 300).std()
    by_template = values.reshape(30, 10)
    within = by_template.var(1).mean() / 300
    assert hierarchical**2 == pytest.approx(by_template.mean(1).var() / 30 + within, rel=0.1)
    assert alone == pytest.approx(values.std() / math.sqrt(300), rel=0.05)
    assert hierarchical > 2 * alone


def test_runs_are_drawn_for_each_time_a_prompt_was():
    counts = draw(8, None, 50)
    split = split_counts(counts, 3, np.random.default_rng(0))
    assert split.shape == (50, 8, 3) and np.array_equal(split.sum(2), counts)


def test_bca_is_scipys_on_one_level():
    values = np.random.default_rng(2).exponential(size=60)
    draws = draw(60, None, 20000) @ values / 60
    low, high = bca_interval(values.mean(), draws, values - values.mean())
    expected = stats.bootstrap((values,), np.mean, n_resamples=20000, method="BCa", rng=0).confidence_interval
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.01)
    plain = np.quantile(draws, [0.025, 0.975])
    assert low > plain[0] and high > plain[1] + 0.005  # skewed data: the interval moves to the long tail


def test_bca_of_nothing_that_varies_is_a_point_and_of_no_number_none():
    draws = np.stack([np.full(100, 0.4), np.full(100, math.nan)], 1)
    low, high = bca_interval(np.array([0.4, 0.4]), draws, np.zeros((5, 2)))
    assert (low[0], high[0]) == (0.4, 0.4) and math.isnan(low[1]) and math.isnan(high[1])


def test_simultaneous_intervals_cover_all_settings_at_once():
    generator = np.random.default_rng(4)
    together = alone = 0
    for _ in range(200):
        scores = generator.normal(size=(60, 10))
        mean, draws = scores.mean(0), draw(60, None, 300) @ scores / 60
        low, high = simultaneous_interval(mean, draws)
        together += ((low <= 0) & (0 <= high)).all()
        alone += (np.abs(mean) <= 1.96 * draws.std(0)).all()
    assert together / 200 == pytest.approx(0.95, abs=0.045)
    assert alone / 200 < 0.75


def test_a_setting_without_noise_keeps_its_point():
    draws = np.stack([np.full(200, 1.0), np.random.default_rng(0).normal(size=200)], 1)
    low, high = simultaneous_interval(np.array([1.0, 0.0]), draws)
    assert (low[0], high[0]) == (1.0, 1.0) and low[1] < -1.5 and high[1] > 1.5
    still = simultaneous_interval(np.array([1.0]), draws[:, :1])
    assert (still[0][0], still[1][0]) == (1.0, 1.0)
