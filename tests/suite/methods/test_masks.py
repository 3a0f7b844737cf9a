"""Gates against their golden table and finite differences; the Lagrangian on a problem whose frontier is known."""

import math

import pytest
import torch
from oracles import small_data, small_model
from torch.testing import assert_close

from circuitmeter.suite.data import Data
from circuitmeter.suite.errors import MethodError, NotFinite
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.methods import _masks as masks
from circuitmeter.suite.methods.ugs import averaged_gate

# log alpha: P(gate = 0), P(gate = 1), in between, mean, Edge Pruning's gate without noise.
HARD_CONCRETE = {
    -4.0: (0.916934, 0.003689, 0.079376, 0.023617, 0.008163),
    -2.0: (0.599025, 0.026633, 0.374342, 0.142676, 0.083173),
    -1.0: (0.354665, 0.069229, 0.576106, 0.292946, 0.231475),
    0.0: (0.168178, 0.168178, 0.663644, 0.500000, 0.500000),
    1.0: (0.069229, 0.354665, 0.576106, 0.707054, 0.768525),
    2.0: (0.026633, 0.599025, 0.374342, 0.857324, 0.916827),
    4.0: (0.003689, 0.916934, 0.079376, 0.976383, 0.991837),
    10.0: (0.000009, 0.999775, 0.000215, 0.999939, 0.999994),
}
LOGITS = [-4.0, -1.5, 0.0, 0.7, 3.0]


def midpoints(n):
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def summary(gate):
    """(share at zero, share at one, share in between, mean)."""
    shut, full = (gate == 0).double().mean(), (gate == 1).double().mean()
    return [float(value) for value in (shut, full, 1 - shut - full, gate.mean())]


@pytest.mark.parametrize("log_alpha", HARD_CONCRETE)
def test_hard_concrete_is_the_golden_table(log_alpha):
    value = torch.tensor(log_alpha, dtype=torch.float64)
    found = summary(masks.hard_concrete(value, midpoints(2_000_000)))
    found += [float(masks.soft_gate(value))]
    assert found == pytest.approx(HARD_CONCRETE[log_alpha], abs=1.1e-6)
    assert 1 - float(masks.probability_open(value)) == pytest.approx(HARD_CONCRETE[log_alpha][0], abs=6e-7)


def test_the_table_tells_the_stretch_of_a_released_code_apart():
    """The baseline of the UGS release stretches by (c - 0.1) * 1.2 in place of 1.2 c - 0.1."""
    concrete = ((midpoints(100_000).logit() + 1.0) / masks.BETA).sigmoid()
    wrong = summary(((concrete - 0.1) * 1.2).clamp(0, 1))
    right = summary(masks.hard_concrete(torch.tensor(1.0, dtype=torch.float64), midpoints(100_000)))
    assert right == pytest.approx(HARD_CONCRETE[1.0][:4], abs=2e-5)
    assert max(abs(a - b) for a, b in zip(wrong, right, strict=True)) > 0.01


