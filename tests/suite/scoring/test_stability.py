"""Stability of circuits: against plain loops, and intervals that cover what they claim."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from circuitmeter.suite.errors import Undefined
from circuitmeter.suite.scoring.structure.circuit_change import over_resamples
from circuitmeter.suite.scoring.structure.stability import (
    beside_chance,
    difference,
    prompt_counts,
    resampled,
    sampling_error,
    stability,
    top_edges,
)

GENERATOR = np.random.default_rng(0)
SCORES = GENERATOR.normal(np.linspace(2, 0, 30), 1.0, size=(24, 30))


def plain(variants, whole, n):
    """(mean Jaccard over pairs, with the whole, rank correlation, inclusion), by loops over sets."""

    def top(row):
        return set(sorted(range(len(row)), key=lambda e: (-abs(row[e]), e))[:n])

    def jaccard(a, b):
        return len(a & b) / len(a | b)

    sets, reference = [top(row) for row in variants], top(whole)
    pairs = [jaccard(sets[i], sets[j]) for i in range(len(sets)) for j in range(i)]
    inside = sorted(reference)
    ranks = [spearmanr(np.abs(row[inside]), np.abs(whole[inside])).statistic for row in variants]
    inclusion = [sum(e in each for each in sets) / len(sets) for e in range(len(whole))]
    return np.mean(pairs), np.mean([jaccard(each, reference) for each in sets]), np.mean(ranks), inclusion


@pytest.mark.parametrize("n", [2, 7, 29])
def test_every_number_is_that_of_a_plain_loop(n):
    counts = prompt_counts(24, None, 40)
    variants, whole = resampled(SCORES, counts), SCORES.mean(0)
    found = stability(variants, whole, [n], counts)
    jaccard, with_whole, rank, inclusion = plain(variants, whole, n)
    assert found.jaccard[0] == pytest.approx(jaccard)
    assert found.with_whole[0] == pytest.approx(with_whole)
    assert found.rank[0] == pytest.approx(rank)
    assert found.inclusion[0] == pytest.approx(inclusion)
    assert found.low[0] <= found.jaccard[0] <= found.high[0]


def test_a_resample_is_the_mean_of_the_prompts_it_drew():
    counts = prompt_counts(24, None, 5)
    for row, scores in zip(counts, resampled(SCORES, counts), strict=True):
        assert scores == pytest.approx(np.repeat(SCORES, row, axis=0).mean(0))
        assert row.sum() == 24


def test_templates_are_drawn_whole():
    templates = np.arange(24) % 4
    counts = prompt_counts(24, templates, 50, over="templates")
    for t in range(4):
        assert (counts[:, templates == t] == counts[:, [t]]).all()
    assert (counts.sum(1) == 24).all() and counts.std() > 0


def test_prompts_of_one_template_are_one_draw():
    """Eight templates of five equal prompts say what eight prompts do: no more, and no less."""
    few = SCORES[:8]
    drawn = prompt_counts(40, np.repeat(np.arange(8), 5), 100, over="templates", seed=3)
    found, units = over_resamples(
        np.repeat(few, 5, axis=0), np.repeat(np.arange(8), 5), [4], over="templates", resamples=100, seed=3
    )
    assert units.shape == (100, 8) and (units == drawn[:, ::5]).all()
    alone = stability(resampled(few, units), few.mean(0), [4], units)
    assert alone.low[0] < alone.jaccard[0] < alone.high[0]
    for name in ("jaccard", "low", "high"):
        assert getattr(found, name) == pytest.approx(getattr(alone, name))


def test_two_circuits_are_compared_with_two_random_ones_of_their_sizes():
    first, second = np.r_[3.0, 2.0, 1.0, np.zeros(7)], np.r_[0.0, 5.0, 1e-9, np.zeros(7)]
    circuits = np.arange(10) < np.array([[3], [3]])
    jaccard, chance = beside_chance(circuits, np.stack([first, second]))  # of 3 edges and of 1, and 10 in all
    assert (jaccard, chance) == (pytest.approx(1 / 3), pytest.approx(0.3 / 3.7))
    assert beside_chance(np.ones((2, 4), dtype=bool), np.zeros((2, 4))) == (1, 1)


def test_what_never_changes_is_stable_and_chance_is_chance():
    same = np.tile(SCORES[0], (6, 1))
    found = stability(same, SCORES[0], [5])
    assert found.jaccard[0] == found.with_whole[0] == found.lowest[0] == 1 and math.isnan(found.low[0])
    random = np.random.default_rng(1).normal(size=(200, 400))
    found = stability(random, random[0], [40])
    assert found.jaccard[0] == pytest.approx(found.chance[0], abs=0.01)


def test_ties_go_to_the_lower_index():
    assert top_edges(np.array([[1.0, 2.0, 1.0, 1.0]]), 2)[0].tolist() == [True, True, False, False]


def test_what_rounding_alone_ranks_is_in_no_circuit():
    """Ten resamples in which one edge has an effect and the others what rounding leaves, always in one order."""
    variants = np.tile(np.r_[1.0, 1e-9 * np.arange(9)], (10, 1))
    assert top_edges(variants, 4).sum() == 10 and top_edges(variants, 4)[:, 0].all()
    assert not top_edges(np.zeros((2, 3)), 2).any()
    found = stability(variants, variants[0], [4])
    assert found.inclusion[0].tolist() == [1.0] + [0.0] * 9
    assert found.jaccard[0] == found.with_whole[0] == 1


@pytest.mark.parametrize(
    "n, templates, over", [(1, None, "prompts"), (9, None, "templates"), (9, [0] * 9, "templates")]
)
def test_nothing_to_draw_from(n, templates, over):
    with pytest.raises(Undefined):
        prompt_counts(n, None if templates is None else np.array(templates), 10, over=over)


def test_the_error_is_that_of_sums_over_prompts():
    """Of a number whose influences are known: J(b, c) = (f(b) + f(c)) / 2, f the mean of a value over a resample."""
    values = np.random.default_rng(2).normal(size=30)
    counts = prompt_counts(30, None, 4000)
    means = counts @ values / 30
    found = sampling_error((means[:, None] + means) / 2, counts)
    assert found == pytest.approx(values.std() / 30**0.5, rel=0.1)


def test_the_interval_covers_the_mean_over_samples_of_prompts():
    """The number that is estimated: the expected Jaccard index between resamples, over fresh samples of prompts."""
    generator = np.random.default_rng(5)
    estimates, ends = [], []
    for repetition in range(120):
        sample = generator.normal(np.linspace(1, 0, 20), 1.0, size=(20, 20))
        counts = prompt_counts(20, None, 200, seed=repetition)
        found = stability(resampled(sample, counts), sample.mean(0), [5], counts)
        estimates.append(found.jaccard[0])
        ends.append((found.low[0], found.high[0]))
    covered = np.mean([low <= np.mean(estimates) <= high for low, high in ends])
    assert covered >= 0.9


def test_methods_are_compared_on_the_same_resamples():
    counts = prompt_counts(24, None, 400)
    quiet = SCORES.mean(0) + 0.1 * (SCORES - SCORES.mean(0))
    noisy, calm = (stability(resampled(each, counts), each.mean(0), [5], counts) for each in (SCORES, quiet))
    (gap, low, high) = difference(calm, noisy, counts)[0]
    assert gap == pytest.approx(calm.jaccard[0] - noisy.jaccard[0]) and 0 < low < gap < high
    assert difference(calm, calm, counts)[0] == (0.0, 0.0, 0.0)
