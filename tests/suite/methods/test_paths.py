"""Paths: EAP-IG in all its readings, EAP-GP, and path increments, which are complete at every cut."""

import pytest
import torch
from discovering import scores
from oracles import ARCHITECTURES, plain_cut, small_data, small_model, written
from torch.testing import assert_close

from circuitmeter import ground_truth, load_model, load_task
from circuitmeter.suite.circuit import top_n
from circuitmeter.suite.data import Data
from circuitmeter.suite.intervention.ablation import Ablation, Alternatives
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.intervention.plain_runs import Runs
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.methods._attribution import Prompts
from circuitmeter.suite.methods._paths import gradient_path
from circuitmeter.suite.model.passes import count_passes

EXACT = dict(rtol=1e-9, atol=1e-11)
LOSS = OBJECTIVES.get("logit-difference")


def prompts_of(model, data, ablation="patch"):
    runs = Runs(model, data.batch(torch.arange(data.n)))
    alternatives = Alternatives(model, data, Ablation.parse(ablation), seed=0, batch_size=data.n)
    return Prompts(runs, alternatives, LOSS)


def plain_products(model, data, fixed_of):
    """Sum over examples of <counterfactual - clean, gradient at each reader>, some writers' outputs being fixed."""
    total = torch.zeros(model.graph.exists.shape, dtype=torch.float64)
    for i in range(data.n):
        clean, other = written(model, data.clean[i]), written(model, data.counterfactual[i])
        now = {}
        ones = model.graph.exists.double()
        plain_cut(model, data.clean[i], clean, ones, fixed_of(clean, other), now)
        kept = ones.clone().requires_grad_()
        alternative = {name: now[name] + other[name] - clean[name] for name in now}
        logits = plain_cut(model, data.clean[i], alternative, kept, fixed_of(clean, other))[-1]
        loss = logits[data.wrong[i, 0]] - logits[data.answers[i, 0]]
        total -= torch.autograd.grad(loss, kept)[0]
    return total * model.graph.exists


def layer_nodes(graph):
    groups = [[*graph.input_nodes]]
    for layer in range(graph.n_layers):
        groups.append(list(graph.writers[graph.heads(layer)]))
        if graph.mlps:
            groups.append([graph.writers[graph.mlp(layer)]])
    return groups


@pytest.mark.parametrize("architecture", ["gpt2", "attention only", "parallel blocks"])
def test_activations_interpolates_each_edge_s_own_writer(architecture):
    model, data = small_model(**{**ARCHITECTURES[architecture], "n_layers": 2}), small_data(n=2)
    graph = model.graph
    own, every = torch.zeros(graph.exists.shape), torch.zeros(graph.exists.shape)
    groups = layer_nodes(graph)
    for group in groups:
        rows = [graph.writers.index(name) for name in group]
        for share in (0.5, 1.0):
            found = plain_products(
                model, data, lambda c, o, g=group, a=share: {name: o[name] + a * (c[name] - o[name]) for name in g}
            )
            own[rows] += found[rows] / 4
            every = every + found / (4 * len(groups))
    mine = scores("eap-ig", model, data, path="activations", steps=2)
    released = scores("eap-ig", model, data, preset="reference-code-activations", steps=2)
    assert_close(mine, own.double(), rtol=1e-5, atol=1e-6)
    # Released error: every edge gets the average over the interpolations of all layer-nodes, whosever edge it is.
    assert_close(released, every.double(), rtol=1e-5, atol=1e-6)
    assert (mine - released).abs().max() > 1e-2


def test_clean_corrupted_is_the_mean_of_both_ends():
    model, data = small_model(), small_data()
    swapped = Data(data.counterfactual, data.clean, data.read, answers=data.answers, wrong=data.wrong)
    both = (scores("eap", model, data) - scores("eap", model, swapped)) / 2
    assert_close(scores("eap-ig", model, data, preset="clean-corrupted"), both, **EXACT)


def boundaries(graph, found):
    """Sum of the scores across each boundary between layers, the last before the logits."""
    later = torch.tensor([graph.reader_layer(r) for r in range(len(graph.readers))])
    return torch.stack([found[: graph.visible(layer)][:, later >= layer].sum() for layer in range(graph.n_layers + 1)])


