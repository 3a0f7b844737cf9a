"""A store is checked without torch: every file against what was written, every benchmark for what is not there."""

import json
import subprocess
import sys

import pytest

from circuitmeter.suite import cli
from circuitmeter.suite.errors import StoreError
from circuitmeter.suite.run.run import run
from circuitmeter.suite.store.check import check
from circuitmeter.suite.store.store import Store

EVALUATION = {"ablation": "patch"}


@pytest.fixture
def store(spec, tmp_path):
    run(spec(task="tracr/hist", method="eap", evaluation=EVALUATION), tmp_path / "store", executor="serial")
    return tmp_path / "store"


def test_a_finished_store_is_whole(store, capsys):
    found = check(store)
    assert found.whole and found.coverage == {
        "small": {"done": 2, "undefined": 0, "unevaluated": 0, "failed": 0, "damaged": 0, "missing": 0}
    }
    assert cli.main(["check", str(store), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["whole"] is True


@pytest.mark.parametrize(
    "pattern, damage, sentence",
    [
        ("cells/*/record.json", lambda path: path.write_text(path.read_text() + " "), "checksum differs"),
        ("cells/*/scores.safetensors", lambda path: path.unlink(), "is missing"),
        ("evaluations/*.json", lambda path: path.write_text(path.read_text().replace("patch", "zero")), "checksum"),
        ("truths/*.json", lambda path: path.write_text("{"), "is not JSON"),
        ("benchmarks/*.json", lambda path: path.write_text("{}"), "not what was written"),
        ("environments/*.json", lambda path: path.unlink(), "is missing: results say that they were computed in it"),
        ("environments/*.json", lambda path: path.write_text("{}"), "not what was written"),
    ],
)
def test_whatever_was_changed_is_named_and_nothing_is_touched(store, capsys, pattern, damage, sentence):
    path = sorted(store.glob(pattern))[0]
    damage(path)
    before = sorted(store.rglob("*"))
    assert cli.main(["check", str(store)]) == 1
    text = capsys.readouterr().out
    assert "not whole" in text and sentence in text
    assert pattern.partition("/")[0] in text and sorted(store.rglob("*")) == before


def test_missing_and_failed_cells_are_counted(spec, store, user_method):
    path = sorted((store / "cells").iterdir())[0]
    for file in path.iterdir():
        file.unlink()
    path.rmdir()
    run(spec(name="other", task="tracr/hist", method=user_method("raise ValueError('no')"), ablation="patch"), store,
        executor="serial")  # fmt: skip
    found = check(store)
    assert found.coverage["small"]["missing"] == 1 and found.coverage["other"]["failed"] == 1 and not found.whole


def test_no_store_is_one_sentence(tmp_path):
    with pytest.raises(StoreError, match="no store at"):
        check(tmp_path / "nothing")


def test_checking_imports_no_torch(store):
    code = "import sys; from circuitmeter.suite.cli import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code, "check", str(store)], capture_output=True, text=True).stdout
    assert out.splitlines()[-1] == "False"


def test_replayed_cells_come_out_the_same_and_a_forged_one_does_not(store, capsys):
    assert cli.main(["check", str(store), "--replay", "2"]) == 0
    told = capsys.readouterr().out
    assert told.count("replayed: ") == 2 == told.count("the same, bit for bit")
    forged = Store(store)
    key = forged.keys()[0]
    record, tensors = forged.record(key), forged.tensors(key)
    forged.set_aside(key, "to be forged")
    forged.write(record, {**tensors, "scores": tensors["scores"] * 1.001})  # with checksums that fit
    assert check(store).whole
    assert cli.main(["check", str(store), "--replay", "2", "--json"]) == 1
    lines = json.loads(capsys.readouterr().out)["replayed"]
    assert sum("differs by 0.001 of the largest score" in line for line in lines) == 1