@pytest.mark.parametrize("logit", LOGITS)
@pytest.mark.parametrize("gate", [masks.hard_concrete, masks.soft_gate, masks.probability_open])
def test_gradients_of_gates_are_finite_differences(gate, logit):
    u = [torch.linspace(0.03, 0.97, 50, dtype=torch.float64)] if gate is masks.hard_concrete else []
    value = torch.full((50,), logit, dtype=torch.float64, requires_grad=True)
    gate(value, *u).sum().backward()
    step = 1e-6
    with torch.no_grad():
        expected = (gate(value + step, *u) - gate(value - step, *u)) / (2 * step)
    assert_close(value.grad, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("logit", LOGITS)
def test_uniform_gate_has_the_mean_theta_and_a_window_of_its_variance(logit):
    theta = 1 / (1 + math.exp(-logit))
    gate = masks.uniform_gate(torch.tensor(logit, dtype=torch.float64), midpoints(2_000_000))
    shut, full, between, mean = summary(gate)
    assert mean == pytest.approx(theta, abs=1e-6)
    assert between == pytest.approx(theta * (1 - theta), abs=1e-6)
    assert full == pytest.approx(theta - theta * (1 - theta) / 2, abs=1e-6)


@pytest.mark.parametrize("logit", LOGITS)
def test_uniform_gate_moves_as_its_threshold_does_in_a_fixed_window(logit):
    u = midpoints(1000)
    value = torch.full((1000,), logit, dtype=torch.float64, requires_grad=True)
    masks.uniform_gate(value, u).sum().backward()
    theta = value.detach().sigmoid()
    width = theta * (1 - theta)
    step = 1e-6 * width

    def gate(moved):
        return 1 - ((u - moved) / width + 0.5).clamp(0, 1)

    by_theta = (gate(theta + step) - gate(theta - step)) / (2 * step)
    # A step over the window's border is half a derivative: leave those few out.
    smooth = ((u - theta).abs() - width / 2).abs() > 2 * step
    assert_close(value.grad[smooth], (by_theta * width)[smooth], rtol=1e-5, atol=1e-8)


def test_the_averaged_gate_is_the_uniform_gate_with_its_gradient_averaged_over_the_samples_inside():
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(1, 400, 3, generator=generator, dtype=torch.float64)
    logits = torch.tensor([[[-1.0, 0.0, 2.0]]], dtype=torch.float64, requires_grad=True)
    slopes = torch.randn(1, 400, 3, generator=generator, dtype=torch.float64)
    gate = averaged_gate(logits, u)
    assert torch.equal(gate.detach(), masks.uniform_gate(logits.detach(), u))
    (gate * slopes).mean(1).sum().backward()
    theta = logits.detach().sigmoid()[0, 0]
    for edge in range(3):
        inside = (gate[0, :, edge] > 0) & (gate[0, :, edge] < 1)
        average = slopes[0, inside, edge].mean()
        assert_close(logits.grad[0, 0, edge], average * theta[edge] * (1 - theta[edge]), rtol=1e-9, atol=0)
    # As in the released code, a gate near an end of the window is not counted; its gradient is added.
    centre = torch.tensor([[[0.0]]], dtype=torch.float64, requires_grad=True)
    gate = averaged_gate(centre, torch.tensor([0.5, 0.6, 0.6249], dtype=torch.float64)[None, :, None], margin=1e-3)
    assert 0 < gate[0, 2, 0] < 1e-3
    (gate * torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)[None, :, None]).mean(1).sum().backward()
    assert_close(centre.grad.item(), 0.25 * (1 + 2 + 4) / 2, rtol=1e-12, atol=0)
    near = torch.tensor([[[0.0]]], dtype=torch.float64, requires_grad=True)
    averaged_gate(near, torch.full((1, 1, 1), 0.6249, dtype=torch.float64), margin=1e-3).sum().backward()
    assert near.grad.item() == 0
    # Nothing inside: no gradient, and no division by zero.
    alone = torch.tensor([[[5.0]]], dtype=torch.float64, requires_grad=True)
    averaged_gate(alone, torch.full((1, 2, 1), 0.01, dtype=torch.float64)).sum().backward()
    assert alone.grad.item() == 0


@pytest.mark.parametrize("temperature", [0.01, 1.0])
@pytest.mark.parametrize("logit", LOGITS)
def test_gumbel_gates_are_one_with_probability_sigmoid_at_any_temperature(logit, temperature):
    value = torch.full((1_000_000,), logit, dtype=torch.float64, requires_grad=True)
    u = midpoints(1_000_000)
    gate = masks.gumbel_sigmoid(value, u, temperature)
    assert set(gate.detach().round(decimals=9).unique().tolist()) <= {0.0, 1.0}
    assert float(gate.detach().mean()) == pytest.approx(1 / (1 + math.exp(-logit)), abs=2e-6)
    few = slice(None, None, 100_000)
    gate[few].sum().backward()
    relaxed = ((logit + u.logit()) / temperature).sigmoid()
    assert_close(value.grad[few], (relaxed * (1 - relaxed) / temperature)[few], rtol=1e-6, atol=1e-9)


