"""``convert`` and ``compare``: circuit files of every format, carried over exactly and laid side by side."""

from __future__ import annotations

import json

import pytest
import torch

from circuitmeter.suite import cli
from circuitmeter.suite.circuit import EdgeScores, top_n
from circuitmeter.suite.interchange import Origin, exactly_on, load, save
from circuitmeter.suite.model.graph import Graph
from circuitmeter.suite.model.position_graph import PositionGraph
from circuitmeter.suite.scoring.overlap import by_size, overlap, rank_correlation


@pytest.fixture
def command(capsys):
    def run(*arguments):
        status = cli.main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return run


def scored(graph, seed):
    generator = torch.Generator().manual_seed(seed)
    return EdgeScores(graph, torch.randn(graph.exists.shape, dtype=torch.float64, generator=generator))


@pytest.fixture
def file(tmp_path):
    def write(name, graph, seed=0, n=20, **options):
        scores = scored(graph, seed)
        save(tmp_path / name, top_n(scores, n), scores, d_model=8, origin=Origin(method="eap", **options))
        return tmp_path / name

    return write


@pytest.mark.parametrize("to", ["eap-ig", "mib", "auto-circuit", "acdc"])
@pytest.mark.parametrize(("inputs", "positions"), [("sum", "learned"), ("token", "rotary")])
def test_there_and_back_is_the_same_circuit_with_its_scores(to, inputs, positions, file, command, tmp_path):
    path = file("c.json", Graph(2, 2, inputs), positions=positions)
    status, out, err = command("convert", path, "--to", to, "--out", tmp_path / "there.json")
    assert (status, err) == (0, "") and out.startswith("20 of ")
    status, _, _ = command("convert", tmp_path / "there.json", "--to", "auto-circuit", "--inputs", "sum",
                           "--out", tmp_path / "back.json")  # fmt: skip
    found, first = load(tmp_path / "back.json"), load(path)
    assert status == 0 and torch.equal(found.circuit.edges, first.circuit.edges)
    assert (found.scores.flat() == first.scores.flat()).all() and found.origin.method == "eap"


def test_what_has_no_equal_is_said_and_not_written(file, command, tmp_path):
    path = file("c.json", Graph(2, 2, "token"))
    status, out, err = command("convert", path, "--to", "auto-circuit", "--out", tmp_path / "d.json")
    assert status == 2 and out == "" and "no equal" in err and err.count("\n") == 1
    assert "`discover --inputs sum` finds" in err and "inputs=token or split" in err
    assert not (tmp_path / "d.json").exists()
    status, _, err = command("convert", path, "--to", "eap-ig", "--out", tmp_path / "none" / "d.json")
    assert status == 2 and "cannot write" in err


@pytest.mark.parametrize(("to", "inputs"), [("auto-circuit", "token"), ("auto-circuit", "split"), ("acdc", "token")])
def test_input_nodes_that_a_format_cannot_have_are_refused_as_such(to, inputs, file, command, tmp_path):
    path = file("c.json", Graph(2, 2, "token"))
    status, out, err = command("convert", path, "--to", to, "--inputs", inputs, "--out", tmp_path / "d.json")
    assert status == 2 and out == "" and err.count("\n") == 1
    assert f"--inputs {inputs}: the graph of {to} cannot have these" in err and "takes --inputs sum" in err


def test_acdc_has_an_equal_of_a_circuit_of_tokens_with_learned_positions(file, command, tmp_path):
    path = file("c.json", Graph(2, 2, "token"), positions="learned")
    status, out, err = command("convert", path, "--to", "acdc", "--out", tmp_path / "d.json")
    assert status == 0 and out.startswith("20 of ") and "token and position embedding are apart" in err
    there, first = load(tmp_path / "d.json").circuit, load(path).circuit
    assert there.graph.inputs == "split"
    token, position = there.edges[:2]
    assert torch.equal(token, first.edges[0]) and position[there.graph.exists[1]].all()
    assert torch.equal(there.edges[2:], first.edges[1:])


