"""Certificates by position, derived again by a program that shares nothing with the engine, and what they say."""

from __future__ import annotations

import json

import numpy as np
import pytest
from discovering import discover
from plain_forward import layer_of, run, weights_of
from test_certificates import _assert_equal

from circuitmeter import ground_truth, tasks
from circuitmeter.ground_truth.explain import explain
from circuitmeter.ground_truth.minimal_circuits import minimal_circuits
from circuitmeter.ground_truth.positions.build import build_certificate
from circuitmeter.ground_truth.positions.programs import AT_POSITIONS, certificate_file
from circuitmeter.suite.errors import ModelError
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.scoring.recovery import recovery

SMALL = [name for name in AT_POSITIONS if name.startswith("gates-")]
SMALL += ["tracr-positions/first_token", "tracr-positions/majority_a"]
EVERY = [pytest.param(name, marks=[pytest.mark.slow] * (name not in SMALL)) for name in AT_POSITIONS]
# Certifying takes longer than the plain program.
AGAIN = [
    pytest.param(name, marks=[pytest.mark.slow] * (name not in ("gates-positions/adder", "gates-positions/position")))
    for name in AT_POSITIONS
]
VALUES = {
    "zero": lambda out: np.zeros_like(out),
    "mean": lambda out: np.broadcast_to(out.mean((0, 1)), out.shape),
    "mean-positional": lambda out: np.broadcast_to(out.mean(0), out.shape),
}


def necessary(truth, tokens, read, alternative_of):
    """Edges whose cut at one position moves an output, and the largest effect of the others."""
    model, config = truth.model(), truth.config
    weights = weights_of(model)
    clean, wrote = run(weights, config, tokens)
    alternative = alternative_of(weights, config, wrote)
    found = {}
    for edge in map(str, model.graph.edges):
        outputs, _ = run(weights, config, tokens, {edge}, alternative, wrote, layer_of(edge, config))
        found[edge] = float(np.abs(outputs - clean)[read].max())
    tolerance = truth.certificate.tolerance
    return {e for e, effect in found.items() if effect > tolerance}, max(e for e in found.values() if e <= tolerance)


@pytest.mark.parametrize("ablation", VALUES)
@pytest.mark.parametrize("name", EVERY)
def test_every_edge_cut_at_each_position_under_zero_and_means(name, ablation):
    truth = ground_truth.load(name)

    def alternative_of(weights, config, wrote):
        return {writer: VALUES[ablation](out) for writer, out in wrote.items()}

    found, inert = necessary(truth, truth.domain.tokens, truth.domain.read, alternative_of)
    claim = truth.certificate.ablations[ablation]
    assert found == set(claim.necessary)
    assert (
        inert == pytest.approx(claim.largest_inert_effect, abs=1e-9) or claim.largest_inert_effect == 0.0 > inert - 1e-9
    )


@pytest.mark.parametrize("name", EVERY)
def test_every_edge_cut_at_each_position_under_patch(name):
    truth = ground_truth.load(name)
    claim, domain = truth.certificate.ablations["patch"], truth.domain
    sampled = np.random.default_rng(7).integers(len(domain), size=(100, 2))
    pairs = np.concatenate([sampled, np.array(list(claim.witnesses.values()))])
    other = domain.tokens[pairs[:, 1]]
    found, inert = necessary(
        truth,
        domain.tokens[pairs[:, 0]],
        domain.read[pairs[:, 0]],
        lambda weights, config, wrote: run(weights, config, other)[1],
    )
    assert found == set(claim.necessary) and inert < 1e-9


@pytest.mark.parametrize("name", EVERY)
def test_the_circuit_suffices_and_no_edge_of_it_can_go_at_any_position(name):
    """By the plain program: the core alone, where it is the circuit, and the core without each of its edges."""
    truth = ground_truth.load(name)
    claim = truth.certificate.ablations["zero"]
    if not claim.unique:
        pytest.skip("there are several circuits")
    weights, config, domain = weights_of(truth.model()), truth.config, truth.domain
    clean, wrote = run(weights, config, domain.tokens)
    nothing = {writer: np.zeros_like(out) for writer, out in wrote.items()}
    everything = set(map(str, truth.graph.edges))

    def error(circuit):
        outputs, _ = run(weights, config, domain.tokens, everything - circuit, nothing)
        return float(np.abs(outputs - clean)[domain.read].max())

    core, tolerance = set(claim.core), truth.certificate.tolerance
    assert error(core) <= tolerance
    assert all(error(core - {edge}) > tolerance for edge in core)


