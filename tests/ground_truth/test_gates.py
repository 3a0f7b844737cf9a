"""Hand-wired gates: their circuits by theory, by certificate, and by a plain enumeration of all subsets of edges."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from plain_forward import run, weights_of

from circuitmeter import ground_truth, tasks
from circuitmeter.ground_truth.gates import build
from circuitmeter.ground_truth.gates.catalogue import GATES, edges
from circuitmeter.suite.circuit import Circuit
from circuitmeter.suite.data import Data
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.faithfulness import measure_circuits
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.intervention.setting import Cut
from circuitmeter.suite.methods import METHODS

CASES = [(gate.name, ablation) for gate in GATES.values() for ablation in gate.known]


@pytest.mark.parametrize(("name", "ablation"), CASES)
def test_the_certificate_is_the_circuit_worked_out_by_hand(name, ablation):
    known, claim = GATES[name].known[ablation], ground_truth.load(f"gates/{name}").certificate.ablations[ablation]
    assert set(claim.core) == known.core and set(claim.optional) == known.optional
    assert claim.minimal_circuits == known.n_circuits
    assert claim.largest_error_of_circuit < 1e-9 and claim.smallest_core_effect >= 0.5


def sufficient(name, ablation):
    """Which subsets of the hand-made circuit's edges change no output when all other edges are cut, by plain numpy."""
    truth = ground_truth.load(f"gates/{name}")
    model, domain = truth.model(), truth.domain
    weights, config = weights_of(model), truth.config
    pairs = np.argwhere(~np.eye(len(domain), dtype=bool)) if ablation == "patch" else np.arange(8)[:, None]
    tokens, read = domain.tokens[pairs[:, 0]], domain.read[pairs[:, 0]]
    clean, written = run(weights, config, tokens)
    alternative = {
        "patch": lambda: run(weights, config, domain.tokens[pairs[:, -1]])[1],
        "zero": lambda: {writer: 0 * out for writer, out in written.items()},
        "mean": lambda: {writer: 0 * out + out.mean((0, 1)) for writer, out in written.items()},
        "mean-positional": lambda: {writer: 0 * out + out.mean(0) for writer, out in written.items()},
    }[ablation]()
    known = GATES[name].known[ablation]
    chosen, everything = sorted(known.core | known.optional), {str(edge) for edge in model.graph.edges}
    found = []
    for size in range(len(chosen) + 1):
        for kept in itertools.combinations(chosen, size):
            if any(smaller <= set(kept) for smaller in found):
                continue  # not minimal
            outputs, _ = run(weights, config, tokens, everything - set(kept), alternative)
            if np.abs(outputs - clean)[read].max() < 1e-6:
                found.append(set(kept))
    return found


# The many subsets of these two take longer than those of all others together.
LARGEST = [("redundant", "zero"), ("cancelling", "zero")]


@pytest.mark.parametrize(
    ("name", "ablation"), [pytest.param(*each, marks=pytest.mark.slow if each in LARGEST else ()) for each in CASES]
)
def test_enumeration_of_all_subsets_finds_the_same_minimal_circuits(name, ablation):
    known, minimal = GATES[name].known[ablation], sufficient(name, ablation)
    assert len(minimal) == known.n_circuits
    assert set.intersection(*minimal) == known.core
    # What is in no minimal circuit and yet optional is needed alone: the halves of a cancelling pair.
    assert set.union(*minimal) == known.core | (set() if name == "cancelling" else known.optional)


@pytest.mark.parametrize("name", GATES)
def test_outputs_are_the_specification(name):
    truth = ground_truth.load(f"gates/{name}")
    outputs = truth.model()(torch.from_numpy(truth.domain.tokens))[..., 0].tolist()
    for tokens, read, row in zip(truth.domain.tokens.tolist(), truth.domain.read.tolist(), outputs, strict=True):
        expected = GATES[name].specification(tuple(tokens[:3]))
        assert read == [value is not None for value in expected]
        assert [value for value, at in zip(row, read, strict=True) if at] == pytest.approx(
            [value for value in expected if value is not None], abs=1e-12
        )


@pytest.mark.parametrize("name", GATES)
def test_wiring_again_gives_the_shipped_weights_and_domain(name):
    truth, made = ground_truth.load(f"gates/{name}"), build.model(GATES[name])
    assert made.weights_hash == truth.weights_hash and made.graph.hash == truth.graph.hash
    assert build.domain(GATES[name]).hash == truth.domain.hash
    assert truth.description.writers == GATES[name].wiring.writers


def on_to_off(name):
    """The prompts with both inputs on, each with its counterfactual that has both off."""
    data = tasks.load(f"gates/{name}").data()
    both = (data.clean[:, :2] == 1).all(1) & (data.counterfactual[:, :2] == 0).all(1)
    return data.select(both.nonzero().flatten())


