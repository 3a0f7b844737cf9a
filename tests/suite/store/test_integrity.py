"""Every file of a store is covered: what is flipped, deleted or added is found; a report is whole or as before."""

import errno
import os
import random
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from made import cell, make_whole_store, write_report_of

from circuitmeter.suite import cli
from circuitmeter.suite.errors import StoreError
from circuitmeter.suite.store.check import check
from circuitmeter.suite.store.folder import LocalFolder
from circuitmeter.suite.store.published import published_faults, publishing
from circuitmeter.suite.store.store import Store

KINDS = (
    "store.json",
    "cells/*/record.json",
    "cells/*/scores.safetensors",
    "cells/*/SHA256SUMS",
    "failed/*/record.json",
    "failed/*/SHA256SUMS",
    "evaluations/*.json",
    "behaviours/*.json",
    "truths/*.json",
    "environments/*.json",
    "benchmarks/*.json",
    "report.html",
    "report.sha256",
    "leaderboard.json",
    "tables/*",
    "figures/*",
    "brief.html",
    "reproduction.html",
    "reproduction.sha256",
    "verdicts.*",
    "paper-figures/*",
    "cards/*.json",
)
FLIPS_A_KIND = 5  # 110 in all


@pytest.fixture
def store(tmp_path):
    return make_whole_store(tmp_path / "store")


def test_the_store_is_whole_and_has_a_file_of_every_kind(store):
    found = check(store.path)
    assert found.whole, str(found)
    covered = {path for kind in KINDS for path in store.path.glob(kind)}
    files = {path for path in store.path.rglob("*") if path.is_file() and path.parent.name != "index"}
    assert covered == files


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bits_are_found_wherever_they_are(store, kind):
    draw = random.Random(kind)
    for _ in range(FLIPS_A_KIND):
        path = draw.choice(sorted(store.path.glob(kind)))
        before = path.read_bytes()
        data, bit = bytearray(before), draw.randrange(8 * len(before))
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            assert not check(store.path).whole, (path.name, bit)
        except StoreError as error:  # store.json itself cannot be read any more
            assert kind == "store.json" and "store.json" in str(error)
        path.write_bytes(before)
    assert check(store.path).whole


def test_every_byte_of_the_smallest_files_counts(store):
    """Whitespace, letters of numbers and line ends, too: a file that means the same is yet not what was written."""
    for pattern in ("store.json", "truths/*.json", "cells/*/SHA256SUMS"):
        path = sorted(store.path.glob(pattern))[0]
        before = path.read_bytes()
        for place in range(len(before)):
            data = bytearray(before)
            data[place] ^= 1 << place % 7
            path.write_bytes(data)
            try:
                assert not check(store.path).whole, (pattern, place)
            except StoreError:
                assert pattern == "store.json"
        path.write_bytes(before)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_deleted_files_are_missed(store, kind):
    sorted(store.path.glob(kind))[0].unlink()
    assert not check(store.path).whole


def test_deleted_folders_are_missed(store):
    for name in ("cells", "evaluations", "behaviours", "truths", "benchmarks", "tables", "cards"):
        shutil.move(store.path / name, store.path / f".{name}")
        assert not check(store.path).whole, name
        shutil.move(store.path / f".{name}", store.path / name)
    shutil.rmtree(store.path / "benchmarks")
    shutil.rmtree(store.path / "index")
    assert "no benchmark says" in str(check(store.path))


def test_a_file_that_nobody_wrote_is_found_in_a_cell(store):
    (store.path / "cells" / cell().key / "record.json.orig").write_text("{}")
    assert "record.json.orig was not written by a run" in str(check(store.path))


@pytest.mark.parametrize(
    "pattern",
    ["cells/*/record.json", "evaluations/*.json", "behaviours/*.json", "truths/*.json", "benchmarks/*.json"],
)
@pytest.mark.parametrize("content", ["[" * 10**6, '{"a":' * 10**5, "NaN", '{"a": 1, "a": 1}', "\ud800", "\ufeff{}"])
def test_no_content_crashes_the_check(store, pattern, content, capsys):
    sorted(store.path.glob(pattern))[0].write_bytes(content.encode(errors="surrogatepass"))
    assert cli.main(["check", str(store.path)]) == 1
    assert "not whole" in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_a_pipe_at_a_file_s_place_is_not_waited_for(store, kind, capsys):
    path = sorted(store.path.glob(kind))[0]
    path.unlink()
    os.mkfifo(path)
    assert cli.main(["check", str(store.path)]) == (2 if kind == "store.json" else 1)
    printed = capsys.readouterr()
    assert "not whole" in printed.out or "pipe" in printed.err


