"""IBCircuit: its noise by a plain program, its information by torch's, its training beside the released code's."""

import pytest
import released
import torch
from discovering import discover
from oracles import plain_cut, small_data, small_model
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from circuitmeter import ground_truth, tasks
from circuitmeter.suite.errors import SpecError, Undefined
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.methods import ibcircuit
from circuitmeter.suite.methods._seeds import Seeds
from circuitmeter.suite.model.graph import Edge
from circuitmeter.suite.scoring.recovery import recovery

HEADS = ("a0.h0", "a0.h1", "a1.h0", "a1.h1")


def prepared(model, data, ablation):
    evaluator = Evaluator(model, data, Ablation.parse(ablation), OBJECTIVES.get("kl"))
    return evaluator.prepare(data.batch(torch.arange(data.n)))


def test_training_is_the_released_code_s():
    record = released.record("ibcircuit")
    given = {"ablation": "mean", "objective": "kl", **released.IBCIRCUIT}
    with released.random_numbers():
        found = discover("ibcircuit", released.model("gpt2"), released.relp_prompts(), **given)
    curve, (masks,) = found.diagnostics["curve"], found.diagnostics["masks"]
    # They leave the constant of the divergence out.
    information = [value - 0.5 for value in record["information"]]
    assert [value for (value,) in curve["divergence"]] == pytest.approx(record["divergence"], rel=1e-5)
    assert [value for (value,) in curve["information"]] == pytest.approx(information, rel=1e-5)
    gates = [gate for name, gate in masks["gates"].items() if ".h" in name]
    assert gates == pytest.approx(record["gates"], abs=1e-12)


@pytest.mark.parametrize("gated", ibcircuit.GATED)
@pytest.mark.parametrize("ablation", ["patch", "zero", "mean", "mean-positional"])
def test_outputs_are_those_of_a_loop_over_nodes(ablation, gated):
    model, data = small_model(n_layers=2), small_data(n=3)
    ready, graph = prepared(model, data, ablation), model.graph
    groups = [group for group in graph.groups if group.kind in ibcircuit.GATED[gated]]
    names = [name for group in groups for name in group.nodes]
    logits = torch.linspace(-2, 3, 3 * len(names), dtype=torch.float64).view(1, 3, -1)
    outputs, _ = ibcircuit.bottleneck(model, ready, groups, logits, Seeds([4], model), from_run=False)

    chance, noise = Seeds([4], model), {}
    for group in groups:
        shape = (len(group.nodes), data.clean.shape[1], ready.runs.clean[1][group.key].shape[-1])
        noise |= dict(zip(group.nodes, chance.normal(*shape)[0], strict=True))
    kept = graph.exists.double()
    for row in range(data.n):
        fixed = {}
        for i, name in enumerate(names):
            recorded: dict[str, torch.Tensor] = {}
            plain_cut(model, data.clean[row], dict.fromkeys(graph.writers, 0.0), kept, fixed, recorded)
            kind, layer = ("mlp", int(name[1:])) if name[0] == "m" else ("head", int(name[1 : name.index(".")]))
            place = 0 if kind == "mlp" else int(name[name.index("h") + 1 :])
            clean, carried = ready.runs.clean[1][kind, layer][place], ready.alternative.activations[kind, layer][place]
            spread = ((clean - carried) ** 2).sum(0).div(data.n - 1).sqrt()
            carried, loud = carried.expand_as(clean)[row], spread * noise[name]
            if kind == "head":
                weight = model.blocks[layer].W_O[place * model.config.d_head : (place + 1) * model.config.d_head]
                carried, loud = carried @ weight, loud @ weight
            gate = logits[0, row, i].sigmoid()
            fixed[name] = gate * recorded[name] + (1 - gate) * (carried + loud)
        expected = plain_cut(model, data.clean[row], dict.fromkeys(graph.writers, 0.0), kept, fixed)[-1]
        assert_close(outputs[0, row], expected, rtol=1e-9, atol=1e-9)


def test_information_is_the_divergence_from_noise_alone():
    logits = torch.tensor([-3.0, 0.0, 4.0, 1.0], dtype=torch.float64)
    deviation, spread = torch.tensor([[0.3, -2.0, 1.0, 0.0], [0.5, 0.7, 0.1, 0.0]], dtype=torch.float64)
    gate = logits.sigmoid()
    expected = kl_divergence(
        Normal(gate * deviation, (1 - gate) * spread + 1e-300), Normal(0 * spread, spread + 1e-300)
    )
    expected[3] = 0  # nothing that could pass
    assert_close(ibcircuit._information(logits, deviation, spread), expected)
    far = torch.tensor([800.0], dtype=torch.float64, requires_grad=True)
    ibcircuit._information(far, deviation[:1], spread[:1]).sum().backward()
    assert bool(far.grad.isfinite().all()), "a gate that rounds to 1 has a gradient"


