"""Files with answers of several tokens, and with counterfactual prompts of other lengths, from discover to evaluate."""

from __future__ import annotations

import json

import pytest

from circuitmeter.suite import cli


@pytest.fixture
def command(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments) -> tuple[int, str, str]:
        return cli.main([str(argument) for argument in arguments]), *capfd.readouterr()

    return run


def write(path, *lines) -> str:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path.name


def test_answers_of_several_tokens(command, tmp_path):
    lines = [
        {"clean": [5, 6, 7 + i], "counterfactual": [5, 9, 7], "answer": [[11, 12], 13], "wrong": [[11, 14 + i]]}
        for i in range(4)
    ]
    file = write(tmp_path / "several.jsonl", *lines)
    on = ["--data", file, "--model", "mini"]
    status, _, error = command("discover", *on, "--method", "eap", "--top", 40, "--out", "circuit.json")
    assert status == 0, error
    assert (
        json.loads((tmp_path / "circuit.json").read_text())["circuitmeter"]["objective"] == "log-probability-difference"
    )
    status, text, error = command("evaluate", "circuit.json", *on, "--ablation", "patch", "mean", "--json")
    assert status == 0, error
    rows = json.loads(text)["rows"]
    assert [row["objective"] for row in rows] == ["log-probability-difference"] * 2
    assert all(row["faithfulness"] is not None for row in rows) and json.loads(text)["prompts"] == 4
    status, _, error = command("evaluate", "circuit.json", *on, "--objective", "logit-difference")
    assert status == 2 and "logit-difference reads one token, and answers here have several" in error


def test_counterfactual_prompts_of_other_lengths(command, tmp_path):
    lines = [{"clean": [5, 6, 7 + i], "counterfactual": [5, 9], "answer": 11, "wrong": 12} for i in range(4)]
    file = write(tmp_path / "unpaired.jsonl", *lines)
    on = ["--data", file, "--model", "mini"]
    status, _, error = command("discover", *on, "--method", "eap", "--out", "circuit.json")
    assert status == 2 and "patch needs counterfactual prompts whose positions pair with" in error
    given = ["--ablation", "mean-counterfactual", "--top", 40, "--out", "circuit.json"]
    status, _, error = command("discover", *on, "--method", "eap", *given)
    assert status == 0, error
    status, text, error = command("evaluate", "circuit.json", *on, "--ablation", "zero", "patch", "--json")
    assert status == 0, error
    zero, patch = json.loads(text)["rows"]
    assert zero["undefined"] is None and "have other lengths" in patch["undefined"]
