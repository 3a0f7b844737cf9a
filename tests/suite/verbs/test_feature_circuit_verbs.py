"""Circuits of features on the command line: found, judged, drawn, and refused in one line where something is wrong."""

import json

import pytest
import torch
from feature_models import dictionary

from circuitmeter.suite.cli import main
from circuitmeter.suite.model.features.site import Site
from circuitmeter.suite.model.load.by_name import load_model
from circuitmeter.suite.model.load.dictionary import save_dictionary

MINI = ["--task", "ioi", "--model", "mini", "--device", "cpu", "--prompts", "6"]


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    folder = tmp_path_factory.mktemp("book")
    width = load_model("mini", device="cpu").config.d_model
    save_dictionary(dictionary(width, centred=True).to(torch.zeros(())), folder, Site.parse("mlp_out.1"))
    return folder


@pytest.fixture(scope="module")
def circuit(book, tmp_path_factory):
    out = tmp_path_factory.mktemp("circuit") / "features.json"
    given = ["--dictionary", str(book), "--top-features", "4", "--method", "eap", "--top", "30", "--out", str(out)]
    assert main(["discover", *MINI, *given]) == 0
    return out


def test_the_file_says_which_features_are_nodes(circuit):
    content = json.loads(circuit.read_text())
    (site,) = content["circuitmeter"]["graph"]["sites"]
    assert site["site"] == {"layer": 1, "place": "mlp_out"}
    assert len(site["features"]) == 4
    nodes = {f"m1.f{f}" for f in site["features"]} | {"m1.error"}
    assert nodes <= set(content["nodes"])
    assert "m1" not in content["nodes"]