def test_what_is_the_same_on_every_prompt_has_a_gradient_that_is_a_number():
    """All prompts begin with one token: the first position's deviation is zero, under moments of both kinds."""
    model, data = small_model(n_layers=1), small_data()
    data.clean[:, 0] = data.counterfactual[:, 0] = 0
    for moments in ibcircuit.MOMENTS:
        found = discover("ibcircuit", model, data, ablation="mean", objective="kl", moments=moments, steps=3)
        assert found.scores.flat().std() > 0


def twins(model, positions):
    """Prompts whose tokens at these positions are 0 or 1, and how they are when all are 0; 0 and 1 are embedded alike
    but for the last bit."""
    model.embed.data[1] = model.embed[0].nextafter(torch.tensor(9.0, dtype=model.dtype))
    noisy, even = small_data(), small_data()
    for data in (noisy, even):
        data.clean[:, positions] = data.counterfactual[:, positions] = 0
    noisy.clean[::2, positions], noisy.counterfactual[1::3, positions] = 1, 1
    return noisy, even


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ablation", ["patch", "mean", "mean-positional"])
@pytest.mark.parametrize("from_run", [False, True])
def test_what_differs_by_rounding_carries_no_information(from_run, ablation, dtype):
    model = small_model(n_layers=2).to(dtype)
    groups = [group for group in model.graph.groups if group.kind in ("head", "mlp")]
    logits, found = torch.full((1, 1, 6), 2.0, dtype=dtype), []
    for data in twins(model, slice(0, 1)):
        ready = prepared(model, data, ablation)
        found.append(ibcircuit.bottleneck(model, ready, groups, logits, Seeds([0], model), from_run=from_run)[1])
    assert_close(*found, rtol=1e-5 if dtype == torch.float32 else 1e-10, atol=0)


def test_what_differs_by_rounding_has_not_moved():
    model = small_model(n_layers=2)
    noisy, even = twins(model, slice(None))
    assert not torch.equal(model(noisy.clean), model(noisy.counterfactual))
    for data in (noisy, even):
        assert not ibcircuit._moved([prepared(model, data, "patch")], model.graph).any()
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        assert ibcircuit._moved([prepared(model.to(dtype), small_data(), "patch")], model.graph).all()


@pytest.mark.parametrize("ablation", ["patch", "mean"])
def test_information_is_of_the_clean_run_whatever_noise_is_below(ablation):
    model, data = small_model(n_layers=2), small_data()
    ready, graph = prepared(model, data, ablation), model.graph
    groups = [group for group in graph.groups if group.kind in ("head", "mlp")]
    logits = torch.linspace(-3, 2, 6, dtype=torch.float64)
    _, information = ibcircuit.bottleneck(model, ready, groups, logits.view(1, 1, 6), Seeds([0], model), from_run=False)
    expected = []
    for group in groups:
        for own in range(len(group.nodes)):
            apart = (ready.runs.clean[1][group.key] - ready.alternative.activations[group.key])[own]
            spread = (apart.square().sum(0) / (data.n - 1)).sqrt().expand_as(apart)
            gate = logits[len(expected)].sigmoid()
            expected.append(kl_divergence(Normal(gate * apart, (1 - gate) * spread), Normal(0 * spread, spread)).mean())
    assert_close(information[0], sum(expected) / 6)


@pytest.mark.parametrize("from_run", [False, True])
def test_the_few_digits_of_16_bits_are_not_all_taken_for_rounding(from_run):
    model, data, found = small_model(n_layers=2), small_data(), []
    groups = [group for group in model.graph.groups if group.kind in ("head", "mlp")]
    for dtype in (torch.float32, torch.bfloat16):
        logits, ready = torch.full((1, 1, 6), 2.0, dtype=dtype), prepared(model.to(dtype), data, "mean")
        _, information = ibcircuit.bottleneck(model, ready, groups, logits, Seeds([0], model), from_run=from_run)
        found.append(float(information))
    assert found[0] == pytest.approx(found[1], rel=0.1)