def test_edge_values_become_masks_where_edges_are():
    graph = small_model().graph
    values = torch.arange(1.0, graph.n_edges + 1)
    matrix = masks.to_matrix(graph, values[None])[0]
    assert torch.equal(matrix[graph.exists], values) and not matrix[~graph.exists].any()


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.93])
def test_the_bisected_threshold_leaves_the_share_that_was_asked_for(sparsity):
    values = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    threshold = masks.bisect_threshold(values, sparsity)
    assert float((values <= threshold).double().mean()) == pytest.approx(sparsity, abs=2e-3)


# ---- the Lagrangian: minimise sum c (1 - z)^2 with mean(1 - z) held at t: 1 - z is proportional to 1 / c -------------


COSTS = torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=torch.float64)


def held(targets, multiplier_weight_decay=0.0, steps=1500):
    targets = torch.tensor(targets, dtype=torch.float64)
    closed = torch.full((len(targets), 4), 0.05, dtype=torch.float64, requires_grad=True)
    limit = masks.Lagrangian(targets, warmup=300)
    multipliers = limit.multipliers()

    def loss(step):
        sparsity = closed.mean(1)
        return (COSTS * closed.square()).sum(1) + limit(sparsity, multipliers, step), {"sparsity": sparsity}

    groups = [
        {"params": [closed], "lr": 0.02},
        {"params": [multipliers], "lr": 0.1, "weight_decay": multiplier_weight_decay, "maximize": True},
    ]
    curve = masks.train(groups, loss, steps=steps, rate=masks.warm_up_and_decay(10, steps))
    return closed.detach(), multipliers.detach(), curve


def test_the_lagrangian_reaches_its_targets_along_the_known_frontier():
    closed, multipliers, curve = held([0.2, 0.4])
    assert_close(closed.mean(1), torch.tensor([0.2, 0.4], dtype=torch.float64), rtol=0, atol=2e-3)
    share = (1 / COSTS) / (1 / COSTS).sum()
    assert_close(closed, 4 * closed.mean(1, keepdim=True) * share, rtol=0.02, atol=1e-3)
    assert (multipliers[0] < 0).all()  # it pays for sparsity
    # The price at the frontier: 2 c (1 - z) = -lambda1 / 4 once the gap is closed.
    assert_close(-multipliers[0].double() / 4, (2 * COSTS * closed).mean(1), rtol=0.05, atol=0)
    assert curve["step"][0] == 0 and curve["step"][-1] == 1499 and len(curve["step"]) == 41
    assert len(curve["sparsity"][0]) == 2


def test_decayed_multipliers_let_go_of_the_target():
    kept, lost = (float(held([0.4], decay)[0].mean()) for decay in (0.0, 1.0))
    assert kept == pytest.approx(0.4, abs=2e-3) and lost < 0.37


def test_the_target_warms_up_linearly():
    limit = masks.Lagrangian(torch.tensor([0.8]), warmup=100)
    multipliers = torch.tensor([[1.0], [0.0]])
    assert [float(limit(torch.tensor([0.8]), multipliers, step)) for step in (0, 50, 100, 900)] == pytest.approx(
        [0.8, 0.4, 0, 0]
    )


def test_the_lagrangian_is_linear_and_quadratic_in_the_gap():
    limit = masks.Lagrangian(torch.tensor([0.5, 0.5]), warmup=0)
    multipliers = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    assert limit(torch.tensor([0.8, 0.8]), multipliers, 1).tolist() == pytest.approx([0.9, 0.18])


def test_learning_rates_rise_and_fall_linearly():
    rate = masks.warm_up_and_decay(10, 110)
    assert [rate(step) for step in (0, 5, 10, 60, 110)] == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_gradients_are_clipped_mask_by_mask():
    parameter = torch.zeros(2, 3, requires_grad=True)
    parameter.grad = torch.tensor([[30.0, 40.0, 0.0], [0.3, 0.4, 0.0]])
    masks._clip([parameter], 5.0, [slice(None)])
    assert_close(parameter.grad, torch.tensor([[3.0, 4.0, 0.0], [0.3, 0.4, 0.0]]))
    parameter.grad = torch.tensor([[30.0, 40.0, 6.0], [0.3, 0.4, 9.0]])
    masks._clip([parameter], 5.0, [torch.tensor([0, 1]), torch.tensor([2])])
    assert_close(parameter.grad, torch.tensor([[3.0, 4.0, 5.0], [0.3, 0.4, 5.0]]))


