"""Circuits with positions on the command line: found, written, shown, read again and measured."""

import json

import pytest
import torch

from circuitmeter import ground_truth, tasks
from circuitmeter.suite.circuit import Circuit
from circuitmeter.suite.cli import main
from circuitmeter.suite.errors import DataError
from circuitmeter.suite.interchange import Origin, load, read, save
from circuitmeter.suite.plan.spec import Spec

TASK = "tracr-positions/first_token"


def discovered(tmp_path, *more, task=TASK, method="peap"):
    out = tmp_path / "circuit.json"
    assert main(["discover", "--task", task, "--method", method, "--out", str(out), "--device", "cpu", *more]) == 0
    return out


def test_a_certified_circuit_is_found_written_and_read_again(tmp_path, capsys):
    out = discovered(tmp_path)
    truth = ground_truth.load(TASK)
    file = load(out)
    assert file.circuit.graph == truth.graph and set(file.circuit.names) == set(
        truth.certificate.ablations["patch"].core
    )
    stated = json.loads(out.read_text())["circuitmeter"]["graph"]
    assert (stated["n_positions"], stated["causal"]) == (6, False)
    capsys.readouterr()
    assert main(["show", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "● <v>@1 from tok_embed" in shown and "● @5    from a0.h0" in shown and "<v>@2" not in shown
    assert main(["show", str(out), "--truth"]) == 0
    assert "under patch: 6 found, 0 missed, 0 wrongly added" in capsys.readouterr().out


def test_evaluate_measures_it_and_compares_it_with_the_truth(tmp_path, capsys):
    out = discovered(tmp_path)
    capsys.readouterr()
    given = ["--task", TASK, "--truth", TASK, "--device", "cpu", "--json"]
    assert main(["evaluate", str(out), *given]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"][0]["faithfulness"] == pytest.approx(1) and found["n_edges"] == 78
    (recovered,) = found["recovery"].values()
    assert recovered["exact"] == 1


def test_a_circuit_without_positions_is_taken_at_all_of_them(tmp_path, capsys):
    whole = ground_truth.load("tracr/first_token@fixed")
    path = tmp_path / "whole.json"
    save(path, Circuit.of(whole.graph, whole.certificate.ablations["patch"].core), None, d_model=14, origin=Origin())
    graph = ground_truth.load(TASK).graph
    file = read(path).on(graph)
    assert file.circuit.names == Circuit(graph, graph.at_every_position(read(path).on(whole.graph).circuit.edges)).names
    assert file.circuit.n_edges == 12 and "names no positions: each edge is taken at all 6 of them" in file.notes[-1]
    assert main(["evaluate", str(path), "--task", TASK, "--device", "cpu", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["rows"][0]["faithfulness"] == pytest.approx(1) and "at all 6 of them" in said.err


def test_prompts_of_ones_own_are_told_apart_by_position(tmp_path, capsys):
    rows = [{"clean": [1, a, b], "counterfactual": [1, b, a], "answer": [2], "wrong": [3]} for a, b in ((2, 3), (3, 2))]
    data = tmp_path / "mine.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "mine.json"
    common = ["--data", str(data), "--model", "mini", "--device", "cpu"]
    search = ["discover", *common, "--method", "peap", "--top", "9", "--by-position", "--out", str(out)]
    assert main(search) == 0
    file = load(out)
    assert file.circuit.graph.n_positions == 3 and file.circuit.graph.causal
    capsys.readouterr()
    assert main(["evaluate", str(out), *common]) == 0
    assert main([*search, "--format", "acdc"]) == 2
    assert "no names for edges at single positions" in capsys.readouterr().err
    data.write_text(
        "\n".join(map(json.dumps, [*rows, {**rows[0], "clean": [1, 2, 2, 3], "counterfactual": [1, 2, 3, 2]}]))
    )
    assert main(search) == 2
    assert "have 3 to 4 tokens; edges are told apart by position where all" in capsys.readouterr().err
    assert main(["evaluate", str(out), *common]) == 2
    assert "3 to 4 tokens" in capsys.readouterr().err


def test_a_circuit_of_another_length_or_without_positions_is_refused(tmp_path):
    out = discovered(tmp_path)
    with pytest.raises(DataError, match="at single positions of 6, and the graph has no positions"):
        read(out).on(ground_truth.load("tracr/first_token@fixed").graph)
    with pytest.raises(DataError, match="at single positions of 6, and the graph has 4 positions"):
        content = json.loads(out.read_text())
        del content["edges"], content["nodes"]
        graph = ground_truth.load("gates-positions/and").graph
        kept = {**content, "edges": ["tok_embed->m0@1"]}
        kept["circuitmeter"]["graph"] |= {"n_heads": graph.n_heads, "n_layers": graph.n_layers}
        other = tmp_path / "other.json"
        other.write_text(json.dumps(kept))
        read(other).on(graph)
    content = json.loads(out.read_text())
    content["circuitmeter"]["graph"]["n_positions"] = 1 << 40
    (tmp_path / "huge.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="larger than any that can be built"):
        load(tmp_path / "huge.json")


def test_a_benchmark_takes_tasks_with_positions():
    spec = Spec.of(
        {"name": "small", "grid": {"task": ["gates-positions/*"], "method": ["peap", "eap"], "ablation": ["patch"]}}
    )
    assert spec.name == "small" and len(tasks.load("gates-positions/and").data().clean) == 56
    assert torch.equal(tasks.load("gates-positions/and").data().clean, tasks.load("gates/and").data().clean)


def test_a_circuit_of_dead_ends_says_why(tmp_path, capsys):
    discovered(tmp_path, "--by-position", "--top", "1", task="tracr/first_token@fixed", method="random")
    out, err = capsys.readouterr()
    assert ", 0 without dead ends" in out
    assert "No path of these edges leads from the inputs to the logits" in err and "--selection greedy" in err
    discovered(tmp_path)
    assert "No path" not in capsys.readouterr().err