def test_a_list_takes_its_graph_from_the_model(command, tmp_path):
    (tmp_path / "c.json").write_text('["input->m0", "m1->logits"]')
    arguments = ("convert", tmp_path / "c.json", "--to", "eap-ig", "--out", tmp_path / "d.json")
    status, _, err = command(*arguments)
    assert status == 2 and "--model" in err
    status, _, _ = command(*arguments, "--model", "mini")
    found = load(tmp_path / "d.json").circuit
    assert status == 0 and found.names == ["input->m0", "m1->logits"] and found.graph.n_layers == 2


def test_overlap_by_hand():
    graph = Graph(1, 1)
    a, b = scored(graph, 0), scored(graph, 1)
    first, second = top_n(a, 4), top_n(b, 3)
    found = overlap(first, second)
    common = set(first.names) & set(second.names)
    assert (found.first, found.second, found.common) == (4, 3, len(common))
    assert found.iou == len(common) / len(set(first.names) | set(second.names))
    assert found.precision == len(common) / 3 and found.recall == len(common) / 4
    assert overlap(top_n(a, 0), top_n(a, 0)).iou is None
    assert all(at.iou == 1 for at in by_size(a, a)) and rank_correlation(a, a) == pytest.approx(
        {"spearman": 1, "kendall": 1}
    )
    backwards = EdgeScores(graph, 1 / a.values.abs().nan_to_num(1))
    assert rank_correlation(a, backwards) == pytest.approx({"spearman": -1, "kendall": -1})
    assert rank_correlation(a, EdgeScores(graph, torch.ones_like(a.values)))["kendall"] is None


def test_files_side_by_side(file, command, tmp_path):
    graph = Graph(2, 2)
    paths = [file(f"{i}.json", graph, seed=i) for i in range(3)]
    status, out, err = command("compare", *paths, "--json")
    found = json.loads(out)
    assert (status, err, len(found["pairs"])) == (0, "", 3)
    pair = found["pairs"][0]
    same = set(load(paths[0]).circuit.names) & set(load(paths[1]).circuit.names)
    assert pair["overlap"]["common"] == len(same) and pair["overlap"]["precision"] == len(same) / 20
    assert [at["fraction"] for at in pair["by_size"]][-1] == 0.5 and abs(pair["ranks"]["spearman"]) < 1
    status, out, err = command("compare", *paths)
    assert status == 0 and "IoU" in out and "Spearman" in out


def test_other_inputs_and_lists_are_compared_too(file, command, tmp_path):
    whole = file("a.json", Graph(2, 2, "token"))
    (tmp_path / "b.json").write_text('["Resid Start->MLP 0", "MLP 1->Resid End"]')
    status, out, err = command("compare", whole, tmp_path / "b.json")
    assert status == 0 and "same input nodes" in err
    apart = [load(whole).circuit, load(tmp_path / "b.json", Graph(2, 2, "sum")).circuit]
    apart = [exactly_on(circuit, Graph(2, 2, "split")).n_edges for circuit in apart]
    assert "(inputs=split): " in err and f"the 20 of {whole} (inputs=token) are {apart[0]}" in err
    assert f"the 2 of {tmp_path / 'b.json'} (inputs=sum) are {apart[1]}" in err and apart[1] == 3
    status, _, err = command("compare", tmp_path / "b.json", tmp_path / "b.json")
    assert status == 2 and "says of which graph" in err
    other = file("c.json", Graph(3, 2))
    status, _, err = command("compare", whole, other)
    assert status == 2 and f"{other}: the circuit is of another graph" in err and f"than {whole}'s (" in err
    assert "model" not in err
    status, _, err = command("compare", whole)
    assert status == 2 and "two circuit files" in err


def test_positions_are_the_first_reason_why_a_format_cannot_hold_a_circuit(file, command, tmp_path):
    path = file("p.json", PositionGraph(1, 2, "token", True, False, 4, True))
    for to in ("acdc", "auto-circuit"):
        status, out, err = command("convert", path, "--to", to, "--out", tmp_path / "d.json")
        assert status == 2 and out == "" and f"single positions of 4, for which {to} has no names" in err
