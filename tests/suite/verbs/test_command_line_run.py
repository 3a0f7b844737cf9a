"""``run``, ``plan``, ``report`` and ``validate``: a small benchmark from the command line to its report."""

from __future__ import annotations

import json
import shutil

import pytest

from circuitmeter import Store
from circuitmeter.suite import cli

BENCHMARK = """
description = "two programs"
[grid]
task = ["tracr/xproportion@fixed", "tracr/reverse@fixed"]
method = ["random", "magnitude", "eap", "truth"]
ablation = ["patch"]
"""
N_CELLS = 8
METHOD = '''
def discover(model, data, *, ablation, objective, seed):
    """Edges that end at the logits matter most."""
    print("the method prints")
    return {str(edge): float(edge.reader == "logits") for edge in model.graph.edges}
'''


@pytest.fixture
def command(capfd):
    """Runs the command in this process: (exit status, stdout, stderr)."""

    def run(*arguments) -> tuple[int, str, str]:
        status = cli.main([str(argument) for argument in arguments])
        return status, *capfd.readouterr()

    return run


@pytest.fixture(scope="module", autouse=True)
def svg_only():
    """Figures as pages have them: whether the other files are written is looked at in tests/reports."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("circuitmeter.reports.chapters.files.DRAWN_FORMATS", ("svg",))
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The benchmark's file beside its finished store: run once, copied by each test that needs it."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.toml").write_text(BENCHMARK)
    assert cli.main(["run", str(folder / "small.toml"), "--store", str(folder / "store"), "--executor", "serial"]) == 0
    return folder


@pytest.fixture
def folder(finished, tmp_path, monkeypatch):
    copied = shutil.copytree(finished, tmp_path / "copy", copy_function=shutil.copy2)
    monkeypatch.chdir(copied)
    return copied


@pytest.fixture
def quick_report(monkeypatch):
    """Drawing takes many seconds: where a test is not about the report, a page of one word stands for it."""
    from circuitmeter.reports import write

    def write_report(store, out, **_told):
        (out / "report.html").write_text("drawn")
        return out / "report.html"

    monkeypatch.setattr(write, "write_report", write_report)


def written(store) -> dict[str, float]:
    """When each cell's record was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in (store / "cells").glob("*/record.json")}


def one_line(found: tuple[int, str, str]) -> str:
    """The one line of an error of status 2."""
    status, out, err = found
    assert (status, out) == (2, "")
    assert err.startswith("circuitmeter: ") and err.count("\n") == 1, err
    return err


def test_a_run_fills_the_store_and_writes_the_report(finished):
    store = Store(finished / "store")
    records = list(store.records())
    assert len(records) == N_CELLS and {record.status for record in records} == {"done"}
    assert (finished / "store" / "report.html").stat().st_size > 1000


def test_the_table_is_printed(command, folder, quick_report):
    shutil.rmtree(folder / "store" / "cells" / Store(folder / "store").keys()[0])
    status, out, err = command("run", "small.toml", "--store", "store", "--executor", "serial")
    assert status == 0, err
    for name in ("random", "magnitude", "eap", "truth", "report.html"):
        assert name in out


def test_running_again_does_nothing_but_say_so(command, folder):
    before, report = written(folder / "store"), (folder / "store" / "report.html").stat().st_mtime_ns
    status, out, _ = command("run", "small.toml", "--store", "store")
    assert status == 0
    assert out.count("\n") == 1 and "nothing to do" in out and "report.html" in out
    assert written(folder / "store") == before
    assert (folder / "store" / "report.html").stat().st_mtime_ns == report


def test_a_missing_report_is_written_without_running(command, folder, quick_report):
    before = written(folder / "store")
    (folder / "store" / "report.html").unlink()
    assert command("run", "small.toml", "--store", "store")[0] == 0
    assert (folder / "store" / "report.html").is_file()
    assert written(folder / "store") == before


def test_a_damaged_cell_is_reported_and_run_again(command, folder, quick_report):
    store = folder / "store"
    before = written(store)
    key = next(record.key for record in Store(store).records() if record.identity.method == "random")
    scores = Store(store).scores(key)
    path = store / "cells" / key / "scores.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    status, _, err = command("run", "small.toml", "--store", "store", "--executor", "serial")
    assert status == 0
    assert f"damaged: cell {key}: scores.safetensors is not what was written" in err
    assert Store(store).scores(key) == pytest.approx(scores, abs=0, nan_ok=True)
    after = written(store)
    assert {name for name in after if after[name] != before[name]} == {key}
    assert (store / "damaged" / key).is_dir()


def test_plan(command, folder):
    status, out, _ = command("plan", "small.toml", "--store", "store", "--json")
    assert status == 0
    assert json.loads(out)["counts"] == {"done": N_CELLS, "missing": 0, "unevaluated": 0, "undefined": 0, "failed": 0}
    status, out, _ = command("plan", "small.toml", "--only", "method=eap", "--json")
    assert status == 0
    assert json.loads(out)["counts"] == {"done": 0, "missing": 2, "unevaluated": 0, "undefined": 0, "failed": 0}
    assert not (folder / "results").exists()  # the default store, which a plan does not make


