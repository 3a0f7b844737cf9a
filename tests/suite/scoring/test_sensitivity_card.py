"""From the engine's runs, and from scores made up, to the card."""

import itertools
import math

import numpy as np
import pytest
import torch
from oracles import small_data, small_model

from circuitmeter.suite.circuit import Circuit
from circuitmeter.suite.data import Data
from circuitmeter.suite.intervention.faithfulness import measure_circuits
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.intervention.setting import Setting, grid
from circuitmeter.suite.scoring.null import random_circuits, size_of
from circuitmeter.suite.scoring.sensitivity.card import grid_verdicts
from circuitmeter.suite.scoring.sensitivity.design import Design
from circuitmeter.suite.scoring.sensitivity.estimate import estimate
from circuitmeter.suite.scoring.sensitivity.measure import MeasuredGrid, MeasuredSetting, measure_grid
from circuitmeter.suite.scoring.sensitivity.scores import Scores
from circuitmeter.suite.scoring.sensitivity.shares import partition
from circuitmeter.suite.scoring.sensitivity.variance import closed_variances, effects


def random_circuit(graph, share=0.5, seed=0) -> Circuit:
    return Circuit(graph, torch.rand(graph.exists.shape, generator=torch.Generator().manual_seed(seed)) < share)


def made_up(values: dict[str, list[float]], n=80, noise=0.3, templates=None, n_null=0, seed=0) -> MeasuredGrid:
    """A grid whose settings have these faithfulness values (one a circuit), plus noise from prompt to prompt; the null
    circuits of every setting lie evenly between 0 and 1."""
    generator = np.random.default_rng(seed)
    cells = []
    for text, of_circuits in values.items():
        drawn = noise * generator.normal(size=(len(of_circuits), n))
        drawn -= drawn.mean(1, keepdims=True)
        gained = np.asarray(of_circuits)[:, None] + drawn
        null = np.linspace(0, 1, n_null)[:, None].repeat(n, 1)
        rows = np.concatenate([gained, null])[..., None] * 2.0
        setting = Setting.parse(text)
        scores = Scores(rows, np.full((n, 1), 2.0), setting.aggregation)
        where = range(len(of_circuits), len(of_circuits) + n_null)
        cells.append(MeasuredSetting(setting, scores, (where,) * len(of_circuits), (False,) * len(of_circuits)))
    return MeasuredGrid(tuple(cells), {}, len(of_circuits), n, templates)


def of_grid(found: MeasuredGrid, names=("mine",), **options):
    return grid_verdicts(found, estimate(found, resamples=400), names, **{"threshold": 0.5} | options)


CLOSED_FORM = {
    f"{ablation}/{component} | kl": [2 * a + b + a * b / 2]
    for (ablation, a), (component, b) in itertools.product(
        [("patch", -1), ("mean", 0), ("zero", 1)], [("edge", -1), ("node", 1)]
    )
}
CLOSED_FORM = {text.replace("/edge", ""): value for text, value in CLOSED_FORM.items()}


def test_values_are_the_engines_and_percentiles_are_among_random_circuits_of_the_same_size():
    model, data = small_model(), small_data()
    circuits = [random_circuit(model.graph), random_circuit(model.graph, 0.06, seed=1)]
    settings = grid(ablation=["patch", "zero", "resample"], component=["edge", "node"], objective=["kl", "l2"])
    found = measure_grid(model, data, circuits, settings, n_random=6, n_pairings=2)
    assert not found.undefined and [cell.setting for cell in found.cells] == list(settings)
    estimates = estimate(found, resamples=50)
    for d, cell in enumerate(found.cells):
        cut, objective = cell.setting.cut, OBJECTIVES.get(cell.setting.objective)
        null = [random_circuits(c.graph, size_of(c, cut.component), 6, component=cut.component) for c in circuits]
        if cut.ablation.stochastic:
            assert cell.scores.n_runs == 2
            continue
        alone = measure_circuits(model, data, [*circuits, *null[0], *null[1]], cut, objective).faithfulness().numpy()
        np.testing.assert_allclose(estimates.value[:, d], alone[:2], rtol=1e-9)
        for c, rows in enumerate((alone[2:8], alone[8:])):
            tied = np.abs(rows - alone[c]) < 1e-9
            above = ((rows < alone[c]) & ~tied).mean() + tied.mean() / 2
            assert estimates.percentile[c, d] == pytest.approx(above, abs=1e-9)
    again = measure_grid(model, data, circuits, settings, n_random=6, n_pairings=2)
    assert np.array_equal(estimate(again, resamples=50).draws, estimates.draws)


