"""Variance over settings: closed forms, the plain ANOVA, Shapley's definition, and what noise adds."""

import itertools
import json
import math
from importlib.resources import files

import numpy as np
import pytest
from scipy import stats

from circuitmeter.suite.errors import SpecError
from circuitmeter.suite.scoring.sensitivity.design import Design
from circuitmeter.suite.scoring.sensitivity.ranks import kendall_matrix, reversals
from circuitmeter.suite.scoring.sensitivity.shares import source_shares
from circuitmeter.suite.scoring.sensitivity.variance import (
    closed_variances,
    components,
    effects,
    noise_variances,
    sources,
)


def full(*sizes, weights=None) -> Design:
    """A complete factorial with factors A, B, ... of these numbers of levels."""
    names = "ABCDE"[: len(sizes)]
    rows = [[f"{level}" for level in row] for row in itertools.product(*map(range, sizes))]
    return Design.of(names, rows, weights)


def plain_components(values: np.ndarray, weights=None) -> dict[tuple[int, ...], float]:
    """The functional ANOVA by projections: what a subset explains beyond all smaller ones. values [L_1, ..., L_K]."""
    weights = weights or [np.full(size, 1 / size) for size in values.shape]

    def mean_over(array, axis):
        shape = [-1 if k == axis else 1 for k in range(array.ndim)]
        return (array * weights[axis].reshape(shape)).sum(axis, keepdims=True)

    found = {}
    for size in range(1, values.ndim + 1):
        for subset in itertools.combinations(range(values.ndim), size):
            part = values
            for axis in range(values.ndim):
                part = part - mean_over(part, axis) if axis in subset else mean_over(part, axis)
            part = part**2
            for axis in range(values.ndim):
                part = mean_over(part, axis) if part.shape[axis] > 1 else part
            found[subset] = float(part.sum())
    return found


def plain_shapley(design: Design, values: np.ndarray) -> np.ndarray:
    """Mean gain of explained variance over all orders in which the factors become known."""

    def explained(known) -> float:
        cells = {}
        for row, weight, value in zip(design.codes, design.weights, values, strict=True):
            cells.setdefault(tuple(row[list(known)]), []).append((weight, value))
        mean = float(values @ design.weights)
        total = 0.0
        for members in cells.values():
            mass = sum(weight for weight, _ in members)
            total += mass * (sum(weight * value for weight, value in members) / mass - mean) ** 2
        return total

    n = len(design.factors)
    gains = np.zeros(n)
    for order in itertools.permutations(range(n)):
        for place, factor in enumerate(order):
            gains[factor] += explained(sorted(order[: place + 1])) - explained(sorted(order[:place]))
    return gains / math.factorial(n)


def published() -> tuple[Design, np.ndarray]:
    """Every area in the ACDC paper's two tables, by task, granularity, method and ablation."""
    content = json.loads(
        files("circuitmeter.reports.reproduction").joinpath("papers/conmy2023/auc_tables.json").read_text()
    )
    rows, values = [], []
    for ablation, table in content["tables"].items():
        for task, areas in table.items():
            for (granularity, method), area in zip(content["columns"], areas, strict=True):
                rows.append((task, granularity, method, ablation))
                values.append(area)
    return Design.of(("task", "granularity", "method", "ablation"), rows), np.array(values)