@pytest.mark.parametrize(
    ("architecture", "ablation"),
    [*((architecture, "patch") for architecture in ARCHITECTURES), ("gpt2", "resample"), ("llama", "resample")],
)
def test_path_increments_sum_to_the_loss_difference_at_every_cut(architecture, ablation):
    smooth = {"activation": "gelu_tanh"} if "ReLU" in architecture else {}  # the second order needs a second derivative
    model, data = small_model(**{"n_layers": 2, **ARCHITECTURES[architecture], **smooth}), small_data(n=3)
    if model.config.norm != "layer":
        # Without a norm activations grow from layer to layer, and a root mean square has a pole at zero, which a path
        # between embeddings passes by: a tamer model, so that 8 steps are fine enough to see the order.
        for weight in model.parameters():
            weight.data *= 0.6
        model.embed.data += 0.5
    evaluator = Evaluator(model, data, Ablation.parse(ablation), LOSS)
    exists = model.graph.exists
    clean, corrupted = evaluator.loss(torch.stack([exists, torch.zeros_like(exists)])).tolist()
    errors = {
        steps: (
            boundaries(model.graph, scores("eap-path", model, data, ablation=ablation, steps=steps))
            - (corrupted - clean)
        )
        for steps in (8, 32)
    }
    assert errors[32].abs().max() < 0.05 * max(1, abs(corrupted - clean))
    assert errors[32].abs().max() < errors[8].abs().max() / 8  # 1/m^2 would be 16
    # EAP-IG has it at the input row alone.
    integrated = boundaries(
        model.graph, scores("eap-ig", model, data, ablation=ablation, steps=32, endpoint="midpoint")
    )
    assert (integrated[1:] - (corrupted - clean)).abs().max() > 3 * errors[32].abs().max()


def test_path_increments_along_the_gradient_path_are_complete_too():
    model, data = small_model(n_layers=2), small_data(n=3)
    evaluator = Evaluator(model, data, Ablation.parse("patch"), LOSS)
    exists = model.graph.exists
    clean, corrupted = evaluator.loss(torch.stack([exists, torch.zeros_like(exists)])).tolist()
    coarse, fine = (
        (boundaries(model.graph, scores("eap-path", model, data, path="gradient", steps=m)) - (corrupted - clean))
        .abs()
        .max()
        for m in (4, 16)
    )
    assert fine < coarse / 8 and fine < 0.02
    straight = scores("eap-path", model, data, steps=16)
    assert (straight - scores("eap-path", model, data, path="gradient", steps=16)).abs().max() > 1e-2


@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_what_the_path_does_not_reach_is_spread_over_it(ablation):
    model, data = small_model(), small_data(n=2)
    prompts = prompts_of(model, data, ablation)
    with torch.no_grad():
        logits, end = model.run(prompts.alternative_inputs, read=prompts.runs.read)
        change = (prompts.losses(logits) - prompts.losses(prompts.runs.clean[0])).mean()
        left = model.difference(prompts.cut, end)
    m, clean = 40, prompts.clean.inputs
    mean_gradient = sum(
        prompts.products(clean + (k + 0.5) / m * (prompts.alternative_inputs - clean), difference=left)
        for k in range(m)
    )
    expected = change + boundaries(model.graph, mean_gradient / (m * data.n))
    assert left.abs().max() > 1e-2
    found = boundaries(model.graph, scores("eap-path", model, data, ablation=ablation, steps=m))
    assert_close(found, expected, rtol=5e-3, atol=5e-3)


def test_unit_steps_go_down_the_distance_of_the_logits():
    model, data = small_model(), small_data()
    prompts = prompts_of(model, data)
    points = [prompts.clean.inputs, *gradient_path(prompts, 4)]
    for before, after in zip(points, points[1:], strict=False):
        assert_close(
            torch.linalg.vector_norm(after - before, dim=(0, 2, 3)), torch.ones(6).double(), rtol=1e-9, atol=1e-9
        )
    # The direction: a small step of it lowers the squared distance of the logits at every example.
    with torch.no_grad():
        target = model.run(prompts.alternative_inputs)[0]
        small = points[0] + 1e-4 * (points[1] - points[0])
        at = [(model.run(z)[0] - target).square().sum((1, 2)) for z in (points[0], small)]
    assert (at[1] < at[0]).all()


