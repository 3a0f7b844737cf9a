"""What `evaluate --tests` adds, on a compiled model whose circuit is known."""

import argparse
import json
from dataclasses import replace

import pytest
import torch

from circuitmeter import ground_truth
from circuitmeter.suite.circuit import Circuit
from circuitmeter.suite.interchange import CircuitFile, Origin
from circuitmeter.suite.intervention.setting import grid
from circuitmeter.suite.verbs import subjects
from circuitmeter.suite.verbs.arguments import add_computing, add_problem
from circuitmeter.suite.verbs.circuit_tests import circuit_tests, print_circuit_tests


@pytest.fixture(scope="module")
def problem():
    parser = argparse.ArgumentParser()
    add_problem(parser)
    add_computing(parser)
    options = parser.parse_args(["--task", "tracr/xproportion", "--device", "cpu"])
    loaded = subjects.with_model_loaded(subjects.outlined(options), options)
    return replace(loaded, data=loaded.data.select(torch.arange(0, 200, 5)))


def file(more=()):
    """The certified circuit under patch, with more edges."""
    truth = ground_truth.load("tracr/xproportion")
    edges = truth.reference("patch").core | truth.graph.matrix(more)
    return CircuitFile(Circuit(truth.graph, edges), None, Origin())


def test_entries_are_ways_to_run_the_circuit(problem, capsys):
    chosen = grid(ablation=["patch"], objective=["l2"], set=["complement", "circuit"], component=["edge", "node"])
    entries = circuit_tests(file(["pos_embed->m0"]), problem, chosen, seed=0, batch_size=None)
    assert [entry["setting"] for entry in entries] == ["patch | l2", "patch/node | l2"]
    json.dumps(entries, allow_nan=False)
    edge, node = entries
    assert edge["minimality"]["removed"] == ["pos_embed->m0"] and edge["minimality"]["largest"]
    assert edge["completeness"]["completeness"] == pytest.approx(1, abs=1e-3)
    assert node["minimality"] is None and "one by one" in node["undefined"]
    print_circuit_tests(entries)
    text = capsys.readouterr().out
    assert "1 of its edges can go (25 %): pos_embed->m0" in text
    assert "sufficiency" in text and "holds" in text and "nothing is better" in text


def test_a_setting_without_a_meaning_says_why(problem, capsys):
    chosen = grid(ablation=["patch"], objective=["logit-difference"])
    (entry,) = circuit_tests(file(), problem, chosen, seed=0, batch_size=None)
    assert entry["hypotheses"] is None and "needs right and wrong answer" in entry["undefined"]
    print_circuit_tests([entry])
    assert "undefined: logit-difference" in capsys.readouterr().out
