"""The store loses nothing, notices every kind of damage, and says in one line what is wrong with a folder."""

import hashlib
import json
import os
import socket
import subprocess
import sys

import made_up
import numpy as np
import pytest

from circuitmeter.suite.errors import StoreError
from circuitmeter.suite.json_model import plain
from circuitmeter.suite.model.graph import Graph
from circuitmeter.suite.store.keys import key_of
from circuitmeter.suite.store.reading import record_in
from circuitmeter.suite.store.record import Benchmark, Cell, Record, failure
from circuitmeter.suite.store.store import Damaged, Store

IDENTITY = Cell(
    key_version=1, task="tracr/reverse", data="d", model="m", weights="w", graph="g", truth=None, method="eap",
    version="v", parameters={"steps": 5}, ablation="patch", objective=None, seed=None,
)  # fmt: skip
OTHER = IDENTITY.model_copy(update={"task": "another"})


def record(identity=IDENTITY, **changes):
    done = {
        "key": identity.key,
        "identity": identity,
        "status": "done",
        "reason": None,
        "kind": None,
        "n_edges": 5,
        "recovery": {"patch": {"auroc": 1.0}},
        "circuits": [],
        "circuit_at_true_size": None,
        "diagnostics": {},
        "cost": {"total_seconds": 1.5},
        "provenance": {},
    }
    return Record(**done | changes)


def test_why_a_cell_has_no_scores_is_said(store):
    for kind, said in (("error", "because it failed: it broke"), ("undefined", "because it is undefined: it broke")):
        other = record(OTHER, status="failed", kind=kind, reason="it broke", n_edges=None, recovery={})
        store.write(other, {})
        with pytest.raises(StoreError, match=said):
            store.scores(OTHER.key)
        store.set_aside(OTHER.key, "for the next")


def failed(identity=IDENTITY):
    return record(identity, status="failed", kind="error", reason="it broke", n_edges=None, recovery={})


def scores(n_edges=5):
    values = np.full((2, 3), np.nan)
    values.flat[:n_edges] = np.arange(n_edges) / 7
    return {"scores": values}


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store", create=True)
    made.write(record(), scores())
    return made


@pytest.fixture
def folder(store):
    return store.path / "cells" / IDENTITY.key


def test_a_cell_comes_back_as_it_was_written(store):
    key = IDENTITY.key
    again = Store(store.path)
    assert again.keys() == [key] and key in again
    assert again.record(key) == record() and list(again.records()) == [record()]
    np.testing.assert_array_equal(again.scores(key), scores()["scores"])


def test_checksums_are_those_that_sha256sum_reads(store, folder):
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert len((folder / "SHA256SUMS").read_text().splitlines()) == 2


def test_a_finished_cell_is_never_overwritten(store):
    assert store.write(record(recovery={"patch": {"auroc": 0.0}}), scores()) is False
    assert store.record(IDENTITY.key) == record()
    assert list((store.path / "writing").iterdir()) == []


def test_a_failure_is_replaced_and_kept(tmp_path):
    store = Store(tmp_path, create=True)
    key = IDENTITY.key
    assert store.write(failed(), {}) and store.record(key).reason == "it broke"
    assert store.write(failed(), {}) and store.write(record(), scores())
    assert store.record(key).done
    kept = sorted(path.name for path in (tmp_path / "failed").iterdir())
    assert kept == [key, f"{key}.1"]
    with pytest.raises(StoreError, match="no scores"):
        store.write(failed(OTHER), {})
        store.scores(OTHER.key)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def reseal(folder):
    """Checksums that fit whatever the files hold now."""
    names = ["record.json", "scores.safetensors"]
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(lines))


def rewrite(folder, **changes):
    (folder / "record.json").write_text(json.dumps(record().as_json() | changes))
    reseal(folder)


