"""Circuits of other tools on the command line: Miller et al.'s own, and ours in every format."""

import json

import pytest

from circuitmeter.suite import cli

# The circuits of Miller, Chughtai and Saunders 2024 (arXiv:2407.08734), in auto-circuit's names: what is needed when
# edges are resampled, and what more when they are zeroed.
XPROPORTION = ["Resid Start->MLP 0", "MLP 0->A1.0.V", "A1.0->Resid End"]
XPROPORTION_ZERO = ["Resid Start->A1.0.Q", "Resid Start->A1.0.K"]
REVERSE = ["Resid Start->A3.0.V", "A3.0->Resid End"]
REVERSE_ZERO = [
    "MLP 2->A3.0.Q",
    "Resid Start->A3.0.K",
    "MLP 1->MLP 2",
    "MLP 0->MLP 1",
    "Resid Start->MLP 1",
    "A0.0->MLP 0",
    "Resid Start->MLP 0",
    "Resid Start->A0.0.V",
]


@pytest.fixture
def command(capfd):
    """Runs the command in this process: (exit status, stdout, stderr)."""

    def run(*arguments) -> tuple[int, str, str]:
        status = cli.main([str(argument) for argument in arguments])
        return status, *capfd.readouterr()

    return run


def faithfulness(command, path, task, *arguments) -> list[float]:
    status, text, err = command("evaluate", path, "--task", task, "--json", *arguments)
    assert status == 0, err
    return [row["faithfulness"] for row in json.loads(text)["rows"]]


@pytest.mark.parametrize(
    ("small", "more", "task"),
    [(XPROPORTION, XPROPORTION_ZERO, "tracr/xproportion"), (REVERSE, REVERSE_ZERO, "tracr/reverse@fixed")],
)
def test_published_circuits_of_auto_circuit_hold(small, more, task, tmp_path, command):
    """The small one under patch and not under zero; the large one under both."""
    found = []
    for name, edges in (("small", small), ("large", small + more)):
        (tmp_path / f"{name}.json").write_text(json.dumps(edges))
        found += faithfulness(command, tmp_path / f"{name}.json", task, "--ablation", "patch", "zero")
    assert [found[0], *found[2:]] == pytest.approx([1, 1, 1], abs=1e-4)
    assert found[1] < 0.6


def test_a_circuit_in_every_format_measures_the_same(tmp_path, command):
    measured = {}
    for format in ("eap-ig", "acdc"):
        path = tmp_path / f"{format}.json"
        arguments = ("--task", "tracr/xproportion", "--method", "eap", "--top", 7, "--format", format)
        assert command("discover", *arguments, "--out", path)[0] == 0
        measured[format] = faithfulness(command, path, "tracr/xproportion", "--ablation", "zero", "mean")
    assert measured["acdc"] == measured["eap-ig"]


def test_what_cannot_be_said_or_read_is_one_line(tmp_path, command):
    arguments = ("--task", "tracr/xproportion", "--method", "eap", "--top", 7, "--format", "auto-circuit")
    status, _, err = command("discover", *arguments, "--out", tmp_path / "c.json")
    assert status == 2 and err.count("\n") == 1 and "no equal" in err
    (tmp_path / "edges.pkl").write_bytes(b"\x80\x04")
    status, _, err = command("evaluate", tmp_path / "edges.pkl", "--task", "tracr/xproportion")
    assert status == 2 and err.count("\n") == 1 and "to_json()" in err