def test_it_is_evaluated_and_drawn(circuit, book, capsys):
    assert main(["evaluate", str(circuit), *MINI, "--dictionary", f"{book}@mlp_out.1", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["edges"] == 30 and row["faithfulness"] is not None
    assert main(["evaluate", str(circuit), *MINI, "--dictionary", str(book), "--ablation", "zero", "mean"]) == 0
    printed = capsys.readouterr().out
    assert "features_alone" in printed and "errors_alone" in printed
    assert main(["show", str(circuit)]) == 0
    assert "m1.error" in capsys.readouterr().out


def test_with_every_edge_kept_the_circuit_is_the_model(book, tmp_path, capsys):
    out = tmp_path / "all.json"
    given = ["--dictionary", str(book), "--top-features", "2", "--method", "eap", "--fraction", "1", "--out", str(out)]
    assert main(["discover", *MINI, *given]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(out), *MINI, "--dictionary", str(book), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["faithfulness"] == pytest.approx(1, abs=1e-4)


def refused(capsys, said, *arguments):
    assert main([*arguments]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1, err


def test_what_is_wrong_is_one_line(circuit, book, tmp_path, capsys):
    other = tmp_path / "other"
    width = load_model("mini", device="cpu").config.d_model
    save_dictionary(dictionary(width, seed=9).to(torch.zeros(())), other, Site.parse("mlp_out.1"))
    refused(capsys, "give --dictionary DIR@mlp_out.1", "evaluate", str(circuit), *MINI)
    refused(capsys, "another dictionary", "evaluate", str(circuit), *MINI, "--dictionary", str(other))
    found = ["--method", "eap", "--out", str(tmp_path / "x.json")]
    refused(capsys, "layers 0 to", "discover", *MINI, "--dictionary", f"{book}@mlp_out.7", *found)
    refused(capsys, "two dictionaries", "discover", *MINI, "--dictionary", str(book), str(other), *found)
    refused(capsys, "goes with --dictionary", "discover", *MINI, "--top-features", "3", *found)
    refused(capsys, "no rule for nodes", "discover", *MINI, "--dictionary", str(book), "--method", "hisp", *found[2:])
    narrow = tmp_path / "narrow"
    save_dictionary(dictionary(5).to(torch.zeros(())), narrow, Site.parse("mlp_out.0"))
    refused(capsys, "reads 5", "discover", *MINI, "--dictionary", str(narrow), *found)
    assert not (tmp_path / "x.json").exists()


@pytest.fixture(scope="module")
def shipped_circuit(tmp_path_factory):
    """A circuit of the features of a shipped dictionary, with the model's name alone."""
    out = tmp_path_factory.mktemp("shipped") / "features.json"
    given = ["--task", "ioi", "--model", "mini-dictionaries/ioi-narrow-0", "--device", "cpu", "--prompts", "6"]
    assert main(["discover", *given, "--method", "eap", "--top", "40", "--out", str(out)]) == 0
    return given, out


def test_a_model_with_shipped_features_is_discovered_and_evaluated(shipped_circuit, capsys):
    given, out = shipped_circuit
    assert main(["evaluate", str(out), *given, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["edges"] == 40 and row["faithfulness"] is not None
    assert any(node.startswith("r1.f") for node in json.loads(out.read_text())["nodes"])


def test_features_are_shown_with_the_prompts_that_they_are_most_active_on(shipped_circuit, circuit, book, capsys):
    _, out = shipped_circuit
    assert main(["show", str(out), "--examples", "2", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out.split("\n\n")
    about = [part.splitlines() for part in printed if part.startswith("r1.f")]
    assert about and all(len(lines) <= 3 for lines in about)
    (first,) = [lines for lines in about if len(lines) == 3][:1]
    values = [float(line.split()[0]) for line in first[1:]]
    assert values == sorted(values, reverse=True) and values[1] > 0
    assert all(line.count("[") == line.count("]") == 1 for line in first[1:])
    assert main(["show", str(circuit), "--examples", "1", "--dictionary", f"{book}@mlp_out.1", "--device", "cpu"]) == 0
    assert "\nm1.f" in capsys.readouterr().out


def test_examples_that_cannot_be_shown_are_one_line(circuit, shipped_circuit, tmp_path, capsys):
    refused(capsys, "give --dictionary DIR@mlp_out.1", "show", str(circuit), "--examples", "1", "--device", "cpu")
    refused(capsys, "goes with a circuit file", "show", "tracr/hist", "--examples", "1")
    refused(capsys, "goes with --examples", "show", str(circuit), "--dictionary", "sae@mlp_out.1")
    plain = tmp_path / "plain.json"
    found = ["--task", "tracr/hist", "--method", "truth", "--top", "5", "--out", str(plain), "--device", "cpu"]
    assert main(["discover", *found]) == 0
    capsys.readouterr()
    refused(capsys, "has no features", "show", str(plain), "--examples", "1")
    content = json.loads(shipped_circuit[1].read_text())
    del content["circuitmeter"]["task"]
    (tmp_path / "nameless.json").write_text(json.dumps(content))
    refused(capsys, "does not say which task", "show", str(tmp_path / "nameless.json"), "--examples", "1")
    refused(capsys, "set of dictionaries", "discover", "--task", "ioi", "--model", "mini-dictionaries/ioi-huge-0",
            "--method", "eap", "--out", str(tmp_path / "x.json"))  # fmt: skip


def test_of_a_certified_circuit_the_features_keep_everything_and_the_error_nodes_nothing(tmp_path, capsys):
    out, task = tmp_path / "truth.json", ["--task", "tracr-rotated-features/fraction_a", "--device", "cpu"]
    assert main(["discover", *task, "--method", "truth", "--out", str(out)]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(out), *task, "--ablation", "patch", "zero", "--json"]) == 0
    for row in json.loads(capsys.readouterr().out)["rows"]:
        assert row["features_alone"] == pytest.approx(row["faithfulness"], abs=1e-4) == pytest.approx(1, abs=1e-4)
        assert row["errors_alone"] == pytest.approx(0, abs=1e-4)
