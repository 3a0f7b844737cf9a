"""``validate --set``, ``--preset`` and ``--name``: your method's parameters reach it, and its cells' identity."""

from __future__ import annotations

import json

import pytest

from circuitmeter.suite import cli
from circuitmeter.suite.store.store import Store

METHOD = """
from circuitmeter.suite.methods.registry import method

@method("mine", paper="mine", presets={"far": {"power": 3.0}})
def discover(model, data, *, ablation, objective, seed, power=1.0, order="forward", called=0):
    edges = model.graph.edges
    names = list(map(str, edges)) if order == "forward" else list(map(str, edges))[::-1]
    return {name: (i + 1.0) ** power for i, name in enumerate(names)}
"""
BENCHMARK = """
[grid]
task = "tracr/xproportion"
method = ["random", "magnitude"]
ablation = "zero"
objective = "l2"
"""


@pytest.fixture
def validate(tmp_path, monkeypatch, capfd):
    (tmp_path / "mine.py").write_text(METHOD)
    (tmp_path / "small.toml").write_text(BENCHMARK)
    monkeypatch.chdir(tmp_path)

    def run(*more):
        common = ["--against", "small.toml", "--store", "s", "--executor", "serial", "--yes", "--json"]
        status = cli.main(["validate", "mine.py:discover", *common, *more])
        out, err = capfd.readouterr()
        run.said = err
        return (status, err) if status == 2 else (status, json.loads(out))

    return run


def test_parameters_and_name_are_in_the_identity_and_change_the_scores(validate, tmp_path):
    assert validate()[0] == 0
    status, found = validate("--preset", "far", "--set", "order=backward", "--name", "my-far")
    assert status == 0 and found["name"] == "my-far" and found["method"] == "mine.py:discover"
    ranking = found["rankings"][0]
    assert ranking["label"] == "my-far" and ranking["rank"] and "my-far" in ranking["scores"]
    by_name = {record.identity.method: record for record in Store(tmp_path / "s").records()}
    plain, named = by_name["mine"], by_name["my-far"]
    assert plain.identity.parameters == {"power": 1.0, "order": "forward", "called": 0}
    assert named.identity.parameters == {"power": 3.0, "order": "backward", "called": 0}
    assert plain.key != named.key and plain.recovery["zero"].auroc != named.recovery["zero"].auroc
    assert plain.recovery["zero"].auroc == pytest.approx(1 - named.recovery["zero"].auroc)  # the order reversed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--set", "powr=2"), "Did you mean 'power'?"),
        (("--set", "power=much"), "power is a number"),
        (("--set", "power"), "write KEY=VALUE"),
        (("--set", "called=1"), "rename your parameter"),
        (("--preset", "near"), "no preset 'near'"),
        (("--name", "eap"), "'eap' is the name of a registered method"),
        (("--name", "a (b)"), "cannot be called"),
        (("--truth", "tracr/reverse"), "--truth is of circuit files"),
    ],
)
def test_what_is_wrong_is_one_line(validate, tmp_path, arguments, says):
    status, err = validate(*arguments)
    assert status == 2 and says in err and err.count("\n") == 1
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("def discover(model, data):", "mine.py, line 2: discover(model, data) cannot be called as a method is"),
        ("def discover(model, data, *, ablation, objective, seed, strength):", "'strength'"),
    ],
)
def test_a_function_with_another_signature_is_named_with_its_line_and_what_is_needed(validate, tmp_path, written, says):
    (tmp_path / "mine.py").write_text(f"\n{written}\n    return {{}}\n")
    status, err = validate()
    assert status == 2 and says in err and err.count("\n") == 1 and "registry.py" not in err
    assert "write `def discover(model, data, *, ablation, objective, seed)`" in err
    assert not (tmp_path / "s").exists()


def test_scores_that_are_all_zero_are_told(validate, tmp_path):
    source = (tmp_path / "mine.py").read_text().replace("(i + 1.0) ** power", "0.0")
    (tmp_path / "mine.py").write_text(source)
    status, found = validate()
    assert status == 0 and found["rankings"][0]["cells"] == found["rankings"][0]["cells_of_zeros"] == 1
    assert found["verdict"][0].startswith("mine: every score is 0 on 1 of 1 cell (zero/l2). The gradient of l2 is zero")


def test_progress_says_which_of_its_two_counts_is_which(validate):
    assert validate()[0] == 0
    assert "\nbuilt-in 1/" in validate.said and "\nyours 1/1 mine · " in validate.said
    assert validate("--set", "power=2")[0] == 0  # the benchmark's own cells are there: nothing is counted of them
    assert "built-in" not in validate.said and "\nyours 1/1 mine · " in validate.said