DAMAGES = {
    "truncated record": (lambda f: truncate(f / "record.json"), "checksum"),
    "truncated scores": (lambda f: truncate(f / "scores.safetensors"), "checksum"),
    "bit in record": (lambda f: flip_a_bit(f / "record.json"), "checksum"),
    "bit in scores": (lambda f: flip_a_bit(f / "scores.safetensors"), "checksum"),
    "no record": (lambda f: (f / "record.json").unlink(), "record.json is missing"),
    "no scores": (lambda f: (f / "scores.safetensors").unlink(), "scores.safetensors is missing"),
    "no sums": (lambda f: (f / "SHA256SUMS").unlink(), "SHA256SUMS is missing"),
    "garbled sums": (lambda f: (f / "SHA256SUMS").write_bytes(b"\xff\xfe what"), "SHA256SUMS is garbled"),
    "empty sums": (lambda f: (f / "SHA256SUMS").write_text(""), "does not list record.json"),
    "no JSON": (lambda f: ((f / "record.json").write_text("{"), reseal(f)), "not JSON"),
    "JSON of another kind": (lambda f: ((f / "record.json").write_text("[]"), reseal(f)), "no JSON object"),
    "nested JSON": (lambda f: ((f / "record.json").write_text("[" * 10**6), reseal(f)), "is not JSON"),
    "no tensors": (lambda f: ((f / "scores.safetensors").write_text("no"), reseal(f)), "not a safetensors file"),
    "lacking a key": (lambda f: ((f / "record.json").write_text('{"format": 2}'), reseal(f)), "'key' is missing"),
    "other identity": (lambda f: rewrite(f, identity=OTHER.as_json()), "another key"),
    "wrong type": (lambda f: rewrite(f, recovery=[]), "'recovery': input should be a valid dictionary"),
    "unknown status": (lambda f: rewrite(f, status="perhaps"), "'status': input should be 'done' or 'failed'"),
    "other graph": (lambda f: rewrite(f, n_edges=6), "do not fit the graph, which has 6 edges"),
    "circuit not there": (lambda f: rewrite(f, circuits=[{"label": {}, "n_edges": 1}]), "circuit.0"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_found_set_aside_and_written_again(store, folder, kind):
    damage, says = DAMAGES[kind]
    store.write(record(OTHER), scores())
    damage(folder)
    again = Store(store.path, create=True)
    with pytest.raises(Damaged, match=says):
        again.record(folder.name)
    assert [r.identity for r in again.records()] == [OTHER]
    assert list(again.damaged) == [folder.name] and says in again.damaged[folder.name]
    moved = again.set_aside(folder.name, again.damaged[folder.name])
    assert moved == store.path / "damaged" / folder.name and moved.is_dir() and not folder.exists()
    assert again.write(record(), scores()) and again.record(folder.name) == record()


def test_a_damaged_cell_does_not_stand_in_the_way_of_a_good_one(store, folder):
    flip_a_bit(folder / "scores.safetensors")
    assert store.write(record(), scores())
    assert store.record(folder.name) == record() and (store.path / "damaged" / folder.name).is_dir()


def test_what_would_be_damaged_is_not_written(tmp_path):
    store = Store(tmp_path, create=True)
    with pytest.raises(StoreError, match="do not fit the graph"):
        store.write(record(), scores(4))
    with pytest.raises(ValueError, match="another key"):
        record(key="0" * 16)
    with pytest.raises(ValueError, match="half done, half failed"):
        record(status="failed")
    assert store.keys() == []


@pytest.mark.parametrize("text", ["\x1b[2Jeap", "eap\nall is well", "e\u202eap", "x" * 5000])
@pytest.mark.parametrize("field", ["reason", "task", "model", "method", "ablation", "objective"])
def test_a_text_that_could_drive_or_flood_a_terminal_is_damage(field, text):
    """Whoever made the store; what this program writes is one printable line."""
    contents = failure(IDENTITY, "error", "it broke").as_json()
    assert record_in(json.dumps(contents).encode()).reason == "it broke"
    (contents if field == "reason" else contents["identity"])[field] = text
    contents["key"] = key_of(contents["identity"])
    with pytest.raises(Damaged, match="not one line of up to 4,000 printable characters"):
        record_in(json.dumps(contents).encode())


def test_a_newer_store_is_refused(store):
    (store.path / "store.json").write_text('{"format": 2, "version": "9.1"}')
    with pytest.raises(StoreError, match=r"has format 2, written by circuitmeter 9\.1.*reads up to format 1"):
        Store(store.path)
    with pytest.raises(StoreError, match="update it"):
        Store(store.path, create=True)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": "1"}', b"\xff\xfe"])
def test_a_store_that_cannot_be_read_is_refused(store, content):
    path = store.path / "store.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(StoreError, match=r"store\.json"):
        Store(store.path, create=True)
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(StoreError, match="no store at .*circuitmeter run"):
        Store(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(StoreError, match="is not a store"):
        Store(tmp_path, create=True)
    with pytest.raises(StoreError, match="cannot make a store"):
        Store(tmp_path / "thesis.tex" / "store", create=True)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_start_that_was_killed_leaves_a_usable_folder(tmp_path):
    (tmp_path / ".store.json.123").write_text("{")
    assert Store(tmp_path, create=True).keys() == []


def test_leftovers_of_dead_writers_are_swept_up_and_those_of_living_ones_are_not(store):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    writing = store.path / "writing"
    leftovers = {
        "dead": writing / f"{socket.gethostname()}-{dead.pid}-{'0' * 16}",
        "alive": writing / f"{socket.gethostname()}-{os.getppid()}-{'1' * 16}",
        "elsewhere": writing / f"another-host-{dead.pid}-{'2' * 16}",
    }
    for path in leftovers.values():
        path.mkdir()
        (path / "record.json").write_text("{")
    assert Store(store.path).keys() == [IDENTITY.key] and leftovers["dead"].is_dir()
    Store(store.path, create=True)
    assert {name: path.is_dir() for name, path in leftovers.items()} == {
        "dead": False,
        "alive": True,
        "elsewhere": True,
    }


def test_truths_and_benchmarks_are_kept(store):
    known = made_up.certificate(Graph(n_layers=1, n_heads=1), {"patch": (["input->m0"], [])})
    store.write_truth(known.hash, known)
    assert Store(store.path).truth(known.hash) == known
    with pytest.raises(StoreError, match="not the hash of its content"):
        store.write_truth(known.hash, known.model_copy(update={"n_edges": 4}))
    with pytest.raises(StoreError, match="cannot read .*xyz"):
        store.truth("xyz")
    store.write_benchmark("quick", Benchmark(cells=["1"]))
    store.write_benchmark("quick", Benchmark(cells=["1", "2"]))
    assert store.benchmarks() == {"quick": Benchmark(cells=["1", "2"])}


def test_the_store_needs_no_torch():
    code = "import sys; from circuitmeter.suite.store.store import Store; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_records_hold_plain_values():
    given = {
        1: (np.float64(0.5), float("nan"), np.int64(3)),
        "a": np.arange(2),
        "b": float("inf"),
        "c": None,
        "d": True,
    }
    assert plain(given) == {"1": [0.5, None, 3], "a": [0, 1], "b": None, "c": None, "d": True}
