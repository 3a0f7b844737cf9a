"""Mean curves keep the areas of the curves they average."""

import numpy as np
import pytest

from circuitmeter.suite.scoring import ranking
from circuitmeter.suite.scoring.curves import GRID, mean_precision_recall, mean_roc, precision_on_grid, roc_on_grid


def some_rankings(n=6):
    generator = np.random.default_rng(0)
    for _ in range(n):
        labels = generator.random(60) < 0.2
        labels[:2] = [True, False]
        yield labels, np.round(generator.random(60) + 0.3 * labels, 1)


def test_mean_roc_has_the_mean_area():
    curves = {str(i): [ranking.roc_curve(*pair)] for i, pair in enumerate(some_rankings())}
    found = mean_roc(curves)
    areas = [ranking.auroc(*pair) for pair in some_rankings()]
    assert np.trapezoid(found.mean, found.x) == pytest.approx(np.mean(areas), abs=5e-3)
    assert (found.x[0], found.mean[0], found.mean[-1]) == (0, 0, 1)
    assert (found.low <= found.mean + 1e-9).all() and (found.mean <= found.high + 1e-9).all() and found.n == 6


def test_mean_precision_recall_has_the_mean_average_precision():
    curves = {str(i): [ranking.precision_recall_curve(*pair)] for i, pair in enumerate(some_rankings())}
    found = mean_precision_recall(curves)
    assert found.mean[1:].mean() == pytest.approx(
        np.mean([ranking.average_precision(*p) for p in some_rankings()]), abs=5e-3
    )


def test_a_perfect_curve_is_one_everywhere():
    labels, values = np.array([True, False, False]), np.array([1.0, 0.5, 0.0])
    assert (roc_on_grid(ranking.roc_curve(labels, values)) == 1).all()
    assert (precision_on_grid(ranking.precision_recall_curve(labels, values)) == 1).all()


def test_undefined_curves_are_left_out():
    undefined = ranking.roc_curve(np.zeros(3, bool), np.arange(3.0))
    perfect = ranking.roc_curve(np.array([True, False]), np.array([1.0, 0.0]))
    assert mean_roc({"a": [undefined, perfect], "b": [undefined]}).n == 1
    empty = mean_roc({"a": [undefined]})
    assert empty.n == 0 and np.isnan(empty.mean[1:]).all() and empty.x.size == GRID.size + 1


def test_a_program_that_ran_often_counts_once():
    perfect = ranking.roc_curve(np.array([True, False]), np.array([1.0, 0.0]))
    reversed_ = ranking.roc_curve(np.array([True, False]), np.array([0.0, 1.0]))
    found = mean_roc({"a": [perfect] * 9, "b": [reversed_]})
    assert found.n == 2 and found.mean[50] == 0.5
