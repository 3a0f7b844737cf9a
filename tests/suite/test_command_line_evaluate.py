"""``evaluate``: the factors of the grid are options, crossed; what has no meaning says why and stops nothing else."""

from __future__ import annotations

import json

import pytest

from circuitmeter.suite import cli

TASK = "tracr/reverse@fixed"


@pytest.fixture
def command(capfd):
    def run(*arguments) -> tuple[int, str, str]:
        status = cli.main([str(argument) for argument in arguments])
        return status, *capfd.readouterr()

    return run


@pytest.fixture
def circuit(tmp_path, command):
    """The true circuit under patch, found by the method that is given it."""
    path = tmp_path / "circuit.json"
    assert command("discover", "--task", TASK, "--method", "truth", "--top", 2, "--out", path)[0] == 0
    return path


def rows_of(text: str) -> dict[tuple[str, ...], dict]:
    found = json.loads(text)["rows"]
    return {tuple(row[name] for name in ("ablation", "component", "set", "direction")): row for row in found}


def test_the_patch_truth_is_faithful_under_patch_complete_and_not_enough_under_zero(circuit, command):
    status, text, err = command(
        "evaluate", circuit, "--task", TASK, "--ablation", "patch", "zero", "--component", "edge", "node",
        "--set", "complement", "circuit", "--direction", "noising", "denoising", "--json",
    )  # fmt: skip
    assert status == 0, err
    rows = rows_of(text)
    assert len(rows) == 16
    for component in ("edge", "node"):
        for direction in ("noising", "denoising"):
            assert rows["patch", component, "complement", direction]["faithfulness"] == pytest.approx(1, abs=1e-4)
            assert rows["patch", component, "circuit", direction]["faithfulness"] == pytest.approx(0, abs=1e-4)
        assert rows["zero", component, "complement", "noising"]["faithfulness"] < 0.9
        for which in ("complement", "circuit"):
            refused = rows["zero", component, which, "denoising"]
            assert refused["full"] is None and "corrupted run" in refused["undefined"]


def test_the_table_has_a_column_for_each_factor_that_varies(circuit, command):
    status, text, _ = command(
        "evaluate", circuit, "--task", TASK, "--reference", "cut-graph", "corrupted-run", "--objective", "kl", "l2"
    )
    lines = text.splitlines()
    assert status == 0 and len(lines) == 5
    assert lines[0].split() == [
        "ablation", "objective", "reference", "full", "cut", "circuit", "faithfulness", "edges"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--component", "nodes"], "no component 'nodes'. Did you mean 'node'?"),
        (["--ablation", "patches"], "no ablation 'patches'. Did you mean 'patch'?"),
        (["--direction", "denoising", "--ablation", "zero"], "denoising starts from a corrupted run"),
        (["--positions", "S2"], "the task names no positions"),
        (["--objective", "kl", "--reference", "none"], "needs a reference point"),
    ],
)
def test_a_request_without_any_meaning_is_one_line_and_status_2(circuit, command, arguments, sentence):
    status, out, err = command("evaluate", circuit, "--task", TASK, *arguments)
    assert status == 2 and not out
    assert sentence in err and len(err.strip().splitlines()) == 1


def test_a_mean_over_the_batch_says_of_how_many_prompts_and_no_other_number_depends_on_that(circuit, command):
    found = {}
    for size in (7, 50):
        status, text, err = command(
            "evaluate", circuit, "--task", TASK, "--ablation", "mean[over=batch,position=yes]", "mean-positional",
            "--batch-size", size, "--objective", "l2", "--json",
        )  # fmt: skip
        assert status == 0, err
        found[size] = json.loads(text)["rows"]
    (batch, dataset), (larger, same) = found[7], found[50]
    assert (batch["batch_size"], larger["batch_size"], dataset["batch_size"]) == (7, 50, None)
    assert batch["cut"] != pytest.approx(larger["cut"], rel=1e-3)
    assert dataset["cut"] == pytest.approx(same["cut"], rel=1e-6)
    _, _, said = command(
        "evaluate", circuit, "--task", TASK, "--ablation", "mean[over=batch]", "--batch-size", 7, "--objective", "l2"
    )
    assert "over 7 prompts" in said