@pytest.mark.parametrize("name", AGAIN)
def test_certified_again(name):
    _assert_equal(build_certificate(name), ground_truth.load(name).certificate)


@pytest.mark.parametrize("name", AT_POSITIONS)
def test_an_edge_is_true_where_it_is_true_at_some_position(name):
    """A circuit by position without its positions is the circuit of the same model and inputs."""
    truth, whole = ground_truth.load(name), ground_truth.load(AT_POSITIONS[name])
    compared = 0
    for ablation in truth.ablations:
        by_position, known = truth.certificate.ablations[ablation], whole.certificate.ablations[ablation]
        if by_position.unique and known.unique:
            compared += 1
            assert {edge.partition("@")[0] for edge in by_position.core} == set(known.core), ablation
    assert compared or name.startswith("gates-")


@pytest.mark.parametrize("name", AT_POSITIONS)
def test_each_is_a_task_whose_truth_scores_one(name):
    truth, task = ground_truth.load(name), tasks.load(name)
    model, data, read = truth.model(), task.data(), truth.domain.read.any(0)
    assert task.name == task.truth == truth.name == name and truth.graph == model.graph
    assert data.clean.shape[1] == truth.graph.n_positions
    for ablation in truth.ablations:
        reference = truth.reference(ablation)
        found = METHODS.get("truth").discover(
            model, data, ablation=Ablation.parse(ablation), objective=None, truth=reference
        )
        metrics = recovery(found.scores, reference)
        assert metrics["auroc"] == metrics["precision"] == metrics["recall"] == 1
        into_logits = [edge for edge in truth.graph.named(reference.structural) if "->logits@" in edge]
        assert into_logits and all(read[int(edge.partition("@")[2])] for edge in into_logits)


@pytest.mark.parametrize("ablation", ["patch", "zero"])
def test_exact_patching_recovers_first_token_and_a_random_order_does_not(ablation):
    name = "tracr-positions/first_token"
    truth, data = ground_truth.load(name), tasks.load(name).data()
    reference, how = truth.reference(ablation), {"ablation": ablation, "objective": "answer-difference"}
    assert recovery(discover("exact", truth.model(), data, **how).scores, reference)["exact"] == 1
    chance = [
        recovery(discover("random", truth.model(), data, seed=seed, **how).scores, reference)["auroc"]
        for seed in range(20)
    ]
    assert np.mean(chance) == pytest.approx(0.5, abs=0.12)


def test_first_token_reads_the_first_token_alone():
    """What every position copies is at position 1; without positions the circuit cannot say so."""
    patch = ground_truth.load("tracr-positions/first_token").certificate.ablations["patch"]
    values = [edge for edge in patch.core if "<v>" in edge]
    assert values == ["tok_embed->a0.h0<v>@1"]
    assert {edge for edge in patch.core if edge not in values} == {f"a0.h0->logits@{p}" for p in range(1, 6)}


def test_inert_edges_are_explained_position_by_position():
    truth = ground_truth.load("tracr-positions/first_token")
    found = {str(each.edge): each for each in explain(truth, "patch")}
    assert found["tok_embed->a0.h0<v>@1"].status == "true"
    assert found["tok_embed->a0.h0<v>@2"].status == "inert" and found["tok_embed->a0.h0<v>@0"].why.startswith(
        "constant"
    )
    assert not any("logits@0" in edge for edge in found), "nothing is read at BOS"


def test_a_certificate_about_other_weights_is_refused(tmp_path, monkeypatch):
    name = "gates-positions/and"
    content = json.loads(certificate_file(name).read_text())
    content["of"]["weights"] = "0" * 64
    (tmp_path / "and.json").write_text(json.dumps(content))
    monkeypatch.setattr("circuitmeter.ground_truth.truth.certificate_file", lambda _: tmp_path / "and.json")
    with pytest.raises(ModelError, match="is not about the program that ships"):
        ground_truth.load(name)


def test_minimal_circuits_by_position_are_not_enumerated():
    with pytest.raises(ModelError, match="edges at single positions"):
        minimal_circuits(ground_truth.load("gates-positions/and"), "patch")
