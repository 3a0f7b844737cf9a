"""``evaluate``: the factors of the grid are options, crossed; what has no meaning says why and stops nothing else."""

from __future__ import annotations

import json

import pytest

from circuitmeter.suite import cli

TASK = "tracr/trend"


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
    assert command("discover", "--task", TASK, "--method", "truth", "--top", 4, "--out", path)[0] == 0
    return path


def rows_of(text: str) -> dict[tuple[str, ...], dict]:
    found = json.loads(text)["rows"]
    return {tuple(row[name] for name in ("ablation", "component", "set", "direction")): row for row in found}


def test_the_patch_truth_is_faithful_under_patch_complete_and_not_enough_under_zero(circuit, command):
    status, text, err = command(
        "evaluate", circuit, "--task", TASK, "--ablation", "patch", "zero", "--component", "edge", "node",
        "--cut", "complement", "circuit", "--direction", "noising", "denoising", "--json",
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
        "ablation", "objective", "reference", "full", "nothing", "circuit", "faithfulness", "low", "high", "edges",
        "live",
    ]  # fmt: skip


def test_a_setting_without_a_meaning_has_its_reason_below_the_table(circuit, command):
    status, text, _ = command(
        "evaluate", circuit, "--task", TASK, "--ablation", "patch", "zero", "--direction", "noising", "denoising"
    )
    heading, *rows = text.splitlines()
    assert status == 0 and heading.split()[-2:] == ["live", "undefined"]
    assert [row.endswith("(1)") for row in rows[:4]] == [False, False, False, True]
    assert rows[4].startswith("(1) denoising starts from a corrupted run")


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
    for size in (40, 150):
        status, text, err = command(
            "evaluate", circuit, "--task", TASK, "--ablation", "mean[over=batch,position=yes]", "mean-positional",
            "--batch-size", size, "--objective", "l2", "--json",
        )  # fmt: skip
        assert status == 0, err
        found[size] = json.loads(text)["rows"]
    (batch, dataset), (larger, same) = found[40], found[150]
    assert (batch["batch_size"], larger["batch_size"], dataset["batch_size"]) == (40, 150, None)
    assert batch["nothing"] != pytest.approx(larger["nothing"], rel=1e-3)
    assert dataset["nothing"] == pytest.approx(same["nothing"], rel=1e-6)
    _, _, said = command(
        "evaluate", circuit, "--task", TASK, "--ablation", "mean[over=batch]", "--batch-size", 40, "--objective", "l2"
    )
    assert "over 40 prompts" in said


def test_a_curve_has_sizes_bands_and_areas(circuit, command):
    status, text, err = command(
        "evaluate", circuit, "--task", TASK, "--objective", "l2", "--curve", "--selection", "top-n", "--json"
    )
    assert status == 0, err
    (curve,) = json.loads(text)["curves"]
    points = curve["points"]
    assert [point["edges"] for point in points] == [int(13 * point["fraction"]) for point in points]
    for point in points:
        if point["edges"] >= 4:  # the truth scores 1 and all else 0
            assert point["faithfulness"] == pytest.approx(1, abs=1e-6)
        assert point["low"] <= point["faithfulness"] <= point["high"]
    # Nothing up to a fifth of 13 edges, all from a half on: the two trapezia on the right.
    assert curve["areas"]["cpr"][0] == pytest.approx(0.3 / 2 + 0.5, abs=1e-6)
    assert curve["areas"]["cmd"][0] == pytest.approx(0.199 + 0.3 / 2, abs=1e-6)
    status, text, _ = command("evaluate", circuit, "--task", TASK, "--objective", "l2", "--curve")
    assert status == 0 and "faithfulness by size under patch | l2" in text and "cmd_log" in text


def test_a_circuit_without_scores_has_no_curve(tmp_path, command):
    path = tmp_path / "names.json"
    path.write_text('["Resid Start->A0.0.V", "A0.0->Resid End"]')
    status, _, err = command("evaluate", path, "--task", TASK, "--curve")
    assert status == 2 and "holds no score of every edge" in err
