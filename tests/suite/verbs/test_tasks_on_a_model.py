"""``list tasks --model`` and ``show TASK --model``: a task as a model meets it."""

from __future__ import annotations

import json

import pytest

from circuitmeter.suite import cli


def run(capsys, *arguments):
    status = cli.main(list(arguments))
    return status, *capsys.readouterr()


def test_tasks_on_a_model(capsys):
    status, out, _ = run(capsys, "list", "tasks", "ioi*", "--model", "mini", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert status == 0 and rows["ioi"]["does_it"] == "yes" and rows["ioi"]["accuracy"] == 1.0
    assert rows["ioi"]["usable"].split(",")[0].endswith("of 99 names") and "ioi@flip" in rows


def test_a_task_that_cannot_be_asked_says_why(capsys):
    status, out, _ = run(capsys, "list", "tasks", "greater-than@digit", "--model", "mini")
    assert status == 0 and "cannot be asked: this model's tokenizer does not split a year into digits" in out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["list", "methods", "--model", "mini"], "--model goes with `list tasks`"),
        (["list", "tasks", "tracr/*", "--model", "mini"], "no task as text matches 'tracr/*'"),
        (["list", "tasks", "--model", "tracr/hist"], "has no tokenizer"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, message):
    status, out, error = run(capsys, *arguments)
    assert status == 2 and not out and message in error and error.count("\n") == 1


def test_prompts_as_text_with_the_models_answers(capsys):
    status, out, _ = run(capsys, "show", "ioi", "--model", "mini", "--prompts", "2")
    assert status == 0 and "mini on ioi: accuracy 1.00" in out
    assert out.count("counterfactual: ") == out.count("the model says: ") == 2
    right = out.split("right: ")[1].split(";")[0]
    assert f"the model says: {right} " in out
