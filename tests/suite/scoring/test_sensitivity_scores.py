"""A setting's value is the engine's own, its resamples are those of repeated rows, its influence gives its error."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from circuitmeter.suite.intervention.faithfulness import CircuitValues
from circuitmeter.suite.intervention.levels import LEVELS
from circuitmeter.suite.intervention.setting import Setting
from circuitmeter.suite.scoring.bootstrap_prompts import resample_counts
from circuitmeter.suite.scoring.sensitivity.scores import Scores, weighted_medians

AGGREGATIONS = LEVELS["aggregation"]


def measured(n=60, seed=0) -> CircuitValues:
    generator = torch.Generator().manual_seed(seed)
    full = 3 + torch.rand(n, generator=generator, dtype=torch.float64)
    circuits = full * torch.tensor([[0.8], [0.3]]) + 0.3 * torch.randn(2, n, generator=generator, dtype=torch.float64)
    empty = 0.3 * torch.rand(n, generator=generator, dtype=torch.float64)
    return CircuitValues(circuits, full, empty, -empty)


def setting(aggregation, reference="cut-graph", cut="patch") -> Setting:
    return Setting.parse(f"{cut} | kl | {aggregation} | {reference}")


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("reference", LEVELS["reference"])
def test_values_are_the_engines_own(aggregation, reference):
    found = measured()
    scores = Scores.of([found], setting(aggregation, reference))
    expected = found.faithfulness(aggregation, reference).numpy()
    np.testing.assert_allclose(scores.values()[0], expected, rtol=1e-12)
    counts = resample_counts(60, None, 20, np.random.default_rng(0))
    rows = torch.tensor(np.stack([np.repeat(np.arange(60), row) for row in counts]))
    resampled = found.faithfulness(aggregation, reference, rows).numpy().T
    np.testing.assert_allclose(scores.values(counts[..., None]), resampled, rtol=1e-12)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_influence_gives_the_standard_error_of_the_bootstrap(aggregation):
    scores = Scores.of([measured(200)], setting(aggregation))
    influence = scores.influence()
    assert influence.shape == (200, 2)
    np.testing.assert_allclose(influence.mean(0), 0, atol=0.01 * influence.std())
    counts = resample_counts(200, None, 4000, np.random.default_rng(1))
    draws = scores.values(counts[..., None])
    np.testing.assert_allclose(np.sqrt((influence**2).sum(0)) / 200, draws.std(0), rtol=0.15)
    moved = draws - scores.values()
    linear = counts @ influence / 200
    for circuit in range(2):  # and with the right sign, prompt by prompt
        assert np.corrcoef(moved[:, circuit], linear[:, circuit])[0, 1] > (0.85 if "median" in aggregation else 0.99)


def test_a_knocked_out_circuit_is_better_the_less_is_left():
    kept, cut = (Scores.of([measured()], setting("ratio-of-means", cut=cut)) for cut in ("patch", "patch/circuit"))
    np.testing.assert_allclose(cut.values(), 1 - kept.values())
    np.testing.assert_allclose(cut.influence(), -kept.influence())


def test_prompts_without_a_difference_have_no_ratio():
    full = torch.tensor([1.0, 2.0, 1e-13], dtype=torch.float64)
    found = CircuitValues(full[None] * 0.5 + torch.tensor([0, 0, 1.0]), full, torch.zeros(3, dtype=torch.float64), None)
    for aggregation in ("median-of-ratios", "mean-of-ratios"):
        assert Scores.of([found], setting(aggregation)).values()[0, 0] == pytest.approx(0.5)
    nothing = CircuitValues(full[None], full, full, None)
    for aggregation in AGGREGATIONS:
        assert math.isnan(Scores.of([nothing], setting(aggregation)).values()[0, 0])


def test_runs_of_several_pairing_seeds_are_pooled():
    first, second = measured(seed=0), measured(seed=1)
    scores = Scores.of([first, second], setting("ratio-of-means"))
    gained = sum(run.circuits.mean(1) - run.empty.mean() for run in (first, second))
    whole = sum(run.full.mean() - run.empty.mean() for run in (first, second))
    np.testing.assert_allclose(scores.values()[0], (gained / whole).numpy())
    only_second = np.zeros((1, 60, 2))
    only_second[:, :, 1] = 1
    np.testing.assert_allclose(scores.values(only_second)[0], second.faithfulness().numpy())


def test_weighted_medians_of_repeated_values():
    generator = np.random.default_rng(0)
    values, counts = generator.normal(size=9), generator.integers(0, 4, size=(50, 9))
    found = weighted_medians(values, counts)
    assert found.tolist() == [float(np.median(np.repeat(values, row))) for row in counts]
    assert math.isnan(weighted_medians(values, np.zeros((1, 9)))[0])


def test_the_medians_error_is_that_of_many_samples():
    generator = np.random.default_rng(2)
    medians = np.median(generator.normal(size=(4000, 81)), axis=1)
    ratios = stats.norm.ppf((np.arange(81) + 0.5) / 81)
    scores = Scores(ratios[None, :, None], np.ones((81, 1)), "median-of-ratios")
    error = math.sqrt((scores.influence() ** 2).sum()) / 81
    assert error == pytest.approx(medians.std(), rel=0.1)


def test_one_ratio_without_bound_does_not_make_the_error_of_a_median():
    """On a prompt on which the full model hardly differs from the reference the ratio is anything."""
    whole = np.ones((20, 1))
    gained = np.linspace(0, 1, 20)[None, :, None].copy()
    calm = Scores(gained, whole, "median-of-ratios").influence()
    whole[0], gained[0, 0] = 1e-5, -4.0  # still the lowest of all
    found = Scores(gained, whole, "median-of-ratios").influence()
    np.testing.assert_allclose(found, calm, rtol=1e-6)
    assert found.std() < 1