def test_a_mask_that_has_not_moved_is_an_error():
    start = torch.zeros(2, 3)
    masks.check_moved(start, start + 1)
    with pytest.raises(MethodError, match="1 of 2 masks never left their initial value"):
        masks.check_moved(start, torch.tensor([[0.0, 0.1, 0.0], [0.0, 0.0, 0.0]]))


def test_a_loss_that_is_no_number_is_an_error():
    parameter = torch.ones(1, 2, requires_grad=True)
    with pytest.raises(NotFinite, match="step 0"):
        masks.train([{"params": [parameter], "lr": 0.1}], lambda step: (parameter.sum(1) / 0, {}), steps=3)


# ---- prompts, and gradients of the cut pass --------------------------------------------------------------------------


def test_an_epoch_s_losses_average_to_the_loss_of_all_prompts():
    model, data = small_model(), small_data(n=11)
    lengths = torch.tensor([3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 4])
    read = torch.zeros_like(data.read)
    read[torch.arange(11), lengths - 1] = True
    ragged = Data(data.clean, data.counterfactual, read, lengths)
    settings = (model, ragged, Ablation.parse("patch"), OBJECTIVES.get("kl"))
    prompts = masks.TrainingBatches(*settings, seeds=[0], batch_size=3)
    half = 0.5 * model.graph.exists[None].double()
    drawn = [prompts.draw() for _ in prompts.batches]
    assert sorted(torch.cat([ready.batch.rows for ready in drawn]).tolist()) == list(range(11))
    average = sum(prompts.loss(ready, half) for ready in drawn) / len(drawn)
    assert_close(average, Evaluator(*settings).loss(half), rtol=1e-9, atol=1e-12)


def test_every_seed_sees_the_prompts_in_one_order_and_the_ablation_as_it_is_evaluated():
    model, data = small_model(), small_data(n=12)
    settings = (model, data, Ablation.parse("resample"), OBJECTIVES.get("kl"))
    orders = [
        [ready.batch.rows.tolist() for ready in masks.TrainingBatches(*settings, seeds=[seed], batch_size=4).batches]
        for seed in (0, 1)
    ]
    assert orders[0] == orders[1] != [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    ready = masks.TrainingBatches(*settings, seeds=[1], batch_size=4).batches[0]
    same = Evaluator(*settings, seed=1).prepare(data.batch(ready.batch.rows))
    assert torch.equal(ready.alternative.activations["mlp", 1][0], same.alternative.activations["mlp", 1][0])


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("also_cut", [[], ["input->a0.h0<q>"]])
def test_edges_wholly_cut_or_kept_have_gradients_also_at_nodes_that_lead_nowhere(causal, also_cut):
    model, data = small_model(n_layers=2, causal=causal), small_data(n=3)
    prompts = masks.TrainingBatches(model, data, Ablation.parse("patch"), OBJECTIVES.get("kl"), seeds=[0], batch_size=3)
    ready = prompts.draw()
    kept = model.graph.exists.double()
    kept[model.graph.writers.index("m0")] = 0  # m0 leads nowhere, and reads a0.h1
    for edge in also_cut:
        kept[model.graph.index(edge)] = 0
    mask = kept[None].clone().requires_grad_()
    prompts.loss(ready, mask).sum().backward()
    for edge in ("m0->logits", "input->a0.h0<k>", "input->a0.h1<v>", "a0.h1->m1", "input->a1.h0<k>"):
        w, r = model.graph.index(edge)
        with torch.no_grad():
            values = []
            for step in (1e-5, -1e-5):
                moved = kept[None].clone()
                moved[0, w, r] += step
                values.append(prompts.loss(ready, moved)[0])
        assert_close(mask.grad[0, w, r], (values[0] - values[1]) / 2e-5, rtol=1e-5, atol=1e-9)
        assert also_cut or edge not in ("m0->logits", "input->a0.h1<v>") or mask.grad[0, w, r].abs() > 1e-6