def test_settings_without_a_meaning_and_without_a_denominator_are_listed():
    model, data = small_model(), small_data()
    bare = Data(data.clean, None, data.read)
    settings = grid(ablation=["patch", "zero"], objective=["kl"], reference=["none", "cut-graph"])
    found = measure_grid(model, bare, [random_circuit(model.graph)], settings, n_random=0)
    assert [str(cell.setting) for cell in found.cells] == ["zero | kl | ratio-of-means | cut-graph"]
    reasons = sorted(found.undefined.values())
    assert len(reasons) == 3 and "counterfactual" in reasons[0] + reasons[-1]
    same = Data(data.clean, data.clean, data.read)  # nothing differs: the cut graph is the model
    uncertain = measure_grid(model, same, [random_circuit(model.graph)], grid(ablation=["patch"], objective=["kl"]))
    assert not uncertain.cells and "equal up to rounding" in next(iter(uncertain.undefined.values()))


def test_the_closed_form_comes_out_of_scores():
    (found,) = of_grid(made_up(CLOSED_FORM, noise=0.0)).circuits
    first = {part.factor: part.first for part in found.variance.factors}
    total = {part.factor: part.total for part in found.variance.factors}
    assert first == pytest.approx({"ablation": 0.695652174, "component": 0.260869565}, abs=1e-9)
    assert total == pytest.approx({"ablation": 0.739130435, "component": 0.304347826}, abs=1e-9)
    assert found.variance.variance == pytest.approx(23 / 6, abs=1e-9)
    (together,) = found.variance.interactions
    assert together.factors == ("ablation", "component") and together.share == pytest.approx(1 / 23, abs=1e-9)
    assert found.variance_of_complete_part is None
    assert found.spread.worst == -2.5 and found.spread.best == 3.5


def test_noise_is_named_and_taken_off_and_the_intervals_hold_the_truth():
    (found,) = of_grid(made_up(CLOSED_FORM, noise=1.5, n=40)).circuits
    variance = found.variance
    assert variance.noise == pytest.approx(5 / 6 * 1.5**2 / 40, rel=0.25)
    assert variance.naive - variance.noise == pytest.approx(variance.variance)
    assert variance.variance_low < 23 / 6 < variance.variance_high and variance.beyond_noise
    for part, true in zip(variance.factors, (0.739130, 0.304348), strict=True):
        assert part.total_low < true < part.total_high
        assert part.total_high - part.total_low < 0.4
    sources = found.sources
    assert sources.residual == pytest.approx(1.5**2, rel=0.2)
    assert sources.fsi_low < 23 / 6 / (23 / 6 + 1.5**2) < sources.fsi_high


def test_settings_that_agree_have_no_shares():
    (found,) = of_grid(made_up({text: [1.0] for text in CLOSED_FORM}, noise=0.0)).circuits
    assert not found.variance.beyond_noise and not found.variance.factors[0].measured
    assert math.isnan(found.sources.fsi)
    (noisy,) = of_grid(made_up({text: [1.0] for text in CLOSED_FORM}, noise=1.0)).circuits
    assert not noisy.variance.beyond_noise


def test_a_grid_with_holes_has_shapley_effects_and_a_complete_part():
    holes = {text: value for text, value in CLOSED_FORM.items() if text != "zero/node | kl"}
    (found,) = of_grid(made_up(holes, noise=0.0)).circuits
    assert not found.variance.complete and found.variance.interactions is None
    assert sum(part.shapley for part in found.variance.factors) == pytest.approx(1)
    part = found.variance_of_complete_part
    assert part.complete and part.n_settings == 4 and "zero" not in part.levels["ablation"]