def test_one_run_by_itself_has_no_deviation():
    """Three prompts in batches of two: by the moments of the run at hand nothing passes in the batch of one."""
    model, data = small_model(n_layers=1), small_data(n=3)
    given = {"ablation": "mean", "objective": "kl", "moments": "run", "gates": "shared", "steps": 6}
    found = discover("ibcircuit", model, data, batch_size=2, **given)
    information = found.diagnostics["curve"]["information"]
    assert found.scores.flat().min() > 0 and min(information) == [0.0] < max(information)


def test_a_stronger_term_closes_more_and_circuits_are_the_open_nodes():
    model, data = small_model(n_layers=2), small_data()
    given = {"objective": "l2", "steps": 60, "gates": "shared", "strengths": [0.001, 10.0], "thresholds": [0.7, 0.3]}
    found = discover("ibcircuit", model, data, initial=1.0, rate=0.2, **given)
    weak, strong = ([mask["gates"][name] for name in HEADS] for mask in found.diagnostics["masks"])
    assert all(a > b for a, b in zip(weak, strong, strict=True)) and max(strong) < 0.3
    labels = [tuple(native.label.values()) for native in found.circuits]
    assert labels == [(0.001, 0.7), (0.001, 0.3), (10.0, 0.7), (10.0, 0.3)]
    for native in found.circuits:
        (gates,) = [m["gates"] for m in found.diagnostics["masks"] if m["strength"] == native.label["strength"]]
        closed = [name for name in HEADS if gates[name] <= native.label["threshold"]]
        expected = [edge for edge in model.graph.edges if not any(name in str(edge) for name in closed)]
        assert native.circuit.names == [str(edge) for edge in expected]
    score = dict(zip(map(str, model.graph.edges), found.scores.flat().tolist(), strict=True))
    assert score["a0.h0->logits"] == pytest.approx((weak[0] + strong[0]) / 2)
    assert score["input->m0"] == score["m0->logits"] == 1


def test_gates_of_prompts_differ_and_shared_ones_are_one_a_node():
    model, data = small_model(n_layers=1), small_data()
    ready = prepared(model, data, "patch")
    groups = [model.graph.group["head", 0]]
    logits = torch.tensor([0.3, -0.8], dtype=torch.float64)
    shared = ibcircuit.bottleneck(model, ready, groups, logits.view(1, 1, 2), Seeds([0], model), from_run=False)
    each = logits.view(1, 1, 2).repeat(1, data.n, 1)
    assert_close(shared, ibcircuit.bottleneck(model, ready, groups, each, Seeds([0], model), from_run=False))
    each[0, 0] += 1
    moved, _ = ibcircuit.bottleneck(model, ready, groups, each, Seeds([0], model), from_run=False)
    assert (moved - shared[0]).abs().amax(-1)[0].argmax() == 0 and torch.equal(moved[0, 1:], shared[0][0, 1:])


@pytest.mark.parametrize("ablation", ["patch", "zero"])
def test_it_opens_the_true_nodes_of_a_compiled_program(ablation):
    truth, value = ground_truth.load("tracr/xproportion@fixed"), Ablation.parse(ablation)
    data, reference, graph = tasks.load("tracr/xproportion@fixed").data(), truth.reference(value), truth.graph
    found = discover("ibcircuit", truth.model(), data, ablation=ablation, objective="l2", preset="quick", steps=60)
    ends = {end for edge in map(Edge.parse, graph.named(reference.core)) for end in (edge.writer, edge.reader)}
    true_nodes = {graph.node_of_reader(end) for end in ends}
    for mask in found.diagnostics["masks"]:
        opened = {name for name, gate in mask["gates"].items() if gate > 0.5}
        assert opened == true_nodes - {"logits"}
        assert {name for name, gate in mask["gates"].items() if gate == 0} == set(graph.writers) - opened
    assert recovery(found.scores, reference)["auroc"] > 0.75  # edges between true nodes are not all true


def test_what_has_no_meaning_is_refused():
    model, data = small_model(n_layers=1), small_data(n=2)
    with pytest.raises(Undefined, match="patch carries another value"):
        discover("ibcircuit", model, data, objective="kl", preset="reference-code")
    for wrong in ({"strengths": []}, {"gated": "mlps"}, {"gates": "none"}, {"moments": "batch"}):
        with pytest.raises(SpecError):
            discover("ibcircuit", model, data, objective="kl", **wrong)
