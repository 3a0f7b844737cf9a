"""On a second device: no tensor of the CPU meets one of its own, numbers are the CPU's, and nothing waits in a pass."""

import pytest
import torch
from discovering import AT_THE_CLEAN_RUN, FEW_STEPS, discover
from oracles import small_data, small_model
from second_device import count_waits, second_device

from circuitmeter.suite.intervention.ablation import Ablation, ablation_names
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.methods import METHODS, _masks
from circuitmeter.suite.model import in_parts as parts_of_masks

STEPPED = {
    "edge-pruning": {"targets": [0.5, 0.9], "rate_warmup": 1},
    "ibcircuit": {},
    "subnetwork-probing": {},
    "ugs": {},
}


def masks(model, n=3, seed=0):
    """The whole model, and random circuits."""
    drawn = torch.rand(n, *model.graph.exists.shape, generator=torch.Generator().manual_seed(seed)) < 0.6
    drawn[0] = True
    return drawn.double()


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("truth", "ensemble")])
def test_a_method_finds_what_it_finds_on_the_cpu(name):
    options = {"objective": "logit-difference" if name in AT_THE_CLEAN_RUN else "kl"} | FEW_STEPS.get(name, {})
    near = discover(name, small_model(), small_data(), **options).scores.values
    with second_device() as far:
        found = discover(name, small_model().to(far), small_data(), **options).scores.values
    torch.testing.assert_close(found.cpu(), near, equal_nan=True, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("eap-ig", {"preset": "neuron"}),
        ("eap-hvp", {"preset": "node", "steps": 2}),
        ("gate-aware", {"preset": "gradient"}),
        ("edge-pruning", {"start": "eap-ig", "objective": "kl", **FEW_STEPS["edge-pruning"]}),
        ("ibcircuit", {"preset": "reference-code", "ablation": "mean", "objective": "kl", "steps": 4}),
    ],
)
def test_a_method_s_other_ways_find_what_they_find_on_the_cpu(name, options):
    near = discover(name, small_model(n_layers=2), small_data(), **options).scores.values
    with second_device() as far:
        found = discover(name, small_model(n_layers=2).to(far), small_data(), **options).scores.values
    torch.testing.assert_close(found.cpu(), near, equal_nan=True, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("ablation", ["patch", "zero", "mean"])
def test_gates_of_nodes_find_what_they_find_on_the_cpu(ablation):
    options = {
        "preset": "reference-code",
        "objective": "kl",
        "ablation": ablation,
        "steps": 4,
        "regularisations": [0.1],
    }
    near = discover("subnetwork-probing", small_model(n_layers=2), small_data(), **options)
    with second_device() as far:
        found = discover("subnetwork-probing", small_model(n_layers=2).to(far), small_data(), **options)
    torch.testing.assert_close(found.scores.values.cpu(), near.scores.values, equal_nan=True, rtol=1e-7, atol=1e-9)
    assert found.circuits[0].circuit.names == near.circuits[0].circuit.names


@pytest.mark.parametrize("ablation", list(ablation_names()))
@pytest.mark.parametrize("objective", ["l2", "logit-difference"])
def test_losses_under_an_ablation_are_the_cpus(ablation, objective):
    model, data = small_model(), small_data()
    given = data, Ablation.parse(ablation), OBJECTIVES.get(objective)
    if given[1].learned:
        pytest.skip("its constants belong to one circuit: only a method that learns both searches under it")
    near = Evaluator(model, *given).loss(masks(model))
    with second_device() as far:
        found = Evaluator(small_model().to(far), *given).loss(masks(model))
    torch.testing.assert_close(found, near)


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_losses_by_an_objective_are_the_cpus(objective):
    model, given = small_model(), (small_data(), Ablation.parse("patch"), OBJECTIVES.get(objective))
    near = Evaluator(model, *given).loss(masks(model))
    with second_device() as far:
        found = Evaluator(small_model().to(far), *given).loss(masks(model))
    torch.testing.assert_close(found, near)


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_neither_a_plain_nor_a_cut_pass_waits(norm):
    data = small_data()
    with second_device() as far, torch.no_grad():
        model = small_model(**({} if norm == "layer" else {"norm": norm})).to(far)
        given = data, Ablation.parse("patch"), OBJECTIVES.get("l2")
        evaluator = Evaluator(model, *given)
        with count_waits() as waits:
            ready = evaluator.prepare(data.batch(torch.arange(data.n)))
            for kept in masks(model, 8).split(1):  # alone, so that nodes are dead and layers are skipped
                model.run_cut(kept, ready.alternative, inputs=ready.inputs, prefix=ready.prefix, read=ready.runs.read)
    assert not waits, str(waits)


@pytest.mark.parametrize(("name", "in_parts"), [*((name, False) for name in STEPPED), ("edge-pruning", True)])
def test_a_training_step_that_records_nothing_does_not_wait(name, in_parts, monkeypatch):
    monkeypatch.setattr(_masks, "_record", lambda curve, step, terms: None)
    if in_parts:
        monkeypatch.setattr(parts_of_masks, "_BUDGET", 1)
    counted = []
    for steps in (2, 5):
        with second_device() as far:
            model = small_model().to(far)
            with count_waits() as waits:
                discover(name, model, small_data(), objective="kl", **STEPPED[name], steps=steps)
            counted.append(waits)
    assert counted[0] == counted[1], f"{counted[1] - counted[0]}"


def test_the_second_device_refuses_and_counts():
    with second_device() as far, count_waits() as waits:
        there, here = torch.arange(3.0).to(far), torch.ones(3)
        assert sum(waits.values()) == 1  # that copy blocks
        with pytest.raises(RuntimeError, match="meet"):
            there + here
        with pytest.raises(TypeError):
            there.numpy()
        waits.clear()
        assert (there + 1).cpu().tolist() == [1, 2, 3]
        assert int(there.sum()) == 3
        there.nonzero()
        there[there > 1]
        here.to(far, non_blocking=True)
    assert {what for what, _ in waits} >= {"copy to the CPU", "_local_scalar_dense", "nonzero"}
    assert sum(waits.values()) == 4, str(waits)