def test_flips_and_random_circuits():
    values = {"patch | kl": [0.9], "mean | kl": [0.6], "zero | kl": [0.35], "noise | kl": [-0.2]}
    (found,) = of_grid(made_up(values, noise=0.0, n_null=101)).circuits
    assert found.flips.hold == 0.5 and found.flips.entropy == 1.0
    assert found.spread.negative == 0.25
    percentile = [entry.percentile for entry in found.values]
    assert percentile == pytest.approx([90.5 / 101, 60.5 / 101, 35.5 / 101, 0])
    assert found.random.above.hold == 0
    assert found.values[0].random_50 == pytest.approx(0.5)
    assert found.random.variance.variance == pytest.approx(np.var(percentile))


def test_weights_of_levels_change_what_counts():
    values = {"patch | kl": [1.0], "zero | kl": [0.0]}
    (found,) = of_grid(made_up(values), level_weights={"ablation": {"patch": 3.0, "mean": 9.0}}).circuits
    assert found.spread.mean == pytest.approx(0.75) and found.flips.hold == pytest.approx(0.75)


def test_circuits_that_change_places_are_reversed_and_noise_is_not():
    values = {"patch | kl": [0.9, 0.5, 0.52], "mean | kl": [0.8, 0.5, 0.5], "zero | kl": [0.2, 0.5, 0.48]}
    found = of_grid(made_up(values, noise=0.4, n=200), ["a", "b", "c"]).comparison
    by_name = {(pair.first, pair.second): pair for pair in found.pairs}
    for rival in "bc":
        pair = by_name["a", rival]
        assert (pair.setting_pairs, pair.reversals_significant, pair.reversals_simultaneous) == (3, 2, 2)
        assert pair.first_better == pytest.approx(2 / 3) and pair.second_better == pytest.approx(1 / 3)
    assert by_name["b", "c"].reversals_raw == 1 and by_name["b", "c"].reversals_significant == 0
    assert found.reversals_significant_rate == pytest.approx(4 / 9)
    assert found.kendall_tau["ablation"]["patch"]["zero"] < found.kendall_tau["ablation"]["patch"]["mean"]
    assert found.ranks["a"] == (1, 1, 3) and found.best["a"] == pytest.approx(2 / 3)


def test_templates_that_differ_widen_the_intervals():
    templates = np.repeat(np.arange(8), 10)
    moved = made_up({"patch | kl": [0.5], "zero | kl": [0.5]}, noise=0.05, templates=templates)
    shift = 0.5 * np.random.default_rng(0).normal(size=(2, 8))[:, templates]  # in each setting another
    cells = tuple(
        MeasuredSetting(
            cell.setting,
            Scores(cell.scores.gained + own[None, :, None], cell.scores.whole, "ratio-of-means"),
            cell.null,
            cell.nothing_cut,
        )
        for cell, own in zip(moved.cells, shift, strict=True)
    )
    with_templates = MeasuredGrid(cells, {}, 1, 80, templates)
    without = MeasuredGrid(cells, {}, 1, 80, None)
    width = [np.ptp(np.array(estimate(each).interval), axis=0)[0, 0] for each in (with_templates, without)]
    assert width[0] > 2 * width[1]
    noise = [of_grid(each).circuits[0].variance.noise for each in (with_templates, without)]
    assert noise[0] > 4 * noise[1]


def test_gates_have_the_table_of_theory():
    """One input of AND restores and keeps nothing and destroys everything, of OR the other way round, of a sum half of
    either: which set is cut decides all in the first two and nothing in the third, and the direction nothing at all."""
    rows = list(itertools.product(("noising", "denoising"), ("complement", "circuit")))
    design = Design.of(("direction", "set"), rows)
    for values in ([0.0, 1.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0]):  # 1 - faithfulness where the circuit is cut
        found = effects(design, closed_variances(design, np.array(values)))
        assert (found.first / found.variance).tolist() == (found.total / found.variance).tolist() == [0.0, 1.0]
    assert closed_variances(design, np.full(4, 0.5))[-1] == 0


def test_shares_are_from_zero_to_one_where_noise_is_subtracted():
    generator = np.random.default_rng(0)
    design = Design.of(("ablation", "set"), [(a, b) for a in "xy" for b in "xy"])
    value = np.array([0.0, 0.01, 1.0, 0.99])
    found = partition(design, value, value + 0.2 * generator.standard_normal((200, 4)))
    assert found.beyond_noise
    names = [f"{kind}{end}" for kind in ("first", "total", "shapley") for end in ("", "_low", "_high")]
    ends = [getattr(part, name) for part in found.factors for name in names]
    assert min(ends) == 0 and max(ends) == 1