def share(name, names, **how):
    """Faithfulness of a circuit on prompts with both inputs on, against both off."""
    truth = ground_truth.load(f"gates/{name}")
    circuit = Circuit.of(truth.graph, names)
    # The circuits are single wires, whose other end is in no circuit: as they stand, without a look at dead ends.
    cut, objective = Cut(Ablation.parse("patch"), **{"pruning": "unpruned", **how}), OBJECTIVES.get("answer-difference")
    measured = measure_circuits(truth.model(), on_to_off(name), [circuit], cut, objective)
    return float(measured.faithfulness(reference="corrupted-run")[0])


@pytest.mark.parametrize(
    ("name", "kept", "restored", "knocked_out"), [("and", 0, 0, 0), ("or", 1, 1, 1), ("adder", 0.5, 0.5, 0.5)]
)
def test_noising_and_denoising_of_one_input_are_as_theory_says(name, kept, restored, knocked_out):
    """One input of AND: keeping it alone keeps nothing, restoring it restores nothing, and knocking it out destroys
    everything. One input of OR: each of the three the other way round. What is linear is halfway in all."""
    wire, onwards = ("v0 o0", "") if name == "adder" else ("v0 m0", "out")
    assert share(name, edges(f"{wire} {onwards}")) == pytest.approx(kept)
    assert share(name, edges(wire), direction="denoising") == pytest.approx(restored)
    assert share(name, edges(wire), set="circuit") == pytest.approx(knocked_out)


def test_each_of_three_copies_can_go_and_no_two_of_them():
    complete = GATES["redundant"].known["patch"]
    everything = complete.core | complete.optional
    assert share("redundant", everything - edges("v0 m0")) == pytest.approx(1)
    assert share("redundant", everything - edges("v0 m0 v1 m1")) == pytest.approx(0)


def test_a_cancelling_pair_is_needed_alone_and_inert_together():
    data = tasks.load("gates/cancelling").data()
    model = ground_truth.load("gates/cancelling").model()
    kept = [model.graph.exists & ~model.graph.matrix(edges(cut)) for cut in ("o1", "o2", "o1 o2")]
    measured = measure_circuits(
        model, data, [Circuit(model.graph, mask) for mask in kept], Cut(Ablation.parse("patch")), OBJECTIVES.get("l2")
    )
    assert measured.circuits.abs().amax(1).tolist() == [1, 1, 0]


def scores(method, name, data=None):
    truth = ground_truth.load(f"gates/{name}")
    chosen = METHODS.get(method)
    found = chosen.discover(
        truth.model(),
        data or tasks.load(f"gates/{name}").data(),
        ablation=Ablation.parse("patch"),
        objective=OBJECTIVES.get("answer-difference"),
        seed=0,
        **chosen.resolve({}),
    )
    return {str(edge): score for edge, score in zip(truth.graph.edges, found.scores.flat().tolist(), strict=True)}


def test_saturation_hides_from_one_gradient_and_not_from_integrated_ones():
    path = edges("v0 m0")
    plain, integrated = scores("eap", "saturation"), scores("eap-ig", "saturation")
    assert all(plain[edge] == 0 for edge in path) and all(abs(integrated[edge]) > 0.1 for edge in path)
    assert abs(plain["a0.h1->logits"]) > 0.1


def test_single_edge_patching_misses_redundant_copies_and_adds_cancelling_pairs():
    redundant, cancelling = scores("exact", "redundant"), scores("exact", "cancelling")
    assert all(redundant[edge] == 0 for edge in edges("v0 m0 v1 m1 v2 m2"))
    assert redundant["m0->logits"] != 0
    pair = [cancelling[edge] for edge in sorted(edges("o1 o2"))]
    assert cancelling["a0.h0->logits"] != 0 and pair[0] == pytest.approx(-pair[1])


def test_distractors_are_the_loudest_and_are_read_by_nobody():
    truth = ground_truth.load("gates/distractors")
    model = truth.model()
    written = model.outputs(model.run(model.input_nodes(torch.from_numpy(truth.domain.tokens)))[1])
    spread = written[:, :, -1].std(1).norm(dim=-1)
    node = {name: float(spread[i]) for i, name in enumerate(truth.graph.writers)}
    assert min(node["a0.h1"], node["a0.h2"], node["m0"]) > 3 * node["a0.h0"] > 0


def test_tasks_hold_every_pair():
    for name in tasks.gates.names():
        task = tasks.load(name)
        data = task.data()
        assert isinstance(data, Data) and data.n == 56 and task.objective == "answer-difference"
        rows = {(tuple(a), tuple(b)) for a, b in zip(data.clean.tolist(), data.counterfactual.tolist(), strict=True)}
        assert len(rows) == 56 and all(a != b for a, b in rows)
    assert len(tasks.gates.names()) == len(GATES) == 10
