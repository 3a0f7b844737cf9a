"""Shipped and user directories: names, hashes, damage."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from circuitmeter import ground_truth
from circuitmeter.ground_truth import truth as truth_module
from circuitmeter.ground_truth.gates.catalogue import GATES
from circuitmeter.ground_truth.rasp.check import decode
from circuitmeter.ground_truth.rasp.programs import PROGRAMS
from circuitmeter.suite.errors import ModelError


def test_every_program_is_shipped_with_its_domains():
    names = ground_truth.names()
    compiled = {name for name in names if name.startswith("tracr/")}
    assert {name for name in compiled if "@" not in name} == {f"tracr/{program}" for program in PROGRAMS}
    assert {name for name in names if name.startswith("gates/")} == {f"gates/{gate}" for gate in GATES}
    fixed = {f"tracr/{name}@fixed" for name, program in PROGRAMS.items() if "fixed" in program.domains}
    assert fixed < set(names) and "tracr/length@fixed" not in names  # at a fixed length it is constant
    assert len(PROGRAMS) >= 56
    assert "tracr/reverse@permutations3" in names


@pytest.mark.parametrize("name", [name for name in ground_truth.names() if name.startswith("tracr/")])
def test_decoded_outputs_are_the_specification_on_the_whole_domain(name):
    truth = ground_truth.load(name)
    program, about = PROGRAMS[truth.description.program], truth.description
    values, pad = about.vocabulary.tokens, about.vocabulary.pad
    labels = about.outputs.labels or None
    outputs = truth.model()(torch.from_numpy(truth.domain.tokens)).numpy()
    compared = 0
    for tokens, read, row in zip(truth.domain.tokens, truth.domain.read, outputs, strict=False):
        expected = [None, *program.specification([values[i] for i in tokens[1:] if i != pad])]
        expected += [None] * (len(tokens) - len(expected))
        for position, value in enumerate(expected):
            assert read[position] == (value is not None)
            if value is not None:
                compared += 1
                given = decode(row[position], labels)
                assert given == value if labels else given == pytest.approx(value, abs=1e-5)
    assert compared >= len(truth.domain)


def test_domains_are_complete():
    count = {name: len(ground_truth.load(name).domain) for name in ground_truth.names() if "tracr/" in name}
    assert count["tracr/reverse"] == 9 + 27 + 81 + 243 and count["tracr/reverse@fixed"] == 243
    assert count["tracr/reverse@permutations3"] == 6
    assert count["tracr/detect_abc"] == 27 + 81 + 243  # at length 2 it defines nothing
    truth = ground_truth.load("tracr/induction@fixed")
    assert len(truth.domain) == 729
    first = truth.domain.tokens[:, 1:]
    assert not truth.domain.read[:, 1].any() and (truth.domain.read[:, 2] == (first[:, 0] == first[:, 1])).all()


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A copy of the shipped models that may be damaged."""
    shutil.copytree(truth_module.SHIPPED["tracr"], tmp_path / "weights")
    monkeypatch.setattr(truth_module, "SHIPPED", {"tracr": tmp_path / "weights"})
    return tmp_path / "weights"


@pytest.mark.parametrize("file", ["model.safetensors", "model.json", "certificate.json", "domain.safetensors"])
def test_a_flipped_bit_in_a_shipped_file_is_found(shipped, file):
    path = shipped / "hist" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ModelError, match=file):
        ground_truth.load("tracr/hist")
    ground_truth.load("tracr/count_a")


def test_a_missing_shipped_file_is_found(shipped):
    (shipped / "hist" / "domain.fixed.safetensors").unlink()
    with pytest.raises(ModelError, match="domain.fixed.safetensors"):
        ground_truth.load("tracr/hist")


def test_damage_in_a_directory_of_one_s_own_is_found(tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(ground_truth.load("tracr/hist").directory, mine)
    assert ground_truth.load(mine).certificate_hash == ground_truth.load("tracr/hist").certificate_hash
    weights = mine / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[:-4], whole[:-1] + bytes([whole[-1] ^ 1])):
        weights.write_bytes(damaged)
        with pytest.raises(ModelError, match="SHA-256"):
            ground_truth.load(mine)
    weights.write_bytes(whole)
    other = json.loads((mine / "model.json").read_text())
    (mine / "model.json").write_text(json.dumps(other | {"format": 99}))
    with pytest.raises(ModelError, match="format"):
        ground_truth.load(mine)
    (mine / "model.json").write_text("{")
    with pytest.raises(ModelError, match="model.json is not JSON"):
        ground_truth.load(mine)


def test_a_domain_that_was_not_certified_is_refused(tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(ground_truth.load("tracr/hist").directory, mine)
    shutil.copy(mine / "domain.fixed.safetensors", mine / "domain.safetensors")
    with pytest.raises(ModelError, match="not the domain"):
        _ = ground_truth.load(mine).domain


def test_unknown_names_are_answered_with_the_nearest(tmp_path):
    with pytest.raises(ModelError, match="Did you mean 'tracr/reverse'"):
        ground_truth.load("tracr/revers")
    with pytest.raises(ModelError):
        ground_truth.load("tracr/reverse@fixd")
    with pytest.raises(ModelError):
        ground_truth.load(tmp_path)


def test_model_comes_in_the_dtype_asked_for_and_hash_is_of_the_stored_weights():
    truth = ground_truth.load("tracr/hist")
    assert truth.model(dtype=torch.float64).dtype == torch.float64
    assert truth.weights_hash == truth.model().weights_hash
    hashes = {name: ground_truth.load(f"tracr/{name}").weights_hash for name in PROGRAMS}
    # The two parities have the same weights and differ in causal attention, which the hash covers.
    assert len(set(hashes.values())) == len(PROGRAMS)


def test_means_over_the_data_set_are_over_the_domain_whichever_prompts_are_averaged():
    truth = ground_truth.load("tracr/hist")
    for twin in ("mean-counterfactual", "mean[prompts=both]"):
        assert torch.equal(truth.reference(twin).core, truth.reference("mean").core)
    positional = truth.reference("mean-positional-counterfactual")
    assert torch.equal(positional.core, truth.reference("mean-positional").core)


def test_reference_is_none_where_nothing_is_certified():
    truth = ground_truth.load("tracr/hist")
    assert truth.reference("mean[over=batch]") is None and truth.reference("optimal") is None
    assert truth.reference("patch").graph.hash == truth.model().graph.hash
