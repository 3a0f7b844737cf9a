"""A store that may only be read: reports go elsewhere, checks and plans work, what would write says so in a line."""

import errno
import os
import sys

import pytest

from circuitmeter.suite import cli
from circuitmeter.suite.plan.spec import Spec
from circuitmeter.suite.run.run import run

SPEC = '[grid]\ntask = "tracr/xproportion"\nmethod = ["truth", "random"]\nablation = ["patch", "zero"]\n'
_locked = []
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def _refuse(event, given):
    """An audit hook, because chmod does not stop root: what writes below a locked folder fails as on such a disk."""
    if not _locked or event not in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.utime"):
        return
    if event == "open" and not given[2] & _WRITING:
        return
    for path in given[: 2 if event == "os.rename" else 1]:
        inside = isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(f"{_locked[0]}{os.sep}")
        if inside and not (event == "os.mkdir" and os.path.exists(path)):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))


@pytest.fixture(scope="module")
def _hook():
    sys.addaudithook(_refuse)  # for as long as the process lives; it does nothing while no folder is locked


@pytest.fixture
def store(tmp_path, _hook):
    """A benchmark with two of its four cells measured, locked; ``spec.toml`` is beside it."""
    (tmp_path / "spec.toml").write_text(SPEC)
    run(Spec.load(tmp_path / "spec.toml"), tmp_path / "store", executor="serial", only=["method=truth"])
    _locked.append(str(tmp_path / "store"))
    yield tmp_path / "store"
    _locked.clear()


def test_the_lock_holds(store):
    for write in (
        lambda: (store / "new").write_text(""),
        lambda: (store / "store.json").unlink(),
        lambda: (store / "new").mkdir(),
        lambda: os.replace(store / "store.json", store / "new"),
    ):
        with pytest.raises(OSError, match="Read-only file system"):
            write()
    (store.parent / "beside").write_text("")


def test_what_would_write_to_it_is_one_line(store, capsys):
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    words = ["--store", str(store), "--executor", "serial"]
    for command in (["run", str(store.parent / "spec.toml"), *words], ["report", str(store)]):
        assert cli.main(command) == 2, command
        (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
        assert line.startswith("circuitmeter: cannot write") and "Read-only file system" in line and str(store) in line
    assert before == {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}


@pytest.mark.slow  # draws a report
def test_its_report_goes_elsewhere(store, capsys):
    out = store.parent / "report"
    assert cli.main(["report", str(store), "--out", str(out)]) == 0
    assert (out / "report.html").is_file() and not (store / "report.html").exists()


def test_it_is_checked_and_planned(store, capsys):
    assert cli.main(["check", str(store)]) == 1  # because half of the benchmark is missing, and for no other reason
    assert "spec: 4 cells: 2 done, 2 missing" in capsys.readouterr().out
    assert cli.main(["plan", str(store.parent / "spec.toml"), "--store", str(store)]) == 0
    assert "2" in capsys.readouterr().out
