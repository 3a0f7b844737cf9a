"""The noise ablation's moments and seed; the optimal ablation's constants against their closed form."""

import functools

import pytest
import torch
from oracles import linear_model, small_data, small_model
from torch.testing import assert_close

from circuitmeter.suite.data import Data
from circuitmeter.suite.errors import SpecError
from circuitmeter.suite.intervention.ablation import Ablation, Alternatives
from circuitmeter.suite.intervention.ablations.noise import standard_noise
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.intervention.optimal_constants import distance
from circuitmeter.suite.intervention.plain_runs import Runs


def cut_edges_carry(text, data, model, seed=0, batch_size=512):
    source = Alternatives(model, data, Ablation.parse(text), seed=seed, batch_size=batch_size)
    found = [source.of(Runs(model, batch)) for batch in data.batches(batch_size)]
    return torch.cat([cut["head", 1].expand(-1, -1, data.clean.shape[1], -1) for cut in found], dim=1)  # [H, N, P, E]


def test_noise_has_the_mean_and_the_spread_of_the_activations():
    model, data = small_model(), small_data(n=1000)
    noise = cut_edges_carry("noise", data, model)
    with torch.no_grad():
        clean = model.run(model.input_nodes(data.clean))[1]["head", 1]
    deviation = clean.std((1, 2), correction=0)
    error = deviation / (1000 * 5) ** 0.5
    assert ((noise.mean((1, 2)) - clean.mean((1, 2))).abs() < 5 * error).all()
    assert_close(noise.std((1, 2)), deviation, rtol=0.05, atol=0.0)
    # Pooled over positions, no position keeps its own mean; apart, each does.
    apart = cut_edges_carry("noise[position=yes]", data, model)
    by_position = clean.mean(1)
    assert ((apart.mean(1) - by_position).abs() < 6 * clean.std(1) / 1000**0.5).all()
    assert ((noise.mean(1) - by_position).abs() > 0.2 * deviation[:, None]).any()


def test_noise_depends_on_the_seed_and_the_row_and_on_nothing_else():
    model, data = small_model(), small_data(n=7)
    whole = cut_edges_carry("noise", data, model)
    assert_close(cut_edges_carry("noise", data, model, batch_size=2), whole, rtol=1e-12, atol=1e-12)
    assert (cut_edges_carry("noise", data, model, seed=1) - whole).abs().min() > 0
    like = Alternatives(model, data, Ablation.parse("mean"), seed=0, batch_size=7).of(
        Runs(model, data.batch(torch.tensor([5])))
    )
    first, second = (standard_noise(like, torch.tensor(rows), 3)["head", 0] for rows in ([5], [2, 5]))
    assert torch.equal(first[:, 0], second[:, 1]) and not torch.equal(second[:, 0], second[:, 1])


def test_noise_without_spread_is_the_mean():
    model = small_model()
    same = Data(torch.ones(4, 3, dtype=torch.long), None, torch.ones(4, 3, dtype=torch.bool))
    noise, mean = (cut_edges_carry(name, same, model) for name in ("noise[position=yes]", "mean-positional"))
    assert_close(noise, mean.expand_as(noise), rtol=1e-6, atol=1e-6)


def test_noise_prints_as_it_parses_and_takes_the_options_of_the_mean():
    assert str(Ablation.parse("noise")) == "noise" and Ablation.parse("noise").stochastic
    text = "noise[over=batch,position=yes,prompts=both]"
    assert str(Ablation.parse(text)) == text and Ablation.parse(text).needs_counterfactuals
    assert str(Ablation.parse("optimal")) == "optimal" and not Ablation.parse("optimal").stochastic
    with pytest.raises(SpecError, match="others none"):
        Ablation.parse("optimal[over=batch]")


def some_circuits(model):
    """Masks [3, W, R]: nothing kept, a few edges kept, one edge cut."""
    half = model.graph.matrix(["input->m0", "m0->m1", "m1->logits"])
    but_one = model.graph.exists.clone()
    but_one[model.graph.index("m0->logits")] = False
    return torch.stack([torch.zeros_like(half), half, but_one])


