"""Noising with denoising: both effects by a plain program, and the kinds of gates that are wired by hand."""

import pytest
import torch
from discovering import discover, scores
from oracles import linear_model, plain_cut, small_data, small_model, written
from torch.testing import assert_close

from circuitmeter import ground_truth, tasks
from circuitmeter.ground_truth.gates.catalogue import GATES
from circuitmeter.suite.data import Data
from circuitmeter.suite.errors import SpecError, Undefined
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.methods import _single_edges


def on_and_off(gate, on_is_clean=True):
    """(model, data): the pair in which all bits are on in one prompt and off in the other."""
    truth = ground_truth.load(f"gates/{gate}")
    domain = truth.domain
    zeros, ones = domain.tokens[:1], domain.tokens[-1:]  # (0, 0, 0) is the first input and (1, 1, 1) the last
    clean, other = (torch.from_numpy(each) for each in ((ones, zeros) if on_is_clean else (zeros, ones)))
    return truth.model(), Data(clean, other, torch.from_numpy(domain.read[:1]))


def kinds(gate, on_is_clean=True, **given):
    model, data = on_and_off(gate, on_is_clean)
    return discover("gate-aware", model, data, objective="l2", **given).diagnostics["gates"][0]["kinds"]


@pytest.mark.parametrize("gate", GATES)
def test_the_kinds_of_gates_are_those_worked_out_by_hand(gate):
    assert kinds(gate) == GATES[gate].kinds


def test_and_and_or_change_places_where_inputs_turn_on():
    swapped = {"and": "or", "or": "and", "adder": "adder"}
    for gate in ("and", "or", "adder"):
        assert kinds(gate, on_is_clean=False) == {edge: swapped[kind] for edge, kind in GATES[gate].kinds.items()}


def loss_of_logits(logits, data, row):
    return float(logits[-1, data.wrong[row, 0]] - logits[-1, data.answers[row, 0]])


@pytest.mark.parametrize("inputs", ["token", "split"])
def test_effects_are_those_of_one_edge_at_a_time_by_hand(inputs):
    model, data = small_model(inputs, n_layers=1), small_data(n=2)
    graph = model.graph
    effects = torch.zeros(2, *graph.exists.shape, dtype=torch.float64)
    whole = 0.0
    for row in range(data.n):
        clean, other = data.clean[row], data.counterfactual[row]
        everything = graph.exists.double()
        losses = [
            loss_of_logits(plain_cut(model, tokens, written(model, tokens), everything), data, row)
            for tokens in (clean, other)
        ]
        whole += abs(losses[1] - losses[0]) / data.n
        for w, r in graph.exists.nonzero().tolist():
            kept = everything.clone()
            kept[w, r] = 0
            noised = loss_of_logits(plain_cut(model, clean, written(model, other), kept), data, row)
            restored = loss_of_logits(plain_cut(model, other, written(model, clean), kept), data, row)
            effects[0, w, r] += (noised - losses[0]) / data.n
            effects[1, w, r] += (losses[1] - restored) / data.n
    found = discover("gate-aware", model, data, thresholds=[0.2])
    larger = torch.where(effects[0].abs() >= effects[1].abs(), effects[0], effects[1])
    assert_close(found.scores.values.nan_to_num(), larger, rtol=1e-8, atol=1e-10)
    assert found.diagnostics["whole_effect"] == pytest.approx(whole)
    seen = effects.abs() >= 0.2 * whole
    for native in found.circuits:
        expected = seen.any(0)
        if "noising" in native.label:
            expected = (seen[0] == bool(native.label["noising"])) & (seen[1] == bool(native.label["denoising"]))
        assert torch.equal(native.circuit.edges, expected & graph.exists)
    assert {kind for kind in found.diagnostics["gates"][0]["kinds"].values()} >= {"adder"}
    parts = [native.circuit.n_edges for native in found.circuits]
    assert parts[0] == sum(parts[1:]) == len(found.diagnostics["gates"][0]["kinds"]) > 0


@pytest.mark.parametrize("ablation", ["patch", "resample"])
def test_in_a_linear_model_both_directions_agree_with_exact_patching(ablation):
    model, data = linear_model(), small_data()
    expected = scores("exact", model, data, ablation=ablation)
    for by in ("exact", "gradient"):
        found = discover("gate-aware", model, data, ablation=ablation, by=by, thresholds=[1e-6])
        assert_close(found.scores.values.nan_to_num(), expected, rtol=1e-8, atol=1e-10)
        assert set(found.diagnostics["gates"][0]["kinds"].values()) == {"adder"}


def test_by_gradients_it_is_eap_from_both_ends():
    model, data = small_model(), small_data()
    noising = scores("eap", model, data)
    other = Data(data.counterfactual, data.clean, data.read, answers=data.answers, wrong=data.wrong)
    denoising = -scores("eap", model, other)
    found = scores("gate-aware", model, data, by="gradient", batch_size=2)
    assert_close(found, torch.where(noising.abs() >= denoising.abs(), noising, denoising))
    whole = [discover("gate-aware", model, data, by=by).diagnostics["whole_effect"] for by in ("gradient", "exact")]
    assert whole[0] == pytest.approx(whole[1])


def test_gradients_miss_what_is_flat_at_both_ends():
    assert kinds("saturation")["tok_embed->a0.h0<v>"] == "adder"
    model, data = on_and_off("saturation")
    found = discover("gate-aware", model, data, objective="answer-difference", preset="gradient")
    assert "tok_embed->a0.h0<v>" not in found.diagnostics["gates"][0]["kinds"]


@pytest.mark.parametrize("denoising", [False, True])
def test_single_edges_are_those_of_whole_cut_passes(denoising):
    given = small_model(n_layers=2), small_data(), Ablation.parse("patch"), OBJECTIVES.get("l2")
    evaluator = Evaluator(*given, denoising=denoising)
    by_masks = _single_edges._by_masks(evaluator, 7)
    for found, expected in zip(_single_edges.single_edge_effects(evaluator, 0), by_masks, strict=True):
        assert_close(found, expected, rtol=1e-8, atol=1e-10)
    assert by_masks[1].abs().max() > 1e-3 if denoising else by_masks[1].abs().max() < 1e-12


def test_what_has_no_meaning_is_refused():
    model, data = small_model(n_layers=1), small_data(n=2)
    with pytest.raises(Undefined, match="gradient at the clean run"):
        discover("gate-aware", model, data, objective="kl", by="gradient")
    for counted in ("accuracy", "exact-match"):
        with pytest.raises(Undefined, match=f"needs gradients, which {counted} does not have"):
            discover("gate-aware", model, data, objective=counted, by="gradient")
    with pytest.raises(Undefined, match="does not define the zero ablation"):
        discover("gate-aware", model, data, ablation="zero")
    for wrong in ({"by": "acdc"}, {"thresholds": []}, {"thresholds": [0.0]}):
        with pytest.raises(SpecError, match="gate-aware"):
            discover("gate-aware", model, data, **wrong)


def test_nothing_is_found_where_the_two_runs_come_to_the_same():
    """Both bits of an exclusive or turn: each edge matters alone, and all together change nothing."""
    model, data = on_and_off("xor")
    found = discover("gate-aware", model, data, objective="l2")
    assert found.diagnostics["whole_effect"] == 0 and not any(native.circuit.n_edges for native in found.circuits)
    assert found.scores.flat().max() > 0.5
    assert tasks.load("gates/xor").data().n > data.n, "other pairs of the task do not"
