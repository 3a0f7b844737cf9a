"""``validate`` over the real ``quick``, with the README's own method: to its end, and with the results it should have.

The fast test keeps the grids of ``quick`` and leaves out methods that take seconds; the slow one leaves out nothing.
"""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

from circuitmeter.suite import cli
from circuitmeter.suite.plan.spec import Spec
from circuitmeter.suite.run.run import run

README = Path(__file__).parents[3] / "README.md"
CHEAP = ("random", "magnitude", "truth", "eap")


@pytest.fixture
def my_method(tmp_path, monkeypatch) -> Path:
    """The method that the README prints, as a file in an empty folder that is the current one."""
    text = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[1]
    (tmp_path / "my_method.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> Path:
    """``cheap_quick`` as a file, and beside it the store with its cells. Tests work on copies."""
    folder = tmp_path_factory.mktemp("quick")
    (folder / "quick.toml").write_text(cheap_quick())
    run(Spec.load(folder / "quick.toml"), folder / "results" / "quick", executor="serial")
    return folder


@pytest.fixture
def validate(my_method, known):
    """``validate`` of the method over the benchmark, whose own cells are in the store; gives the exit status."""
    shutil.copytree(known, my_method, dirs_exist_ok=True)
    arguments = ["validate", "my_method.py:discover", "--against", "quick.toml", "--executor", "serial", "--yes"]
    return lambda *more: cli.main([*arguments, *more])


def cheap_quick() -> str:
    """``quick`` as TOML: its tasks, ablations and objectives, and in each grid the cheap methods only."""
    grids = tomllib.loads(files("circuitmeter.suite.benchmarks").joinpath("quick.toml").read_text())["grid"]
    lines = []
    for grid in grids:
        named = [each if isinstance(each, str) else each["name"] for each in grid["method"]]
        kept = [name for name in named if name in CHEAP and name != "random"]
        lines += ["[[grid]]", *(f"{name} = {json.dumps(grid[name])}" for name in ("task", "ablation", "objective"))]
        lines += [f'method = [{{ name = "random", seed = [0, 1] }}, {json.dumps(kept)[1:]}']
    return "\n".join(lines)


def check(rankings, own="my_method.py:discover") -> None:
    """Every setting has a rank, an interval where programs are several, and a test against chance."""
    by_setting = {(found["ablation"], found["objective"]): found for found in rankings}
    assert set(by_setting) == {(a, o) for a in ("patch", "zero") for o in ("answer-difference", "l2", "kl")}
    for (_, objective), found in by_setting.items():
        programs = 1 if objective == "kl" else 6
        assert found["label"] == own and found["not_ranked"] is None
        assert 1 <= found["rank"] <= found["of"] and found["programs"] == programs
        scores = found["scores"][own]
        assert scores["n_programs"] == programs and scores["auroc"] >= 0.5
        assert (scores["auroc_low"] is None) == (programs == 1)
        chance = found["comparison"][0]
        assert chance["other"] == "random" and chance["mean_difference"] > -0.1
        differ = programs - found["cells_of_zeros"]  # a cell without scores is a tie with chance
        assert chance["n_different"] == differ and chance["smallest_p"] == min(1.0, 2 / 2**differ)
        if 0 < differ < 6:
            assert chance["told"].startswith(f"cannot be told: {differ} program")
        else:
            assert (chance["told"] == "better") == (chance["p_value"] < 0.05)
    assert any(found["comparison"][0]["told"] == "better" for found in rankings)


def test_the_readme_method_is_ranked_in_every_setting(validate, capfd):
    assert validate("--json") == 0
    out, err = capfd.readouterr()
    found = json.loads(out)
    check(found["rankings"])
    assert len(found["verdict"]) >= 2 and err.index("smallest and the largest model") < err.index("cells to run")
    assert validate() == 0
    out = capfd.readouterr().out
    assert "no scores" not in out and "not ranked" not in out
    assert out.count("my_method.py:discover under ") == 6
    lines = out.splitlines()
    tables = [line for line in lines if line.startswith("  method ")]
    assert len(tables) == 4  # of the two settings over one program there is a line each
    closing = " ".join(out.split())
    for ablation in ("patch", "zero"):
        alone = rf"under {ablation}, kl: rank \d of 3 by [a-zA-Z ]* \(AUC 0\.\d\d over 1 program; not counted: truth"
        assert re.search(alone, closing)
    own = [line for line in lines if line.startswith("> ")]
    assert len(own) == 4 and all(re.search(r"\d\.\d\d \[\d\.\d\d, \d\.\d\d\]", line) for line in own)
    assert all(f"Under {ablation} ablation my_method.py:discover ranks " in closing for ablation in ("patch", "zero"))
    assert "unless 6 programs differ" in closing and "1 programs" not in out


def test_a_method_that_fails_on_some_programs_is_shown_and_not_ranked(my_method, validate, capfd):
    """It works on the smallest and the largest model, which are tried beforehand, and not on one between."""
    source = (my_method / "my_method.py").read_text()
    refusal = "    if model.config.d_model == 43:\n        raise ValueError('43 is no size')\n"
    source = source.replace("    scores = torch.zeros", refusal + "    scores = torch.zeros")
    (my_method / "my_method.py").write_text(source)
    assert validate("--json") == 1
    found = json.loads(capfd.readouterr().out)
    assert found["failed"] and all("43 is no size" in failure["reason"] for failure in found["failed"])
    ranking = next(each for each in found["rankings"] if each["objective"] == "l2")
    assert ranking["rank"] is None and ranking["not_ranked"].startswith("ran on 5 of 6 programs")
    assert ranking["scores"]["my_method.py:discover"]["n_programs"] == 5
    assert ranking["scores"]["magnitude"]["auroc"] is not None


def test_a_rival_that_the_benchmark_does_not_run(my_method, capfd):
    assert cli.main(["validate", "my_method.py:discover", "--rivals", "eapig"]) == 2
    err = capfd.readouterr().err
    assert "no rival 'eapig'. Did you mean 'eap-ig'?" in err and err.count("\n") == 1
    assert not (my_method / "results").exists()


@pytest.mark.slow
def test_validate_as_the_readme_prints_it(my_method, capfd):
    assert cli.main(["validate", "my_method.py:discover", "--yes", "--json"]) == 0
    rankings = json.loads(capfd.readouterr().out)["rankings"]
    check(rankings)
    for found in rankings:
        if found["objective"] != "kl":
            enough = 15 if found["objective"] == "answer-difference" else 10  # five methods have no gradient under l2
            assert found["of"] >= enough and [test["other"] for test in found["comparison"]][0] == "random"
            assert found["comparison"][1]["other"].startswith("eap-ig")