def test_with_everything_cut_a_linear_model_s_optimal_output_is_the_mean_of_its_outputs():
    model, data = linear_model(n_layers=1), small_data(n=40)
    evaluator = Evaluator(model, data, Ablation.parse("optimal"), OBJECTIVES.get("l2"))
    nothing = torch.zeros(1, *model.graph.exists.shape)
    with torch.no_grad():
        clean = model(data.clean, data.read)
        # A bias serves the one position that is read; the position embedding is on no edge.
        best = clean.mean(0)
    assert_close(evaluator.outputs(nothing)[0], best.expand_as(clean), rtol=0, atol=0.05 * float(clean.std()))
    assert_close(evaluator.loss(nothing)[0], (clean - best).square().mean().double(), rtol=3e-3, atol=0)


def test_with_one_edge_cut_a_linear_model_s_optimal_constant_is_the_regression_of_what_is_missing():
    model, data = linear_model(n_layers=1), small_data(n=40)
    mask = model.graph.exists.clone()
    mask[model.graph.index("m0->logits")] = False
    evaluator = Evaluator(model, data, Ablation.parse("optimal"), OBJECTIVES.get("l2"))
    with torch.no_grad():
        written = model.outputs(model.run(model.input_nodes(data.clean))[1])
        missing = written[model.graph.writers.index("m0"), :, -1] @ model.unembed  # [N, d_out]
    # The best constant's image is the mean of the missing part; the rest of its variance is the loss.
    expected = (missing - missing.mean(0)).square().mean()
    assert_close(evaluator.loss(mask[None])[0], expected, rtol=3e-3, atol=1e-12)


@pytest.fixture(scope="module")
def evaluated():
    """``evaluated(ablation, objective)``: an evaluator on one model. It keeps the constants that it has learned."""
    model, data = small_model(n_layers=2), small_data(n=12)
    return functools.cache(
        lambda ablation, objective: Evaluator(model, data, Ablation.parse(ablation), OBJECTIVES.get(objective))
    )


@pytest.mark.parametrize("objective", ["kl", "l2"])
def test_optimal_never_does_worse_than_zero_or_mean(objective, evaluated):
    masks = some_circuits(small_model(n_layers=2))
    losses = {name: evaluated(name, objective).loss(masks) for name in ("optimal", "zero", "mean")}
    assert (losses["optimal"] <= torch.minimum(losses["zero"], losses["mean"]) + 1e-12).all()
    assert float(losses["optimal"][1]) < 0.7 * min(float(losses[name][1]) for name in ("zero", "mean"))


def test_each_circuit_has_constants_of_its_own_on_a_distance_also_where_the_objective_has_no_floor(evaluated):
    model, data = small_model(n_layers=2), small_data(n=12)
    assert distance(OBJECTIVES.get("logit-difference"), model).name == "kl"
    assert distance(OBJECTIVES.get("answer-difference"), small_model(d_out=1)).name == "l2"
    masks = some_circuits(model)
    together, floorless = (evaluated("optimal", name) for name in ("kl", "logit-difference"))
    alone = Evaluator(model, data, Ablation.parse("optimal"), OBJECTIVES.get("kl"))
    assert_close(together.loss(masks)[1:2], alone.loss(masks[1:2]), rtol=1e-6, atol=1e-9)
    first, second = together.constants(masks)[:2]
    assert (first - second).abs().max() > 1e-2
    assert torch.equal(floorless.constants(masks[1:2]), alone.constants(masks[1:2]))
    assert floorless.loss(masks[1:2]).isfinite().all()


def test_with_nothing_cut_the_optimal_ablation_is_the_plain_model():
    model, data = small_model(), small_data()
    evaluator = Evaluator(model, data, Ablation.parse("optimal"), OBJECTIVES.get("kl"))
    assert float(evaluator.loss(model.graph.exists[None])[0]) < 1e-12