@pytest.mark.filterwarnings("error")
def test_few_prompts_of_as_many_templates_have_intervals_and_a_single_prompt_has_none():
    values = {f"{ablation} | kl": [level, 0.5] for ablation, level in (("patch", 0.2), ("mean", 0.9), ("zero", 0.7))}
    for n in (2, 3, 4, 5):
        found = of_grid(made_up(values, n=n, templates=np.arange(n), n_null=4), ("mine", "other"))
        assert found.resampled == ("prompts" if n < 5 else "templates, and prompts within each")
        for value in found.circuits[0].values:
            assert value.high - value.low > 0.01 and value.simultaneous_high - value.simultaneous_low > 0.01
    found = of_grid(made_up(values, n=1, templates=np.arange(1), n_null=4), ("mine", "other"))
    for circuit in found.circuits:
        assert (circuit.flips.surely, circuit.flips.surely_not) == (0, 0)
        assert not circuit.variance.beyond_noise and circuit.random.above.surely == 0
        for value in circuit.values:
            ends = (value.low, value.high, value.simultaneous_low, value.percentile_low, value.percentile_high)
            assert all(map(math.isnan, ends)) and not math.isnan(value.value)


def test_settings_are_counted_once_whatever_they_weigh():
    values = {"patch | kl": [0.6], "patch/denoising | kl": [0.9], "zero | kl": [-0.2], "zero | l2": [1.2]}
    (found,) = of_grid(made_up(values, noise=0.0)).circuits
    counts = found.counts
    assert (counts.settings, counts.reached, counts.below_zero, counts.above_one) == (4, 3, 1, 1)
    assert counts.mean == pytest.approx(0.625) and (counts.surely, counts.surely_not) == (3, 1)
    heavier = of_grid(made_up(values, noise=0.0), level_weights={"ablation": {"patch": 3.0}}).circuits[0]
    assert heavier.counts == counts and heavier.flips.hold != found.flips.hold
    assert found.model_copy(update={"counts": None}).counted == counts  # of a card of an older version


@pytest.mark.parametrize(("n", "threshold"), [(5, 1.0), (19, 1.0), (20, 0.95)])
def test_of_few_random_circuits_one_that_is_told_apart_exceeds_all(n, threshold):
    values = {"patch | kl": [1.5], "zero | kl": [0.99], "mean | kl": [0.1]}
    (found,) = of_grid(made_up(values, noise=0.0, n_null=n)).circuits
    assert found.random.above.threshold == threshold
    assert found.random.counts.reached == found.counted_above_random.reached == (2 if n == 20 else 1)


def test_what_flips_the_verdict_need_not_be_what_moves_the_value():
    """The value moves with the objective, from -4 to .5; the threshold is reached by denoising alone."""
    values = {
        f"{ablation}{direction} | {objective}": [1.0 if direction else {"kl": -4.0, "l2": 0.5}[objective]]
        for ablation, direction in (("patch", ""), ("patch", "/denoising"), ("zero", ""), ("mean", ""))
        for objective in ("kl", "l2")
    }
    (found,) = of_grid(made_up(values, noise=0.0), threshold=0.8).circuits
    assert max(found.variance.factors, key=lambda part: part.shapley).factor == "objective"
    rule = found.rule
    assert (rule.factors, rule.faithful) == (("direction",), (("denoising",),))
    assert (rule.inside, rule.reached_inside, rule.outside, rule.reached_outside) == (2, 2, 6, 0)
    assert rule.predicted == 8


def test_the_smallest_rule_that_is_right_most_often_is_taken():
    def rule(values, threshold=0.5):
        return of_grid(made_up(values, noise=0.0), threshold=threshold).circuits[0].rule

    two = {f"{a}{c} | kl": [float(a == "patch" and not c)] for a in ("patch", "zero", "mean") for c in ("", "/node")}
    found = rule(two)
    assert found.factors == ("ablation", "component") and found.faithful == (("patch", "edge"),)
    assert found.predicted == 6
    one = {text: [float(text.startswith("patch"))] for text in two}
    assert rule(one).factors == ("ablation",)
    assert rule(dict.fromkeys(two, [1.0])) is None and rule(dict.fromkeys(two, [0.0])) is None
