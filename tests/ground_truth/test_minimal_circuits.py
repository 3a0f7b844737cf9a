"""All minimal circuits: the enumeration equals a plain program that tries every set of edges; what it refuses."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from oracles import small_model
from plain_forward import run, weights_of

from circuitmeter import ground_truth
from circuitmeter.ground_truth import minimal_circuits as enumeration
from circuitmeter.ground_truth import truth as truth_module
from circuitmeter.ground_truth.certify import paired_inputs, pairs_of
from circuitmeter.ground_truth.cuts import CutTest
from circuitmeter.ground_truth.explain import explain
from circuitmeter.ground_truth.files import file_name
from circuitmeter.ground_truth.gates.build import write_gate
from circuitmeter.ground_truth.gates.catalogue import Gate
from circuitmeter.ground_truth.gates.wiring import Copy, Unit, Wiring
from circuitmeter.ground_truth.minimal_circuits import Enumeration, minimal_circuits, smallest, write_minimal_circuits
from circuitmeter.ground_truth.recertify import recertify
from circuitmeter.ground_truth.sealed import seal
from circuitmeter.ground_truth.structure import constant, inert_in_all_circuits
from circuitmeter.suite.data import Data
from circuitmeter.suite.errors import ModelError
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES

ABLATIONS = ("patch", "zero", "mean", "mean-positional")


def file_of(name, stem):
    """The file of a shipped truth, read without loading the model."""
    family, _, rest = name.partition("/")
    program, _, variant = rest.partition("@")
    return truth_module.SHIPPED[family] / program / file_name(stem, variant, "json")


SHIPPED = [name for name in ground_truth.names() if name.partition("/")[0] in ("gates", "tracr")]
LISTED = [name for name in SHIPPED if file_of(name, "minimal").is_file()]
QUICK = {
    ("gates/backup", "zero"),
    ("gates/backup", "mean"),
    ("gates/distractors", "patch"),
    ("gates/distractors", "zero"),
    ("gates/position", "mean"),
}
# The plain program tries 2^n sets of n edges, so that it finishes where few are structural.
SMALL = [name for name in SHIPPED if json.loads(file_of(name, "certificate").read_text())["n_structural"] <= 13]
CASES = [
    pytest.param(name, ablation, marks=[pytest.mark.slow] * ((name, ablation) not in QUICK))
    for name in SMALL
    for ablation in ABLATIONS
]


def plain(truth, ablation, at_most=None):
    """Every minimal circuit by trying all sets of structural edges, smallest first, in numpy; and nothing of ours."""
    domain, claim = truth.domain, truth.certificate.ablations[ablation]
    weights, config = weights_of(truth.model()), truth.config
    rows = np.arange(len(domain))[:, None]
    if ablation == "patch":
        witnesses = np.array(list(claim.witnesses.values()))
        rows = np.concatenate([pairs_of(domain, truth.certificate.training is not None)[0], witnesses])
    tokens, read = domain.tokens[rows[:, 0]], domain.read[rows[:, 0]]
    clean, written = run(weights, config, tokens)
    every = run(weights, config, domain.tokens)[1]
    alternative = {
        "patch": lambda: run(weights, config, domain.tokens[rows[:, -1]])[1],
        "zero": lambda: {writer: 0 * out for writer, out in written.items()},
        "mean": lambda: {writer: 0 * out + every[writer].mean((0, 1)) for writer, out in written.items()},
        "mean-positional": lambda: {writer: 0 * out + every[writer].mean(0) for writer, out in written.items()},
    }[ablation]()
    everything, structural = {str(edge) for edge in truth.graph.edges}, truth.certificate.structural
    few = np.linspace(0, len(rows) - 1, min(len(rows), 20)).astype(int)  # most sets fail on any row
    parts = [few, slice(None)]
    found = []
    for size in range((len(structural) if at_most is None else at_most) + 1):
        for kept in map(set, itertools.combinations(structural, size)):
            if any(smaller <= kept for smaller in found):
                continue
            cut = everything - kept
            if all(_same(weights, config, tokens, cut, alternative, clean, read, part, truth) for part in parts):
                found.append(kept)
    return {frozenset(circuit) for circuit in found}


def _same(weights, config, tokens, cut, alternative, clean, read, part, truth):
    outputs, _ = run(weights, config, tokens[part], cut, {writer: out[part] for writer, out in alternative.items()})
    return np.abs(outputs - clean[part])[read[part]].max() <= truth.certificate.tolerance


def as_sets(found):
    return {frozenset(circuit) for circuit in found.circuits}


@pytest.mark.parametrize(("name", "ablation"), CASES)
def test_it_equals_the_plain_program(name, ablation):
    truth = ground_truth.load(name)
    found = minimal_circuits(truth, ablation)
    assert as_sets(found) == plain(truth, ablation) and found.largest is None


@pytest.fixture(scope="module")
def compensating(tmp_path_factory):
    """The output is h0 + m, and m = h0 - h1 is zero in each clean run. With h1 and h0->logits patched it is
    x' + (x - x') = x: m0->logits, whose read projection is constant, is needed by this circuit."""
    units = Unit({"a": 1, "b": -1}, 0, {"y": 1}), Unit({"b": 1, "a": -1}, 0, {"y": -1})
    wiring = Wiring([Copy(0, {"a": 1}), Copy(0, {"b": 1})], {"a": 1, "y": 1}, units)
    gate = Gate("compensating", "x0", wiring, lambda x: [None] * 3 + [float(x[0])], {}, {})
    folder = tmp_path_factory.mktemp("compensating")
    write_gate(gate, folder, ["patch"])
    seal(folder)
    return ground_truth.load(folder)


def test_an_edge_that_no_clean_run_moves_may_be_in_a_minimal_circuit(compensating):
    found = as_sets(minimal_circuits(compensating, "patch"))
    value = "tok_embed->a0.h0<v>"
    assert found == {frozenset((value, "a0.h0->logits")), frozenset((value, "a0.h0->m0", "m0->logits"))}
    assert found == plain(compensating, "patch")


@pytest.mark.parametrize("name", ["compensating", "gates/cancelling", "tracr/dyck1@fixed"])
def test_edges_that_are_inert_in_all_circuits_move_nothing_in_random_ones(name, compensating):
    truth = compensating if name == "compensating" else ground_truth.load(name)
    model, domain = truth.model(dtype=torch.float64), truth.domain
    edges = truth.graph.matrix(truth.certificate.structural)
    inert = inert_in_all_circuits(model, torch.from_numpy(domain.tokens), edges)
    assert inert.any()
    pairs = pairs_of(domain, every_pair=False)[0]
    data = paired_inputs(domain, pairs[np.linspace(0, len(pairs) - 1, 20).astype(int)])
    kept = edges & (torch.rand(40, *edges.shape, generator=torch.Generator().manual_seed(0)) < 0.7)
    evaluator = Evaluator(model, data, Ablation.parse("patch"), OBJECTIVES.get("l2"))
    without = evaluator.outputs(kept & ~inert)
    torch.testing.assert_close(evaluator.outputs(kept | inert), without, atol=1e-9, rtol=0)
    assert (without.std(0) > 0.01).any()  # the circuits differ
    still = constant(model, torch.from_numpy(domain.tokens), edges)
    alike = torch.allclose(evaluator.outputs(kept | still), evaluator.outputs(kept & ~still), atol=1e-9)
    assert alike == (name != "compensating")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trained/shift1", "trained/shift1-norm", "trained/next_token"])
def test_small_ones_of_trained_models_equal_the_plain_program(name):
    """46 edges may matter, and no value comes twice: sets of two at most, which is the size of the true circuit."""
    truth = ground_truth.load(name)
    assert as_sets(minimal_circuits(truth, "patch", largest=2)) == plain(truth, "patch", at_most=2)


@pytest.mark.parametrize("norm", ["none", "layer"])
@pytest.mark.parametrize("ablation", ["patch", "zero"])
@pytest.mark.parametrize("largest", [None, 3])
def test_any_model_and_any_tolerance(norm, ablation, largest):
    """Random weights, which have no circuit: with a tolerance of the size of effects many sets suffice, larger ones
    that contain them do not, and the minimal ones are those of a program that tries all."""
    model = small_model("split", n_layers=1, n_heads=1, norm=norm, activation="relu", d_model=6, d_head=3, d_mlp=5)
    tokens = torch.arange(24).reshape(6, 4) % 11
    data = Data(tokens, tokens.flip(0), torch.ones_like(tokens, dtype=torch.bool))
    test = CutTest(model, data, Ablation.parse(ablation))
    candidates = torch.zeros_like(model.graph.exists)
    where = model.graph.exists.nonzero()[3:]  # ten of thirteen
    candidates[tuple(where.T)] = True
    masks = torch.zeros(2 ** len(where), *candidates.shape, dtype=torch.bool)
    for i, (w, r) in enumerate(where.tolist()):
        masks[:, w, r] = torch.arange(len(masks)) >> i & 1 == 1
    errors = test.error(masks)
    some = errors[errors < errors[0]].sort().values  # nothing alone does not do
    for share in (0.1, 0.5):
        tolerance = float(some[int(share * len(some))]) + 1e-9
        fits = [mask for mask in range(len(masks)) if errors[mask] <= tolerance]
        expected = [mask for mask in smallest(fits) if mask.bit_count() <= (largest or 99)]
        search = Enumeration(test, torch.arange(6), candidates, tolerance, largest, "a model")
        found = {tuple(circuit.nonzero().flatten().tolist()) for circuit in search.minimal()}
        assert found == {tuple(masks[mask].nonzero().flatten().tolist()) for mask in expected}
    assert len(fits) > len(smallest(fits)) >= 1
    unsaid = [m for m in range(len(masks)) if any(m & s == s for s in smallest(fits)) and errors[m] > tolerance]
    assert unsaid  # an edge more destroys a circuit: nothing here rests on the contrary


def test_rows_that_a_circuit_fails_on_are_added_until_none_does(monkeypatch):
    truth = ground_truth.load("gates/redundant")
    whole = minimal_circuits(truth, "zero")
    monkeypatch.setattr(enumeration, "_ROWS", 1)
    none = truth.certificate.ablations["zero"].model_copy(update={"witnesses": {}})
    blind = truth.certificate.model_copy(update={"ablations": {"zero": none}})
    assert minimal_circuits(replace(truth, certificate=blind), "zero").circuits == whole.circuits


def test_a_circuit_that_fails_on_rows_tried_already_is_an_error_and_no_endless_loop(monkeypatch):
    truth = ground_truth.load("gates/redundant")
    calls = []

    def minimal(search):
        assert len(calls) < 99, "the enumeration goes on for ever"
        calls.append(search)
        return torch.zeros(1, *truth.graph.exists.shape, dtype=torch.bool)  # of no edge, and not sufficient

    monkeypatch.setattr(Enumeration, "minimal", minimal)
    with pytest.raises(ModelError, match=r"under zero a circuit that was sufficient .*, and 0.02 is tolerated"):
        minimal_circuits(truth, "zero")


def test_the_list_of_all_circuits_is_the_truth_where_the_certificate_met_fewer(compensating, tmp_path):
    """Deletion ends at one circuit, and calls its edge core; of the two that there are, one does without it."""
    folder = tmp_path / "gate"
    shutil.copytree(compensating.directory, folder)
    truth = ground_truth.load(folder)
    alone = truth.reference("patch")
    found = minimal_circuits(truth, "patch")
    write_minimal_circuits(truth, {"patch": found})
    seal(folder)
    truth = ground_truth.load(folder)
    reference, names = truth.reference("patch"), truth.graph.named
    circuits = list(map(set, found.circuits))
    assert set(names(reference.core)) == set.intersection(*circuits) < set(names(alone.core))
    assert set.union(*circuits) <= set(names(reference.core | reference.optional))
    assert truth.scored.ablations["patch"].known_circuits == found.circuits
    assert truth.certificate_hash != truth.certificate.hash  # cells that were scored against another core are others
    told = {str(each.edge): (each.status, each.why) for each in explain(truth, "patch")}
    assert told["m0->logits"] == ("optional", "in some of the 2 minimal circuits and not in others")


@pytest.mark.parametrize("name", LISTED)
def test_what_is_listed_agrees_with_the_certificate(name):
    """Deletion ends at circuits that are minimal where two edges may go at once; enumeration lacks none of them."""
    truth = ground_truth.load(name)
    assert truth.scored is truth.certificate and truth.minimal_hash is None  # cells of truths that ship keep their keys
    for ablation, claim in truth.certificate.ablations.items():
        listed = truth.minimal(ablation)
        if listed is None:
            continue
        circuits = list(map(set, listed.circuits))
        assert set.intersection(*circuits) == set(claim.core) and set.union(*circuits) <= {*claim.core, *claim.optional}
        assert len(circuits) == claim.minimal_circuits and listed.largest_error <= truth.certificate.tolerance
        if claim.circuits is not None:
            assert as_sets(listed) == set(map(frozenset, claim.circuits))
        reference = truth.reference(ablation)
        assert {frozenset(circuit.names) for circuit in reference.minimal} == as_sets(listed)


@pytest.mark.parametrize(
    "name", ["gates/backup", "gates/cancelling", *(pytest.param(n, marks=pytest.mark.slow) for n in LISTED)]
)
def test_enumerating_again_gives_what_is_listed(name):
    truth = ground_truth.load(name)
    for ablation in truth.ablations:
        listed = truth.minimal(ablation)
        if listed is not None and ablation != "resample":
            again = minimal_circuits(truth, ablation)
            assert (again.circuits, again.candidates, again.rows) == (listed.circuits, listed.candidates, listed.rows)


def test_a_basis_changes_no_circuit_and_features_have_none():
    assert ground_truth.load("tracr-rotated/hist").minimal("zero") == ground_truth.load("tracr/hist").minimal("zero")
    assert ground_truth.load("tracr-features/hist").minimal("zero") is None
    assert ground_truth.load("tracr-features/hist").reference("zero").minimal is None


@pytest.mark.parametrize(
    ("name", "ablation", "message"),
    [
        ("trained/count_a", "patch", "46 edges that may matter .* at most 40, .* --largest N"),
        ("tracr/shuffle_dyck2", "zero", "51 edges that may matter"),
        (
            "tracr-features/hist",
            "zero",
            "enumerated of heads and MLPs at all positions; tracr-features/hist has features",
        ),
        ("trained/count_a", "zero", "not certified under zero; it is under patch"),
    ],
)
def test_what_is_too_large_or_unknown_is_refused_in_one_line(name, ablation, message):
    with pytest.raises(ModelError, match=message) as refused:
        minimal_circuits(ground_truth.load(name), ablation)
    assert "\n" not in str(refused.value)


def test_more_choices_than_fit_are_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(enumeration, "MOST_CHOICES", 20)
    with pytest.raises(ModelError, match=r"gates/redundant: more than 20 choices .* --largest N"):
        minimal_circuits(ground_truth.load("gates/redundant"), "zero")


def test_a_folder_of_one_s_own_keeps_them_and_forgeries_are_refused(tmp_path):
    mine = shutil.copytree(ground_truth.load("gates/backup").directory, tmp_path / "mine")
    (mine / "minimal.json").unlink()
    truth = ground_truth.load(mine)
    assert truth.minimal("zero") is None and truth.reference("zero").minimal is None
    write_minimal_circuits(truth, {"zero": minimal_circuits(truth, "zero")})
    seal(mine)
    again = ground_truth.load(mine)
    assert len(again.minimal("zero").circuits) == 2 and again.minimal("mean") is None
    write_minimal_circuits(again, {"mean": minimal_circuits(again, "mean")})
    seal(mine)
    assert ground_truth.load(mine).minimal("zero") == again.minimal("zero")  # kept
    path = mine / "minimal.json"
    content = json.loads(path.read_text())
    content["ablations"]["zero"]["circuits"].pop()
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"minimal.json was edited.*--recertify"):
        ground_truth.load(mine)
    with pytest.raises(ModelError, match=r"minimal.json does not hold: under zero"):
        recertify(mine)
    content["of"]["weights"] = "0" * 64
    path.write_text(json.dumps(content))
    seal(mine)
    with pytest.raises(ModelError, match="not about the model beside it"):
        ground_truth.load(mine).minimal("zero")
