"""A GPT-2 folder as ``transformers`` saves it, with every verb that takes a model; and the same without a hub."""

from __future__ import annotations

import json

import pytest

from circuitmeter.suite.cli import main
from circuitmeter.tasks import mini

TASK = ["--task", "country-capital"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Saved by ``save_pretrained``, weights and tokenizer."""
    from transformers import AutoTokenizer, GPT2LMHeadModel

    path = tmp_path_factory.mktemp("models") / "my-gpt2"
    GPT2LMHeadModel.from_pretrained(mini.folder("mini")).save_pretrained(path)
    AutoTokenizer.from_pretrained(mini.folder("mini")).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def circuit(folder, tmp_path_factory):
    """``discover`` on the folder."""
    out = tmp_path_factory.mktemp("found") / "c.json"
    assert main(["discover", *TASK, "--model", str(folder), "--method", "eap", "--top", "60", "--out", str(out)]) == 0
    return out


def test_discover(circuit, folder):
    found = json.loads(circuit.read_text())
    assert sum(edge["in_graph"] for edge in found["edges"].values()) <= 60 and found["cfg"]["n_layers"] == 2


def test_evaluate(circuit, folder, capsys):
    assert main(["evaluate", str(circuit), *TASK, "--model", str(folder), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["full"] > 5 and 0.3 < row["faithfulness"] < 1.2


def test_sensitivity(circuit, folder, tmp_path, capsys):
    few = ["--ablation", "patch", "zero", "--component", "edge", "--direction", "noising", "--cut", "complement"]
    few += ["--objective", "logit-difference", "--prompts", "10", "--random", "4"]
    asked = ["sensitivity", str(circuit), *TASK, "--model", str(folder), "--out", str(tmp_path), "--json"]
    assert main([*asked, *few]) == 0
    assert (tmp_path / "card.json").is_file()
    capsys.readouterr()


def test_run(folder, tmp_path, capsys):
    spec = tmp_path / "mine.toml"
    grid = f'task = "country-capital"\nmodel = {str(folder)!r}\nmethod = "eap"\nablation = "patch"\nprompts = 10\n'
    spec.write_text(f"[grid]\n{grid}")
    assert main(["run", str(spec), "--store", str(tmp_path / "s"), "--executor", "serial"]) == 0
    assert "1 done, 0 undefined, 0 failed" in capsys.readouterr().out


def test_reproduce(folder, tmp_path, capsys, monkeypatch):
    from circuitmeter.reports.reproduction import manifest as manifests

    whole = manifests.load("gpt2-baselines").model_dump()
    part = whole["part"][0]
    part["benchmark"]["grid"] = [{**part["benchmark"]["grid"][0], "task": ["country-capital@paper+bos"]}]
    values = [value for value in whole["value"] if "small: country-capital" in value["name"]]
    paper = manifests.Manifest.model_validate({**whole, "part": [part], "value": values})
    monkeypatch.setattr(manifests, "load", lambda name: paper)
    asked = ["reproduce", "gpt2-baselines", "--model", str(folder), "--store", str(tmp_path / "s")]
    assert main([*asked, "--executor", "serial"]) == 0
    assert "2 on another model" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["discover", "evaluate", "sensitivity", "reproduce"])
def test_without_a_hub_each_verb_says_at_once_what_is_missing_and_both_ways_to_provide_it(
    verb, circuit, tmp_path, capsys, monkeypatch
):
    import huggingface_hub

    asked = []

    def unreachable(*_, **options):
        asked.append(options)
        raise OSError("no route to host")

    look = huggingface_hub.snapshot_download

    def on_this_machine(*arguments, **options):
        assert options.get("local_files_only"), "the hub's own client tries again and again, for half a minute"
        return look(*arguments, **options)

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", on_this_machine)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    arguments = {
        "discover": [*TASK, "--method", "eap", "--out", "c.json"],
        "evaluate": [str(circuit), *TASK],
        "sensitivity": [str(circuit), *TASK],
        "reproduce": ["gpt2-baselines"],
    }
    capsys.readouterr()
    assert main([verb, *arguments[verb], "--model", "gpt2"]) == 2
    assert len(asked) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    for part in ("no model 'gpt2' on this machine", "config.json", "hf download gpt2", "--model PATH"):
        assert part in line