def test_closed_form_with_an_interaction_and_an_inert_factor():
    design = Design.of("ABC", list(itertools.product(("-1", "0", "1"), ("-1", "1"), ("x", "y"))))
    a, b = (np.array([float(design.levels[k][code]) for code in design.codes[:, k]]) for k in (0, 1))
    closed = closed_variances(design, 2 * a + b + a * b / 2)
    found = effects(design, closed)
    assert found.variance == pytest.approx(23 / 6, abs=1e-9)
    np.testing.assert_allclose(found.first / found.variance, [0.695652174, 0.260869565, 0], atol=1e-9)
    np.testing.assert_allclose(found.total / found.variance, [0.739130435, 0.304347826, 0], atol=1e-9)
    parts = components(design, closed)
    assert parts["A", "B"] / found.variance == pytest.approx(1 / 23, abs=1e-9)
    assert all(abs(part) < 1e-12 for subset, part in parts.items() if "C" in subset)
    assert sum(parts.values()) == pytest.approx(float(found.variance), abs=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
def test_components_are_those_of_the_plain_anova(weighted):
    generator = np.random.default_rng(0)
    values = generator.normal(size=(3, 2, 4))
    names = {"A": {"0": 3.0, "2": 0.5}, "C": {"1": 0.0}} if weighted else None
    design = full(3, 2, 4, weights=names)
    even = [np.full(size, 1 / size) for size in values.shape]
    if weighted:
        even[0], even[2] = np.array([3, 1, 0.5]) / 4.5, np.array([1, 0, 1, 1]) / 3
    found = components(design, closed_variances(design, values.ravel()))
    for subset, part in plain_components(values, even).items():
        assert found[tuple("ABC"[k] for k in subset)] == pytest.approx(part, abs=1e-12)


def test_shapley_effects_follow_their_definition_on_any_grid():
    generator = np.random.default_rng(1)
    complete = full(3, 2, 2)
    kept = generator.permutation(12)[:8]
    incomplete = Design.of("ABC", [[str(code) for code in complete.codes[d]] for d in sorted(kept)])
    for design in (complete, incomplete):
        values = generator.normal(size=len(design.codes))
        found = effects(design, closed_variances(design, values))
        np.testing.assert_allclose(found.shapley, plain_shapley(design, values), atol=1e-12)
        assert found.shapley.sum() == pytest.approx(float(found.variance), abs=1e-12)
    assert not incomplete.complete
    with pytest.raises(ValueError, match="Shapley"):
        components(incomplete, closed_variances(incomplete, values))


def test_shapley_agrees_with_sobol_on_a_complete_grid():
    """Each interaction is divided evenly among its factors, so a factor lies between its first-order and total effect;
    without interactions all three are one."""
    design, values = full(3, 2, 4), np.random.default_rng(2).normal(size=24)
    closed = closed_variances(design, values)
    found, parts = effects(design, closed), components(design, closed)
    divided = [sum(part / len(subset) for subset, part in parts.items() if name in subset) for name in "ABC"]
    np.testing.assert_allclose(found.shapley, divided, atol=1e-12)
    assert (found.first <= found.shapley + 1e-12).all() and (found.shapley <= found.total + 1e-12).all()
    additive = design.codes @ [1.0, -2.0, 0.7]
    alike = effects(design, closed_variances(design, additive))
    np.testing.assert_allclose(alike.first, alike.total, atol=1e-12)
    np.testing.assert_allclose(alike.first, alike.shapley, atol=1e-12)


def test_copies_of_a_level_change_its_weight_unless_told_not_to():
    """Y depends on A = 0 or not. With that level three times, the even weights make it rarer; given weights do not."""
    two, four = full(2, 2), full(4, 2, weights={"A": {"1": 1 / 3, "2": 1 / 3, "3": 1 / 3}})
    expected = effects(two, closed_variances(two, np.array([0.0, 0.1, 1.0, 1.2])))
    found = effects(four, closed_variances(four, np.array([0.0, 0.1] + [1.0, 1.2] * 3)))
    np.testing.assert_allclose(found.first, expected.first, atol=1e-12)
    assert four.marginals["A"]["0"] == pytest.approx(0.5)
    even = full(4, 2)
    assert effects(even, closed_variances(even, np.array([0.0, 0.1] + [1.0, 1.2] * 3))).first[0] != pytest.approx(
        expected.first[0]
    )


def test_what_cannot_be_combined_takes_no_weight_from_the_rest_of_its_level():
    """Patch can be run in two directions, zero in one: each still weighs a half."""
    rows = [
        ("patch", "noising", "kl"),
        ("patch", "denoising", "kl"),
        ("zero", "noising", "kl"),
        ("zero", "noising", "l2"),
    ]
    design = Design.of(("ablation", "direction", "objective"), rows)
    assert design.weights.tolist() == [0.25, 0.25, 0.25, 0.25]
    assert design.marginals["ablation"] == {"patch": 0.5, "zero": 0.5}
    more = Design.of(
        ("ablation", "direction", "objective"), rows, {"ablation": {"zero": 3.0}, "direction": {"denoising": 0}}
    )
    assert more.weights.tolist() == [0.25, 0, 0.375, 0.375]
    complete = full(2, 3, weights={"A": {"0": 3.0}, "B": {"2": 2.0}})
    np.testing.assert_allclose(complete.weights.reshape(2, 3), np.outer([0.75, 0.25], [0.25, 0.25, 0.5]))


def test_the_complete_part_of_an_incomplete_grid():
    rows = [row for row in itertools.product("pz", "nd", "ab") if row[:2] != ("z", "d")]
    design = Design.of(("ablation", "direction", "aggregation"), rows, {"aggregation": {"a": 3.0}})
    assert not design.complete and full(3, 2).complete_part().all()
    part = design.select(design.complete_part())
    assert part.complete and [len(levels) for levels in part.levels] == [2, 1, 2]
    assert part.weights.tolist() == [0.375, 0.125, 0.375, 0.125]


def test_many_values_at_once_are_the_same_as_one_by_one():
    design, values = full(3, 2), np.random.default_rng(3).normal(size=(5, 6))
    np.testing.assert_allclose(
        closed_variances(design, values), [closed_variances(design, row) for row in values], atol=1e-14
    )
    assert effects(design, closed_variances(design, values)).shapley.shape == (5, 2)


@pytest.mark.parametrize("n", [10, 30, 100])
def test_noise_is_taken_off_without_bias(n):
    """12 settings, residual deviation 1, true variance 0.0383: the naive one is too large by 11/12 / n."""
    design, generator = full(3, 2, 2), np.random.default_rng(n)
    true = design.codes @ [1.0, 0.6, 0.0] + 0.8 * design.codes[:, 0] * design.codes[:, 1]
    true *= math.sqrt(0.0383 / closed_variances(design, true)[-1])
    expected = closed_variances(design, true)
    naive, corrected, residuals = [], [], []
    for _ in range(600):
        scores = true + 2.0 * generator.normal(size=(n, 1)) + generator.normal(size=(n, 12))
        means = scores.mean(0)
        naive.append(closed_variances(design, means))
        corrected.append(naive[-1] - noise_variances(design, scores - means))
        residuals.append(sources(design, scores)[2:])
    naive, corrected = np.array(naive), np.array(corrected)
    error = corrected.std(0)[1:] / math.sqrt(len(corrected))
    assert (np.abs(corrected.mean(0) - expected)[1:] < 4 * error).all()  # every closed variance, so every component
    assert naive.mean(0)[-1] == pytest.approx(0.0383 + 11 / 12 / n, abs=4 * error[-1])
    np.testing.assert_allclose(np.mean(residuals, 0), [4.0, 1.0], rtol=0.1)  # prompts' variance, residual


def test_prompts_of_one_template_err_together():
    """Eight templates of ten prompts, each moving every setting in its own way: prompts alone see too little."""
    design, generator = full(4, 2), np.random.default_rng(0)
    templates = np.repeat(np.arange(8), 10)
    by_template, by_prompt = [], []
    for _ in range(400):
        scores = generator.normal(size=(8, 8))[templates] + 0.5 * generator.normal(size=(80, 8))
        closed = closed_variances(design, scores.mean(0))[-1]
        influence = scores - scores.mean(0)
        by_template.append(closed - noise_variances(design, influence, templates)[-1])
        by_prompt.append(closed - noise_variances(design, influence)[-1])
    error = np.std(by_template) / 20
    assert abs(np.mean(by_template)) < 4 * error  # the true variance over settings is 0
    assert np.mean(by_prompt) > 10 * error


def test_what_templates_do_in_single_settings_is_no_choice_of_the_analyst_s():
    """Fifteen templates of twenty prompts, each moving every setting in its own way: over settings nothing varies."""
    design, generator = full(4, 2, 2), np.random.default_rng(0)
    templates = np.repeat(np.arange(15), 20)
    found = []
    for _ in range(50):
        scores = generator.normal(size=(15, 16))[templates] + generator.normal(size=(300, 16))
        found.append((sources(design, scores, templates, templates).method, sources(design, scores, templates).method))
        closed = closed_variances(design, scores.mean(0)) - noise_variances(design, scores - scores.mean(0), templates)
        assert found[-1][0] == pytest.approx(closed[-1])  # the variance that the decomposition divides
    mean, error = np.mean(found, 0), np.std(found, 0) / 50**0.5
    assert abs(mean[0]) < 4 * error[0]
    assert mean[1] > 10 * error[1]
    assert all(math.isnan(part) for part in sources(design, scores, templates, np.zeros(300, dtype=int)))


def test_the_index_s_interval_begins_at_0_where_templates_react_and_no_choice_matters():
    design, generator = full(4, 2, 2), np.random.default_rng(0)
    templates = np.repeat(np.arange(15), 4)
    for _ in range(2):  # of the second, the interval began at .01 when prompts were taken as independent
        scores = generator.normal(size=(15, 16))[templates] + 0.5 * generator.normal(size=(60, 16))
    found = source_shares(design, scores, templates, templates, 0)
    assert found.fsi_low == 0 < found.fsi_high
    assert found.method == sources(design, scores, templates, templates).method


def test_templates_that_react_are_in_the_residual_and_not_in_what_templates_or_prompts_are_by_themselves():
    design, generator = full(2, 2), np.random.default_rng(3)
    templates = np.repeat(np.arange(12), [3, 9] * 6)
    found = []
    for _ in range(300):
        scores = 1.5 * generator.normal(size=(12, 4))[templates] + generator.normal(size=(72, 4))
        found.append(sources(design, scores, templates, templates))
    mean, error = np.mean(found, 0), np.std(found, 0) / 300**0.5
    assert (np.abs(mean - [0, 0, 0, 1.5**2 + 1]) < 4 * error).all()


def test_sources_add_up_to_where_the_variance_was_put():
    design, generator = full(4, 3, weights={"A": {"0": 3.0}}), np.random.default_rng(5)
    templates = np.repeat(np.arange(40), [5, 15] * 20)
    method = generator.normal(size=12)
    n = len(templates)
    scores = (
        method
        + 1.5 * generator.normal(size=(40, 1))[templates]
        + 0.7 * generator.normal(size=(n, 1))
        + 2.0 * generator.normal(size=(n, 12))
    )
    found = sources(design, scores, templates)
    assert found.method == pytest.approx(closed_variances(design, method)[-1], rel=0.1)
    assert found.template == pytest.approx(1.5**2, rel=0.6)  # forty templates know no better
    assert found.prompt == pytest.approx(0.7**2, rel=0.4)  # without the residual's part taken off it is twice that
    assert found.residual == pytest.approx(2.0**2, rel=0.1)
    assert found.fsi == pytest.approx(found.method / sum(found))
    assert math.isnan(sources(design, scores).template)
    assert all(math.isnan(part) for part in sources(design, scores[:1]))


def test_the_published_areas():
    """The first worked example: main effects alone would hide what the ablation does to published areas."""
    design, values = published()
    closed = closed_variances(design, values)
    found, parts = effects(design, closed), components(design, closed)
    order = [design.factors.index(name) for name in ("task", "ablation", "method", "granularity")]
    np.testing.assert_allclose((found.first / found.variance)[order], [0.143, 0.022, 0.052, 0.012], atol=5e-4)
    np.testing.assert_allclose((found.total / found.variance)[order], [0.848, 0.617, 0.476, 0.096], atol=5e-4)
    shares = {"".join(sorted(name[0] for name in subset)): part / found.variance for subset, part in parts.items()}
    assert (shares["at"], shares["amt"], shares["t"], shares["mt"]) == pytest.approx(
        (0.318, 0.205, 0.143, 0.101), abs=5e-4
    )
    smaller = design.select(np.array([design.levels[2][code] != "hisp" for code in design.codes[:, 2]]))
    kept = values[[design.levels[2][code] != "hisp" for code in design.codes[:, 2]]]
    without = effects(smaller, closed_variances(smaller, kept))
    np.testing.assert_allclose((without.total / without.variance)[order], [0.848, 0.675, 0.269, 0.071], atol=5e-4)


def test_the_published_orders():
    design, values = published()
    tables = values.reshape(2, 8, 6)  # ablation, task, method at a granularity
    taus = [kendall_matrix(tables[:, task].T)[0, 1] for task in range(8)]
    assert taus == pytest.approx([0.33, 0.33, -0.60, 0.07, 0.33, 0.47, 0.23, -0.30], abs=5e-3)
    for task, tau in enumerate(taus):
        assert tau == pytest.approx(stats.kendalltau(*tables[:, task]).statistic)
    raw = 0
    for task in range(8):
        upper = np.triu_indices(6, 1)
        differences = (tables[:, task, :, None] - tables[:, task, None])[:, *upper].T
        found = reversals(differences, differences, differences)  # no intervals are known: every sign is taken as sure
        assert found.n == 15 and found.raw == found.significant
        raw += found.raw
    assert raw == 50


def test_weights_and_levels_that_do_not_fit():
    with pytest.raises(SpecError, match="Did you mean 'zero'"):
        Design.of("A", [["zero"], ["patch"]], {"A": {"zeros": 1.0}})
    with pytest.raises(SpecError, match="0 or more"):
        Design.of("A", [["zero"], ["patch"]], {"A": {"zero": -1.0}})
    with pytest.raises(SpecError, match="twice"):
        Design.of("A", [["zero"], ["zero"]])
    assert Design.of("AB", [["zero", "edge"], ["patch", "edge"]]).subsets == ((), (0,))