def test_plan_says_why_a_cell_is_undefined(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = BENCHMARK.replace('ablation = ["patch"]', 'ablation = ["patch"]\nobjective = ["l2"]')
    (tmp_path / "undefined.toml").write_text(text)
    status, out, _ = command("plan", "undefined.toml")
    assert status == 0
    assert "2 undefined" in out and "eap takes the gradient at the clean run" in out


def test_report(command, folder):
    status, out, err = command("report", "store", "--out", "elsewhere")
    assert status == 0, err
    assert out == f"{folder.joinpath('elsewhere/report.html').relative_to(folder)}\n"
    assert (folder / "elsewhere" / "report.html").is_file()


def test_a_store_of_a_newer_version(command, folder):
    (folder / "store" / "store.json").write_text('{"format": 99, "version": "9.0"}')
    (folder / "mine.py").write_text(METHOD)
    before = written(folder / "store")
    for request in (
        ("run", "small.toml", "--store", "store"),
        ("plan", "small.toml", "--store", "store"),
        ("report", "store"),
        ("validate", "mine.py:discover", "--against", "small.toml", "--store", "store"),
    ):
        assert "has format 99, written by circuitmeter 9.0" in one_line(command(*request))
    assert written(folder / "store") == before


def test_a_failed_cell_is_status_1(command, folder, quick_report):
    """The other cells are run and kept; the row says why, and stays until it is asked for again."""
    (folder / "bad.py").write_text(METHOD.replace("return", "assert model.graph.n_edges > 50, 'too small'\n    return"))
    (folder / "bad.toml").write_text(BENCHMARK.replace('method = ["random",', 'method = ["bad.py:discover",'))
    for _ in range(2):
        status, out, err = command("run", "bad.toml", "--store", "store", "--executor", "serial")
        assert status == 1
        assert "failed: bad.py:discover" in err and "too small" in err
        assert "1 failed" in out
    assert "nothing to do" in out


MISTAKES = {
    "a misspelt key": (("ablation =", "ablations ="), "ablations"),
    "an unknown method": (('"eap"', '"eapig"'), "no method 'eapig'. Did you mean 'eap-ig'?"),
    "an unknown ablation": (('"patch"', '"patches"'), "no ablation 'patches'. Did you mean 'patch'?"),
    "an unknown task": (("reverse@fixed", "revers@fixed"), "Did you mean 'tracr/reverse@fixed'?"),
    "an unknown parameter": (('"eap"', '{ name = "eap-ig", step = 3 }'), "Did you mean 'steps'?"),
    "a file that is no TOML": (("[grid]", "[grid"), "not TOML"),
    "a method that does not import": (('"eap"', '"none.py:discover"'), "none.py"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("verb", ["run", "plan"])
def test_a_mistake_in_the_benchmark(mistake, verb, command, tmp_path, monkeypatch):
    (old, new), message = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.toml").write_text(BENCHMARK.replace(old, new, 1))
    assert message in one_line(command(verb, "wrong.toml"))
    assert not (tmp_path / "results").exists()


def test_validate(command, folder):
    (folder / "mine.py").write_text(METHOD)
    before = written(folder / "store")
    arguments = ("validate", "mine.py:discover", "--against", "small.toml", "--store", "store", "--executor", "serial")
    status, out, err = command(*arguments, "--json")
    assert status == 0, err
    (found,) = json.loads(out)["rankings"]
    assert (found["ablation"], found["objective"]) == ("patch", "answer-difference")
    assert "the method prints" not in out and "the method prints" in err
    assert found["of"] == 4 and 1 <= found["rank"] <= 4  # the truth is shown, and not ranked
    assert set(found["scores"]) == {"random", "magnitude", "eap", "truth", found["label"]}
    assert found["scores"]["truth"]["auroc"] == 1
    areas = {label: scores["auroc"] for label, scores in found["scores"].items() if label != "truth"}
    assert found["rank"] == 1 + sum(area > areas[found["label"]] for area in areas.values())
    assert [test["other"] for test in found["comparison"]] == ["random"]  # eap-ig is not in this benchmark
    assert found["comparison"][0]["n_pairs"] == 2 and found["comparison"][0]["told"].startswith("cannot be told")
    after = written(folder / "store")
    assert before.items() <= after.items() and len(after) == N_CELLS + 2
    status, out, err = command(*arguments)
    assert status == 0
    assert f"mine.py:discover under patch, answer-difference: rank {found['rank']} of 4" in out
    assert written(folder / "store") == after


BROKEN = {
    "raises": (
        "return {",
        "raise ValueError('no')\n    return {",
        "ValueError: no (mine.py, line 4",
    ),
    "unknown edge": ("str(edge)", "'a7.h7->m0'", "a7.h7->m0"),
    "NaN": ('float(edge.reader == "logits")', "float('nan')", "NaN"),
    "no scores": ("return {", "return 3\n    return {", "it returned int"),
    "does not import": ("def discover", "import nowhere\ndef discover", "No module named 'nowhere'"),
    "no such function": ("def discover", "def discovery", "no function 'discover'. Did you mean 'discovery'?"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_validate_tries_the_method_before_it_computes(case, command, tmp_path, monkeypatch):
    old, new, message = BROKEN[case]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(METHOD.replace(old, new).replace('    print("the method prints")\n', ""))
    (tmp_path / "small.toml").write_text(BENCHMARK)
    status, out, err = command("validate", "mine.py:discover", "--against", "small.toml")
    *begun, error = err.splitlines(keepends=True)
    assert message in one_line((status, out, error))
    tried = ["trying mine.py:discover on the smallest and the largest model of small under each ablation first ...\n"]
    assert begun == ([] if case in ("does not import", "no such function") else tried)
    assert not (tmp_path / "results").exists()