def test_the_other_direction_meets_the_gradient_at_the_goal():
    model, data = small_model(), small_data()
    prompts = prompts_of(model, data)
    start = prompts.alternative_inputs.clone().requires_grad_()
    end = prompts.clean.inputs.clone().requires_grad_()
    at_start, at_end = (
        torch.autograd.grad(prompts.loss(model.run(z, read=prompts.runs.read)[0]), z)[0] for z in (start, end)
    )
    step = at_start - at_end
    expected = start - step / torch.linalg.vector_norm(step, dim=(0, 2, 3), keepdim=True)
    (found,) = gradient_path(prompts, 1, start="alternative", direction="gradient-difference")
    assert_close(found, expected.detach(), **EXACT)


def test_an_input_node_that_the_ablation_leaves_alone_stays():
    model, data = small_model("split"), small_data()
    (found,) = gradient_path(prompts_of(model, data), 1)
    (moved,) = gradient_path(prompts_of(model, data, "zero"), 1)
    clean = model.input_nodes(data.clean)
    assert torch.equal(found[1], clean[1]) and not torch.equal(found[0], clean[0])
    assert not torch.equal(moved[1], clean[1])
    length = torch.linalg.vector_norm(moved - clean, dim=(0, 2, 3))  # of both nodes' step together
    assert_close(length, torch.ones(6).double(), **EXACT)


def test_eap_gp_averages_the_gradients_over_the_points():
    model, data = small_model(n_layers=2), small_data(n=3)
    prompts = prompts_of(model, data)
    expected = sum(prompts.products(point) for point in gradient_path(prompts, 3)) / 9
    assert_close(scores("eap-gp", model, data, steps=3), expected, **EXACT)


def test_normalising_by_batch_makes_scores_depend_on_the_batches():
    model, data = small_model(), small_data()
    whole, halves = (scores("eap-gp", model, data, preset="batch-normalised", batch_size=b) for b in (6, 3))
    assert (whole - halves).abs().max() > 1e-3
    by_example = [scores("eap-gp", model, data, batch_size=b) for b in (6, 3)]
    assert_close(*by_example, **EXACT)


def test_an_example_whose_two_sides_agree_does_not_disturb_the_others():
    model, data = small_model(), small_data(n=4)
    other = data.counterfactual.clone()
    other[0] = data.clean[0]
    mixed = Data(data.clean, other, data.read, answers=data.answers, wrong=data.wrong)
    rest = mixed.select(torch.tensor([1, 2, 3]))
    assert_close(scores("eap-gp", model, mixed), scores("eap-gp", model, rest) * 3 / 4, **EXACT)


@pytest.mark.parametrize(
    ("name", "parameters", "forward", "backward"),
    [
        ("eap-ig", {"path": "clean-corrupted"}, 4, 2),
        ("eap-ig", {"path": "activations", "steps": 2}, 2 + 7 * 2, 7 * 2),
        ("eap-gp", {"steps": 5}, 3 + 10, 10),
        ("eap-path", {"steps": 5}, 2 + 10, 5),
        ("eap", {}, 2, 1),
        ("relp", {}, 2, 1),
        ("gim", {}, 2, 1),
        ("hisp", {}, 2, 1),
        ("hisp", {"level": "edge"}, 2, 1),
        ("ifr", {}, 1, 0),
    ],
)
def test_passes_are_those_declared(name, parameters, forward, backward):
    model, data = small_model(), small_data(n=4)
    with count_passes() as passes:
        scores(name, model, data, **parameters)
    assert (passes.forward / data.n, passes.backward / data.n) == (forward, backward)


# ---- auto-circuit's integrated mask gradient -------------------------------------------------------------------------


