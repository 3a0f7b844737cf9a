"""Prompt files as tasks of a benchmark, and how many prompts an evaluation takes."""

from __future__ import annotations

import json

import pytest

from circuitmeter.suite.errors import CircuitMeterError
from circuitmeter.suite.plan.expand import expand
from circuitmeter.suite.plan.spec import Spec

MODEL = "tracr/xproportion"


def write(path, *ids, **more):
    rows = [{"clean": [1, i, 2], "counterfactual": [1, 3, 2], "template": "t", **more} for i in ids]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def spec(task, **more):
    grid = {
        "task": [str(task)],
        "model": MODEL,
        "method": "exact",
        "ablation": "patch",
        "objective": "l2",
        "prompts": 2,
    }
    return Spec.of({"name": "own", "grid": grid, **more})


def test_a_prompt_file_is_a_task_with_a_model_and_a_hash(tmp_path):
    (job,) = expand(spec(write(tmp_path / "p.jsonl", 0, 1, 2))).jobs
    cell = job.cell
    assert (cell.task, cell.model, cell.truth, job.undefined) == ("p.jsonl", MODEL, None, None)
    for folder in ("elsewhere", "other"):
        (tmp_path / folder).mkdir()
    (same,) = expand(spec(write(tmp_path / "elsewhere" / "p.jsonl", 0, 1, 2))).cells
    (other,) = expand(spec(write(tmp_path / "other" / "p.jsonl", 4, 1, 2))).cells
    assert same.key == cell.key != other.key and other.data != cell.data


def test_prompts_limit_the_evaluation_unless_it_says_otherwise(tmp_path):
    path = write(tmp_path / "p.jsonl", 0, 1, 2)
    few, all_three = {"ablation": "patch", "size": 0.5}, {"ablation": "patch", "size": 0.5, "prompts": 3}
    (job,) = expand(spec(path, evaluation=few)).jobs
    (more,) = expand(spec(path, evaluation=all_three)).jobs
    assert job.evaluation.prompts == 2 and job.evaluation.data == job.cell.data
    assert more.evaluation.prompts == 3 and more.evaluation.data != more.cell.data


def test_its_own_splits_are_kept_apart(tmp_path):
    rows = [{"clean": [1, i], "counterfactual": [1, 3], "split": s} for i, s in ((0, "train"), (2, "test"))]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (job,) = expand(spec(tmp_path / "p.jsonl", evaluation={"ablation": "patch", "size": 0.5})).jobs
    assert job.evaluation.split == "test" and job.evaluation.data != job.cell.data


@pytest.mark.parametrize(
    ("more", "says"),
    [({"clean": "a b", "counterfactual": "a c"}, "no tokenizer"), ({"answer": 1, "wrong": 10**6}, "token ids up to")],
)
def test_what_the_model_cannot_take_is_said(more, says, tmp_path):
    with pytest.raises(CircuitMeterError, match=says):
        expand(spec(write(tmp_path / "p.jsonl", 0, **more)))
