"""Compiled programs against Tracr itself: the shipped bytes, the port, the RASP interpreter. Needs [tracr]."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from circuitmeter import ground_truth
from circuitmeter.ground_truth.certify import certify
from circuitmeter.ground_truth.rasp.build import domains, write_ground_truth
from circuitmeter.ground_truth.rasp.check import PORT_TOLERANCE, check_port, check_specification
from circuitmeter.ground_truth.rasp.compile import compile_program, compile_rasp, tracr_modules
from circuitmeter.ground_truth.rasp.programs import PROGRAMS, Program
from circuitmeter.ground_truth.sealed import seal
from circuitmeter.suite.errors import ModelError

pytest.importorskip("tracr", reason="Tracr is not installed: pip install '.[tracr]'")
pytest.importorskip("haiku", reason="Haiku is not installed: pip install '.[tracr]'")


# One of every kind; the others take minutes together.
FEW = {"hist", "reverse", "pair_balance"}
EVERY = [pytest.param(name, marks=[pytest.mark.slow] * (name not in FEW)) for name in PROGRAMS]


@pytest.fixture(scope="module")
def compiled():
    """Each program compiled once; reversed order, so that a dependence on compilation order would show."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = compile_program(PROGRAMS[name])
        return made[name]

    return get


@pytest.mark.parametrize("name", list(reversed(EVERY)))
def test_recompiled_weights_are_the_shipped_ones_bit_for_bit(name, compiled):
    truth, fresh = ground_truth.load(f"tracr/{name}"), compiled(name)
    shipped = truth.model().state_dict()
    assert shipped.keys() == fresh.state.keys()
    for key, tensor in fresh.state.items():
        assert tensor.dtype == torch.float32 and tensor.numpy().tobytes() == shipped[key].numpy().tobytes(), key
    about = json.loads(json.dumps({"tokens": fresh.tokens, "labels": fresh.output_labels, "writers": fresh.writers}))
    assert about["tokens"] == truth.description.vocabulary.tokens
    assert (about["labels"] or []) == truth.description.outputs.labels
    assert about["writers"] == truth.description.writers
    assert list(fresh.dimensions) == truth.description.dimensions
    assert fresh.config == truth.config


@pytest.mark.parametrize("name", EVERY)
def test_port_equals_jax_on_every_input(name, compiled):
    fresh = compiled(name)
    for variant, domain in domains(PROGRAMS[name], fresh).items():
        shipped = ground_truth.load(f"tracr/{name}" + (f"@{variant}" if variant else "")).domain
        assert shipped.hash == domain.hash and np.array_equal(shipped.classes, domain.classes)
    assert check_port(fresh, domains(PROGRAMS[name], fresh)[""].tokens) <= PORT_TOLERANCE


def test_compilation_does_not_depend_on_what_was_compiled_before(compiled):
    first = compile_program(PROGRAMS["count_a"])
    compile_program(PROGRAMS["hist"])
    again = compile_program(PROGRAMS["count_a"])
    assert all(torch.equal(first.state[key], again.state[key]) for key in first.state)


@pytest.mark.parametrize("name", EVERY)
def test_rasp_interpreter_says_the_same_as_the_specification(name):
    program = PROGRAMS[name]
    rasp, lib = tracr_modules()
    sop = program.build(rasp, lib)
    if program.causal:
        from tracr.rasp import causal_eval

        evaluate = lambda x: causal_eval.evaluate(sop, x)  # noqa: E731
    else:
        evaluate = sop
    for x in itertools.product(program.vocabulary, repeat=4):
        expected = program.specification(list(x))
        given = evaluate(list(x))
        pairs = [(g, e) for g, e in zip(given, expected, strict=True) if e is not None]
        assert all(g == pytest.approx(e) if isinstance(e, float) else g == e for g, e in pairs), x


def test_wrong_specification_and_wrong_weights_are_found(compiled):
    fresh = compiled("hist")
    domain = domains(PROGRAMS["hist"], fresh)["fixed"]
    with pytest.raises(ModelError, match="specification"):
        check_specification(fresh, domain, lambda x: [len(x)] * len(x))
    broken = {key: tensor.clone() for key, tensor in fresh.state.items()}
    broken["blocks.0.W_QKV"] *= 1.01
    with pytest.raises(ModelError, match="differs from Tracr's"):
        check_port(replace(fresh, state=broken), domain.tokens)


def test_what_tracr_cannot_compile_is_one_sentence():
    rasp, _ = tracr_modules()
    constant = rasp.Map(lambda i: i + 1, rasp.indices)
    with pytest.raises(ModelError, match="Tracr cannot compile"):
        compile_rasp(constant, ("a", "b"), 4)


@pytest.mark.slow
def test_proportions_may_be_compiled_causally_and_lengths_have_no_circuit_where_they_never_differ():
    """Two of Tracr's library as its authors compile them: the causal model of xproportion has the truths of the other,
    and the length, the same on all inputs of one length, has none to certify."""
    program = replace(PROGRAMS["xproportion"], causal=True)
    causal = compile_program(program)
    again = certify(causal.model(), domains(program, causal)["fixed"], ablations=("patch", "zero", "mean-positional"))
    shipped = ground_truth.load("tracr/xproportion@fixed").certificate.ablations
    for ablation, claim in again.ablations.items():
        assert claim.necessary == shipped[ablation].necessary

    length = Program("length", "", lambda rasp, lib: lib.make_length(), lambda x: [len(x)] * len(x), ("a", "b"), 5)
    compiled = compile_program(length)
    with pytest.raises(ModelError, match="same on every input"):
        certify(compiled.model(), domains(length, compiled)["fixed"], ablations=("patch",))


def test_a_program_of_one_s_own_compiles_and_certifies(tmp_path):
    program = Program(
        "first",
        "",
        lambda rasp, lib: lib.make_count(rasp.tokens, "b"),
        lambda x: [x.count("b")] * len(x),
        ("a", "b"),
        3,
    )
    mine = compile_program(program)
    write_ground_truth(
        tmp_path / "mine",
        mine,
        domains(program, mine),
        program.specification,
        program="count_b",
        description="How many tokens are b.",
        max_len=3,
        ablations=("patch", "zero"),
    )
    with pytest.raises(ModelError, match="is not covered"):
        ground_truth.load(tmp_path / "mine")
    seal(tmp_path / "mine")
    truth = ground_truth.load(tmp_path / "mine")
    assert truth.ablations == ("patch", "zero")
    assert int(truth.reference("patch").core.sum()) == 4 and int(truth.reference("zero").core.sum()) == 6
    assert ground_truth.load(f"{tmp_path / 'mine'}@fixed").certificate.domain.n_inputs == 8