def plain_mask_gradient(model, data, share):
    """Slope of the mean loss in the cut share of every edge, all edges kept by ``share``: autograd through the loop."""
    total = torch.zeros(model.graph.exists.shape, dtype=torch.float64)
    for i in range(data.n):
        kept = (share * model.graph.exists.double()).requires_grad_()
        logits = plain_cut(model, data.clean[i], written(model, data.counterfactual[i]), kept)[-1]
        loss = logits[data.wrong[i, 0]] - logits[data.answers[i, 0]]
        total -= torch.autograd.grad(loss, kept)[0] / data.n
    return total


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_the_mask_path_is_the_mean_slope_of_all_masks_together(architecture):
    model, data = small_model(**{**ARCHITECTURES[architecture], "n_layers": 2}), small_data(n=2)
    expected = sum(plain_mask_gradient(model, data, k / 3) for k in range(4)) / 4
    assert_close(scores("eap-ig", model, data, path="masks", steps=3, endpoint="both"), expected, **EXACT)
    (one,) = (scores("eap-ig", model, data, path="masks", steps=1, endpoint="right"),)
    assert_close(one, scores("eap", model, data), **EXACT)  # mask_gradient at the clean run is EAP


@pytest.mark.parametrize("ablation", ["patch", "zero"])
def test_the_mask_path_is_complete_over_all_edges_together(ablation):
    model, data = small_model(n_layers=1), small_data(n=2)
    evaluator = Evaluator(model, data, Ablation.parse(ablation), LOSS)
    exists = model.graph.exists
    whole, nothing = evaluator.loss(torch.stack([exists, exists & ~exists])).tolist()
    errors = [
        abs(
            float(scores("eap-ig", model, data, ablation=ablation, path="masks", steps=m, endpoint="midpoint").sum())
            - x
        )
        for m, x in ((10, nothing - whole), (40, nothing - whole))
    ]
    assert errors[1] < errors[0] / 8 and errors[1] < 0.01


# ---- means -----------------------------------------------------------------------------------------------------------


def test_our_mean_is_over_every_token_and_eap_ig_s_is_not():
    """The released code (795f560) sums each prompt's last token only and divides by its length: another number."""
    model, data = small_model(n_layers=2), small_data(n=4)
    wrote = [written(model, row) for row in data.clean]
    mean = {name: torch.stack([each[name] for each in wrote]).mean((0, 1)) for name in wrote[0]}
    last = {name: torch.stack([each[name][-1] / 5 for each in wrote]).mean(0) for name in wrote[0]}

    def eap(alternative):
        total = torch.zeros(model.graph.exists.shape, dtype=torch.float64)
        for i in range(data.n):
            kept = model.graph.exists.double().requires_grad_()
            everywhere = {name: value.expand(5, -1) for name, value in alternative.items()}
            logits = plain_cut(model, data.clean[i], everywhere, kept)[-1]
            total -= torch.autograd.grad(logits[data.wrong[i, 0]] - logits[data.answers[i, 0]], kept)[0] / data.n
        return total

    ours = scores("eap", model, data, ablation="mean")
    assert_close(ours, eap(mean), **EXACT)
    assert (ours - eap(last)).abs().max() > 0.1 * ours.abs().max()


def test_under_mean_the_path_gives_weight_to_keys_that_the_model_does_not_need():
    """Why EAP-IG's circuits of the true size do nothing on some compiled programs under mean.

    Between the mean and the prompt attention is not saturated, so that the path gives weight to what the tokens add to
    the keys, and less to the queries than the certified truth says. No edge is far out of place, and 200 steps give
    the same; but a compiled program without two of its ten edges has another output.
    """
    truth, data = ground_truth.load("tracr/pair_balance"), load_task("tracr/pair_balance").data("train")
    model, mean = load_model("tracr/pair_balance", dtype=torch.float64), Ablation.parse("mean")
    core, graph = truth.reference("mean").core, model.graph
    objective = OBJECTIVES.get("answer-difference")
    method = METHODS.get("eap-ig")
    found = method.discover(model, data, ablation=mean, objective=objective, seed=0, steps=30).scores
    chosen = top_n(found, int(core.sum())).edges
    assert set(graph.named(core & ~chosen)) == {"pos_embed->a1.h0<q>", "pos_embed->a1.h1<q>"}
    assert set(graph.named(chosen & ~core)) == {"tok_embed->a1.h0<k>", "tok_embed->a1.h1<k>"}
    masks = graph.exists.repeat(2, 1, 1)
    masks[1] &= ~(chosen & ~core)
    whole, without = Evaluator(model, data, mean, OBJECTIVES.get("l2")).loss(masks.double())
    torch.testing.assert_close(without, whole, rtol=0, atol=1e-12)
