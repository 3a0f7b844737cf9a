"""Faithfulness over size: the circuits, the areas, the bands."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from oracles import small_data, small_model

from circuitmeter.suite.circuit import EdgeScores, greedy, top_n
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.faithfulness import CircuitValues, measure_circuits
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.intervention.setting import Cut
from circuitmeter.suite.scoring.faithfulness_curve import circuits_by_size, faithfulness_curve
from circuitmeter.suite.scoring.published import MIB_FRACTIONS, cmd, cpr


def random_scores(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return EdgeScores(model.graph, torch.randn(model.graph.exists.shape, generator=generator))


def test_circuits_are_those_of_the_selection_at_the_sizes_asked_for():
    scores = random_scores(small_model())
    n_edges = scores.graph.n_edges
    for selection, select in (("greedy", greedy), ("top-n", top_n)):
        for absolute in (True, False):
            sized = circuits_by_size(scores, selection=selection, absolute=absolute)
            assert [each.fraction for each in sized] == list(MIB_FRACTIONS)
            for each in sized:
                expected = select(scores, int(each.fraction * n_edges), absolute)
                assert torch.equal(each.circuit.edges, expected.edges)
    assert sized[-1].circuit.n_edges == n_edges and sized[0].circuit.n_edges == 0


def measured_curve(model, data, sized):
    cut, objective = Cut(Ablation.parse("patch")), OBJECTIVES.get("logit-difference")
    return measure_circuits(model, data, [each.circuit for each in sized], cut, objective)


def test_the_curve_holds_sizes_values_and_areas():
    model, data = small_model(n_layers=2), small_data(12)
    sized = circuits_by_size(random_scores(model), (0.05, 0.3, 0.7, 1.0))
    measured = measured_curve(model, data, sized)
    curve = faithfulness_curve(sized, measured)
    assert curve.faithfulness[-1] == pytest.approx(1) and curve.edges[-1] == model.graph.n_edges
    assert (curve.pruned <= curve.edges).all() and (curve.pruned < curve.edges).any()
    assert curve.faithfulness == pytest.approx(measured.faithfulness().numpy())
    assert (curve.low <= curve.faithfulness + 1e-12).all() and (curve.faithfulness <= curve.high + 1e-12).all()
    assert curve.low[-1] == pytest.approx(1) == curve.high[-1]
    assert curve.areas["cpr"][0] == pytest.approx(cpr(curve.fractions, curve.faithfulness))
    assert curve.areas["cmd_log"][0] == pytest.approx(cmd(curve.fractions, curve.faithfulness, log=True))
    value, low, high = curve.areas["cpr"]
    assert low <= value <= high and low < high


def test_what_is_undefined_has_no_interval():
    """Prompts that are their own counterfactuals: resampled rounding is no interval."""
    model, data = small_model(n_layers=2), small_data(12)
    same = replace(data, counterfactual=data.clean)
    sized = circuits_by_size(random_scores(model), (0.05, 0.3))
    curve = faithfulness_curve(sized, measured_curve(model, same, sized))
    for values in (curve.faithfulness, curve.low, curve.high, *curve.areas.values()):
        assert np.isnan(values).all()


def synthetic(spread, templates):
    """Circuits at .5 whose prompts differ between templates only: [2, N] values, full 1, empty 0."""
    offsets = np.random.default_rng(0).normal(0, spread, templates.max() + 1)[templates]
    circuits = torch.from_numpy(np.stack([0.5 + offsets, np.ones(len(templates))]))
    n = len(templates)
    return CircuitValues(circuits, torch.ones(n).double(), torch.zeros(n).double(), None)


def test_templates_are_the_blocks_of_the_band():
    """40 prompts of each of 10 templates that alone differ: prompts drawn one by one would make the band too narrow."""
    templates = np.repeat(np.arange(10), 40)
    model = small_model(n_layers=1)
    sized = circuits_by_size(random_scores(model), (0.5, 1.0))
    measured = synthetic(0.3, templates)
    wide = faithfulness_curve(sized, measured, templates=templates)
    narrow = faithfulness_curve(sized, measured)
    widths = [curve.high[0] - curve.low[0] for curve in (wide, narrow)]
    assert widths[0] > 4 * widths[1]
    spread = measured.circuits[0].numpy().reshape(10, 40).mean(1).std(ddof=1)
    assert widths[0] == pytest.approx(2 * 1.96 * spread / np.sqrt(10), rel=0.25)
    assert wide.high[1] == wide.low[1] == 1


def test_other_aggregations_resample_the_same_prompts():
    templates = np.arange(60)
    measured = synthetic(0.3, templates)
    sized = circuits_by_size(random_scores(small_model(n_layers=1)), (0.5, 1.0))
    ratio, mean, median = (
        faithfulness_curve(sized, measured, aggregation=aggregation, resamples=200)
        for aggregation in ("ratio-of-means", "mean-of-ratios", "median-of-ratios")
    )
    # All prompts weigh alike here, so the two means are the same, resample by resample.
    assert mean.low == pytest.approx(ratio.low) and mean.high == pytest.approx(ratio.high)
    assert median.faithfulness[0] == pytest.approx(np.median(measured.circuits[0]))
    assert median.low[0] < median.faithfulness[0] < median.high[0]


def test_one_prompt_has_no_band_and_one_size_no_area():
    model, data = small_model(n_layers=1), small_data(1)
    sized = circuits_by_size(random_scores(model), (0.5,))
    curve = faithfulness_curve(sized, measured_curve(model, data, sized))
    assert np.isnan(curve.low).all() and np.isnan(curve.areas["cpr"]).all() and np.isfinite(curve.faithfulness).all()
