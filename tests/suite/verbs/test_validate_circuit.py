"""``validate circuit.json``: a circuit beside the certified truth of its task and beside random circuits."""

from __future__ import annotations

import json

import pytest

from circuitmeter import ground_truth
from circuitmeter.suite import cli
from circuitmeter.suite.circuit import Circuit
from circuitmeter.suite.interchange import Origin, save

TRUTH = "tracr/reverse"


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def written(edges=None, of=TRUTH, **meta):
        truth = ground_truth.load(of)
        core = truth.reference("patch").core
        circuit = Circuit(truth.graph, core) if edges is None else Circuit.of(truth.graph, edges)
        save("c.json", circuit, None, d_model=truth.config.d_model, origin=Origin(**meta))
        return truth

    return written


def rows(capfd, *arguments):
    assert cli.main(["validate", "c.json", "--json", *arguments]) == 0
    found = json.loads(capfd.readouterr().out)
    return found, {row["ablation"]: row for row in found["rows"]}


def test_the_truth_under_one_ablation_is_measured_under_all(write, capfd):
    truth = write(task=TRUTH)
    found, by_ablation = rows(capfd)
    assert found["truth"] == TRUTH and set(by_ablation) == set(truth.ablations)
    core = truth.reference("patch").core
    assert found["edges"] == int(core.sum())
    for ablation, row in by_ablation.items():
        reference = truth.reference(ablation)
        kept = core & ~reference.optional
        hits = int((kept & reference.core).sum())
        assert row["precision"] == hits / int(kept.sum()) and row["recall"] == hits / int(reference.core.sum())
        assert row["percentile"] > 99 and 0 < row["random_f1"] < 0.5
    assert by_ablation["patch"]["exact"] == 1 and by_ablation["zero"]["recall"] < 1
    assert cli.main(["validate", "c.json"]) == 0
    table = capfd.readouterr().out
    assert "1,000 random connected circuits" in table and all(name in table for name in by_ablation)


def test_a_circuit_without_a_true_edge_is_no_better_than_random_ones(write, capfd):
    reference = ground_truth.load(TRUTH).reference("patch")
    wrong = reference.graph.exists & ~reference.core & ~reference.optional
    wrong = Circuit(reference.graph, wrong).names
    write(wrong[:8])
    _, by_ablation = rows(capfd, "--truth", TRUTH)  # the file says no task
    assert by_ablation["patch"]["precision"] == by_ablation["patch"]["recall"] == 0
    assert by_ablation["patch"]["percentile"] < 50


@pytest.mark.parametrize(
    ("meta", "arguments", "says"),
    [
        ({}, (), "does not say of which task it is; give --truth"),
        ({"task": "ioi"}, (), "has no certified truth; give --truth"),
        ({"task": TRUTH}, ("--truth", "tracr/revers"), "Did you mean 'tracr/reverse'?"),
        ({"task": TRUTH}, ("--truth", "tracr/xproportion"), "of another graph"),
        ({"task": TRUTH}, ("--set", "a=1", "--name", "b"), "--set, --name is of methods"),
    ],
)
def test_what_is_wrong_is_one_line(write, capfd, meta, arguments, says):
    write(**meta)
    assert cli.main(["validate", "c.json", *arguments]) == 2
    err = capfd.readouterr().err
    assert says in err and err.count("\n") == 1


def test_a_file_that_is_not_there(write, capfd):
    assert cli.main(["validate", "nowhere.json"]) == 2
    assert "cannot read nowhere.json" in capfd.readouterr().err


def test_other_weights_are_noted(write, capfd):
    write(task=TRUTH, model_hash="0" * 16)
    assert cli.main(["validate", "c.json"]) == 0
    assert "found on other weights" in capfd.readouterr().err


def test_a_circuit_of_no_edge(write, capfd):
    write([], task=TRUTH)
    assert cli.main(["validate", "c.json"]) == 2
    assert "a random circuit of 0 edges" in capfd.readouterr().err


def test_a_chimera_is_called_one(write, capfd):
    first, second = ground_truth.load("gates/backup").reference("zero").minimal
    halves = [*first.names[:3], *second.names[3:]]
    write(halves, of="gates/backup")
    _, by_ablation = rows(capfd, "--truth", "gates/backup")
    assert by_ablation["zero"]["minimal_circuit"] == "chimera"
    write(second.names, of="gates/backup")
    _, by_ablation = rows(capfd, "--truth", "gates/backup")
    assert by_ablation["zero"]["minimal_circuit"] == "minimal" and by_ablation["patch"]["minimal_circuit"] == "miss"