@pytest.mark.parametrize("name", ["/dev/zero", "../elsewhere", "", "a\0b"])
def test_a_report_s_list_leads_nowhere_else(store, name):
    (store.path / "report.sha256").write_text(f"{'0' * 64}  {name}\n")
    assert "report.sha256: is garbled" in str(check(store.path))


def test_a_nested_store_file_is_one_line(store, capsys):
    (store.path / "store.json").write_text("[" * 10**6)
    assert cli.main(["check", str(store.path)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_an_interrupted_report_leaves_the_old_one_whole(store):
    before = {path: path.read_bytes() for path in store.path.rglob("*") if path.is_file()}
    with pytest.raises(KeyboardInterrupt), publishing(store.path) as new:
        (new / "report.html").write_text("half")
        raise KeyboardInterrupt
    assert before == {path: path.read_bytes() for path in store.path.rglob("*") if path.is_file()}
    with pytest.raises(StoreError, match="cannot write the report.*No space left on device"), publishing(store.path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert check(store.path).whole


@pytest.mark.parametrize("moved", range(5))
def test_a_report_killed_while_it_is_put_into_place_is_written_again(tmp_path, monkeypatch, moved):
    """Killed after any number of files: the page is the old one, older than the results, or all is in place."""

    def publish(word):
        with publishing(tmp_path) as new:
            for name in ("figures/auc.svg", "leaderboard.json", "report.html", "tables/auc.csv"):
                (new / name).parent.mkdir(exist_ok=True)
                (new / name).write_text(word)

    publish("old")
    replace, done = os.replace, []

    def killed(source, target):
        if len(done) == moved:
            raise KeyboardInterrupt
        done.append(target)
        replace(source, target)

    with monkeypatch.context() as broken:
        broken.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            publish("new")
    assert (tmp_path / "report.html").read_text() == "old"
    publish("new")
    assert {path.read_text() for path in tmp_path.rglob("*.*") if path.suffix != ".sha256" and path.is_file()} == {
        "new"
    }
    assert not published_faults(LocalFolder(tmp_path))


def test_what_a_killed_report_left_is_swept_up_and_a_living_one_s_is_not(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead, alive, elsewhere = (
        tmp_path / f".report-{host}-{process}"
        for host, process in ((socket.gethostname(), ended.pid), (socket.gethostname(), 1), ("other.host", ended.pid))
    )
    for folder in (dead, alive, elsewhere):
        folder.mkdir()
    write_report_of(tmp_path)
    assert not dead.exists() and alive.exists() and elsewhere.exists()


def test_a_new_report_replaces_its_own_files_and_nobody_else_s(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "mine.png").write_bytes(b"mine")
    write_report_of(tmp_path)
    with publishing(tmp_path) as new:
        (new / "report.html").write_text("shorter")
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"report.html", "report.sha256", "figures/mine.png"}


def test_a_full_disk_is_one_line_and_costs_nothing_that_is_finished(store, monkeypatch):
    from made import done, scores

    before = {path: path.read_bytes() for path in store.path.rglob("*") if path.is_file()}

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("circuitmeter.suite.store.store.write_synced", full)
    with pytest.raises(StoreError, match="cannot write to the store .*: No space left on device"):
        store.write(done(cell(method="acdc")), scores())
    monkeypatch.undo()
    assert before == {path: path.read_bytes() for path in store.path.rglob("*") if path.is_file()}
    assert store.write(done(cell(method="acdc")), scores()), "and goes on where there is room again"


def test_a_store_on_another_file_system_is_read_and_checked(store):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(store.path), "/lab/store", recursive=True)
    try:
        there = Store("memory://lab/store")
        assert list(there.records()) == list(store.records()) and list(there.evaluations())
        assert check("memory://lab/store").whole
        memory.pipe_file(f"/lab/store/cells/{cell().key}/record.json", b"{}")
        assert not check("memory://lab/store").whole
        with pytest.raises(StoreError, match="is read only"):
            Store("memory://lab/other", create=True)
        with pytest.raises(StoreError, match="no store at memory://lab/nothing"):
            Store("memory://lab/nothing")
    finally:
        memory.rm("/lab", recursive=True)
