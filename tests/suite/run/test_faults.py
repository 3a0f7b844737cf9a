"""What goes wrong around a run costs nothing that is finished, and is said in a line."""

import errno
import os

import pytest

from circuitmeter.suite.errors import StoreError
from circuitmeter.suite.run.events import Finished, Started
from circuitmeter.suite.run.run import run
from circuitmeter.suite.store import store as store_module
from circuitmeter.suite.store.store import Store


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
def test_a_disk_that_takes_no_more_ends_the_run_in_a_line_and_keeps_what_is_done(
    spec, tmp_path, contents, monkeypatch, number
):
    benchmark, done = spec(method=["eap", "truth"], task="tracr/xproportion"), []
    write = store_module.write_synced

    def full(path, data):
        if len(done) >= 2:
            path.write_bytes(data[: len(data) // 2])  # what a full disk leaves of a file
            raise OSError(number, os.strerror(number))
        write(path, data)

    def listen(event):
        if isinstance(event, Finished):
            done.append(event.job.key)

    with monkeypatch.context() as broken:
        broken.setattr(store_module, "write_synced", full)
        with pytest.raises(StoreError, match="cannot write to the store .*" + os.strerror(number)):
            run(benchmark, tmp_path / "store", executor="serial", on_event=listen)
    assert len(done) == 2 and Store(tmp_path / "store").keys() == sorted(done)
    kept = contents(tmp_path / "store")
    assert len(run(benchmark, tmp_path / "store", executor="serial").ran) == 2
    run(benchmark, tmp_path / "whole", executor="serial")
    assert kept.items() <= contents(tmp_path / "store").items()
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")


def test_two_drivers_on_one_store_do_each_cell_once(spec, tmp_path, user_method, logged):
    """The second one runs to its end while the first one is at its first cell."""
    counted = user_method("log(task)\nreturn zeros(model)")
    benchmark, store, second = spec(method=[counted, "truth"]), tmp_path / "store", []

    def listen(event):
        if isinstance(event, Started) and not second:
            second.append(run(benchmark, store, executor="serial"))

    first = run(benchmark, store, executor="serial", on_event=listen)
    assert len(logged()) == 4 and first.exit_status == second[0].exit_status == 0
    assert first.done == second[0].done == len(Store(store).keys()) == 8


@pytest.mark.parametrize("jump", [-(10.0**8), 10.0**8])
def test_a_clock_that_jumps_changes_nothing(spec, tmp_path, contents, monkeypatch, jump):
    benchmark = spec(method=["eap", "truth"], task="tracr/xproportion", timeout_seconds=100)
    run(benchmark, tmp_path / "whole", executor="serial")
    import time

    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + jump)
    run(benchmark, tmp_path / "store", executor="serial", only=["ablation=zero"])
    monkeypatch.undo()
    assert len(run(benchmark, tmp_path / "store", executor="serial").ran) == 2
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")
