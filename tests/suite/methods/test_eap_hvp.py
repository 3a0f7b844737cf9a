"""The second order of each edge's cut, by differences of plain runs, and what the correction makes of it."""

import pytest
import torch
from discovering import discover, scores
from oracles import ARCHITECTURES, linear_model, plain_cut, small_data, small_model, written
from torch.testing import assert_close

from circuitmeter.suite.errors import SpecError, Undefined
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.model.passes import count_passes

STEP = 1e-3


def loss_of(logits, data, row):
    return float(logits[-1, data.wrong[row, 0]] - logits[-1, data.answers[row, 0]])


def differences(at):
    """First and second derivative at zero of a function, by five points: errors of the fourth power of the step."""
    far, near, middle, above, beyond = (at(k * STEP) for k in (-2, -1, 0, 1, 2))
    first = (far - 8 * near + 8 * above - beyond) / (12 * STEP)
    return first, (-far + 16 * near - 30 * middle + 16 * above - beyond) / (12 * STEP**2)


def of_edges(model, data):
    """First and second derivative of each prompt's loss in how far each edge is cut: [2, N, W, R]."""
    exists = model.graph.exists
    found = torch.zeros(2, data.n, *exists.shape, dtype=torch.float64)
    for row in range(data.n):
        alternative = written(model, data.counterfactual[row])
        for w, r in exists.nonzero().tolist():

            def cut(share, w=w, r=r, row=row, alternative=alternative):
                kept = exists.double()
                kept[w, r] = 1 - share
                return loss_of(plain_cut(model, data.clean[row], alternative, kept), data, row)

            found[0, row, w, r], found[1, row, w, r] = differences(cut)
    return found


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "parallel blocks", "attention only"])
def test_scores_are_slope_and_half_the_curvature_of_each_cut(architecture):
    model, data = small_model(**{**ARCHITECTURES[architecture], "n_layers": 1}), small_data(n=2)
    first, second = of_edges(model, data)
    expected = first.mean(0) + second.mean(0) / 2
    assert_close(scores("eap-hvp", model, data), expected, rtol=1e-5, atol=1e-6)
    assert (second.mean(0) / 2).abs().max() > 1e-3, "there is a second order"
    assert_close(scores("eap-hvp", model, data, correct="none", steps=3), scores("eap", model, data))


def test_flags_are_where_the_second_order_rivals_the_first():
    model, data = small_model(n_layers=1), small_data(n=2)
    first, second = of_edges(model, data)
    ratio = (second.abs().mean(0) / 2) / first.abs().mean(0)
    limit = float(ratio[model.graph.exists].median()) * 1.001
    found = discover("eap-hvp", model, data, correct="flagged", unreliable=limit)
    flagged = (ratio >= limit) & model.graph.exists
    assert (
        found.diagnostics["unreliable"] == model.graph.named(flagged) and 3 < int(flagged.sum()) < model.graph.n_edges
    )
    expected = first.mean(0) + torch.where(flagged, second.mean(0) / 2, 0.0)
    assert_close(found.scores.values.nan_to_num(), expected, rtol=1e-5, atol=1e-6)


def test_what_rounding_leaves_of_two_orders_is_not_flagged():
    """What the first MLP writes is the same in every direction, and each reader's norm takes it away."""
    model, data = small_model(n_layers=2), small_data(n=2)
    for weight in (model.blocks[0].W_out, model.blocks[0].b_out):
        weight.data = weight.data[..., :1].expand(weight.shape).clone()
    for each in (model, model.float()):
        for level in ("edge", "node"):
            flagged = discover("eap-hvp", each, data, level=level, unreliable=1e-9).diagnostics["unreliable"]
            assert len(flagged) > 5 and not any(name.startswith("m0") for name in flagged)


def test_a_node_is_cut_on_all_its_edges_together():
    model, data = small_model(n_layers=2), small_data(n=2)
    graph, nodes = model.graph, {}
    for name in graph.writers:
        total = 0.0
        for row in range(data.n):
            clean, other = written(model, data.clean[row]), written(model, data.counterfactual[row])

            def moved(share, name=name, row=row, clean=clean, other=other):
                fixed = {name: clean[name] + share * (other[name] - clean[name])}
                return loss_of(plain_cut(model, data.clean[row], other, graph.exists.double(), fixed), data, row)

            first, second = differences(moved)
            total += (first + second / 2) / data.n
        nodes[name] = total
    found = discover("eap-hvp", model, data, preset="node").scores.values
    for w, r in graph.exists.nonzero().tolist():
        ends = [nodes.get(graph.node_of_reader(graph.readers[r])), nodes[graph.writers[w]]]
        expected = min((end for end in ends if end is not None), key=abs)
        assert float(found[w, r]) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("ablation", "objective"),
    [("patch", "kl"), *((name, "logit-difference") for name in ("patch", "zero", "mean", "resample", "noise"))],
)
def test_with_more_steps_it_comes_to_exact_patching(ablation, objective):
    model, data = small_model(n_layers=1), small_data(n=3)
    given = {"ablation": ablation, "objective": objective}
    exact = scores("exact", model, data, **given)
    one, four = (float((scores("eap-hvp", model, data, **given, steps=n) - exact).abs().mean()) for n in (1, 4))
    assert one > 4 * four > 0  # at least with the number of steps; in the long run with its square


def test_in_a_linear_model_there_is_no_second_order():
    model, data = linear_model(), small_data()
    found = discover("eap-hvp", model, data)
    assert_close(found.scores.values.nan_to_num(), scores("exact", model, data), rtol=1e-9, atol=1e-10)
    moving = [name for name in found.diagnostics["unreliable"] if "<q>" not in name and "<k>" not in name]
    assert moving == []


def test_a_divergence_is_seen_by_its_curvature_alone():
    """At the clean run it has no slope: EAP refuses it, and to second order every score is unreliable."""
    model, data = small_model(n_layers=1), small_data(n=3)
    with pytest.raises(Undefined):
        scores("eap", model, data, objective="kl")
    found = discover("eap-hvp", model, data, objective="kl")
    assert found.scores.flat().min() >= -1e-12 and found.scores.flat().max() > 1e-3
    assert len(found.diagnostics["unreliable"]) == int((found.scores.flat() > 1e-12).sum()) > 10


def test_batches_and_longer_prompts_do_not_change_it_and_its_cost_is_declared():
    model, data = small_model(n_layers=2), small_data(n=5)
    method = METHODS.get("eap-hvp")
    for level in ("edge", "node"):
        with count_passes() as passes:
            whole = scores("eap-hvp", model, data, level=level, steps=2)
        assert_close(scores("eap-hvp", model, data, level=level, steps=2, batch_size=2), whole)
        declared = method.cost_of(model.graph, data.n, method.resolve({"level": level, "steps": 2}))
        assert declared.passes == pytest.approx(passes.forward + passes.backward)
    wide = small_model(n_layers=1, n_heads=1, d_head=64, d_model=64, d_vocab=300, d_out=300, n_positions=40)
    long = small_data(n=1, positions=33, vocabulary=300)  # attention that is not computed by the small kernel
    assert_close(scores("eap-hvp", wide, long, correct="none"), scores("eap", wide, long), rtol=1e-8, atol=1e-8)


def test_what_cannot_be_asked_is_refused():
    for wrong in ({"steps": 0}, {"level": "head"}, {"correct": "some"}, {"unreliable": 0.0}):
        with pytest.raises(SpecError):
            discover("eap-hvp", small_model(n_layers=1), small_data(n=2), **wrong)
