"""Every verb about a circuit says so when its model hardly does the task."""

from __future__ import annotations

import pytest

from circuitmeter.suite import cli
from circuitmeter.suite.scoring import behaviour

TASK = ["--task", "ioi", "--model", "mini", "--prompts", "4"]
CHANGES = ["--over", "seeds", "--runs", "2", "--top", "20"]
SETTINGS = ["--ablation", "patch", "--component", "edge", "--random", "0"]


@pytest.fixture(scope="module")
def circuit(tmp_path_factory):
    path = tmp_path_factory.mktemp("circuit") / "circuit.json"
    assert cli.main(["discover", *TASK, "--method", "random", "--top", "20", "--out", str(path)]) == 0
    return str(path)


@pytest.mark.parametrize("verb", ["discover", "evaluate", "sensitivity", "stability"])
def test_each_verb_warns_of_a_task_that_is_not_done(verb, circuit, tmp_path, capsys, monkeypatch):
    arguments = {
        "discover": ["discover", *TASK, "--method", "random", "--top", "20", "--out", str(tmp_path / "found.json")],
        "evaluate": ["evaluate", circuit, *TASK],
        "sensitivity": ["sensitivity", circuit, *TASK, *SETTINGS, "--out", str(tmp_path)],
        "stability": ["stability", *TASK[:4], "--method", "random", *CHANGES, "--out", str(tmp_path)],
    }[verb]
    monkeypatch.setattr(behaviour, "DOES", 1.01)
    assert cli.main(arguments) == 0
    assert "mini hardly does ioi (accuracy 1.00, " in capsys.readouterr().err
