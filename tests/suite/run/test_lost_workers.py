"""A worker that is killed before it begins costs nothing: another one takes its place, and its family."""

import os
import signal
import socket
from multiprocessing import forkserver

import pytest

from circuitmeter.suite.errors import WorkerError
from circuitmeter.suite.process import call_apart
from circuitmeter.suite.run.events import Finished, Started
from circuitmeter.suite.run.executors import worker as worker_module
from circuitmeter.suite.run.run import run
from circuitmeter.suite.store.store import Store

TINY = {"task": "tracr/xproportion", "ablation": ["patch", "zero"], "method": "truth"}


def end(process):
    os.kill(process.pid, signal.SIGKILL)
    process.join()


@pytest.fixture
def doomed(monkeypatch):
    """``doomed(n)``: the next n worker processes are killed as soon as they are started; returns those started."""
    start = worker_module.start

    def doom(n):
        started = []

        def start_and_kill(*given):
            started.append(start(*given))
            if len(started) <= n:
                end(started[-1])
            return started[-1]

        monkeypatch.setattr(worker_module, "start", start_and_kill)
        return started

    return doom


def test_a_worker_that_is_killed_before_it_is_ready_is_replaced(spec, doomed, log, tmp_path):
    started = doomed(3)
    summary = run(spec(**TINY), tmp_path / "store", workers=2, device="cpu", on_event=log)
    assert summary.done == 2 and not summary.failed and len(started) >= 4
    assert len(log.of(Started)) == len(log.of(Finished)) == 2


def test_workers_that_are_always_killed_end_the_run_in_a_line(spec, doomed, tmp_path):
    started = doomed(1000)
    with pytest.raises(WorkerError, match="20 in a row, the process was ended by SIGKILL"):
        run(spec(**TINY), tmp_path / "store", workers=2, device="cpu")
    assert 20 <= len(started) <= 22 and not Store(tmp_path / "store").keys()


def exits(*given):
    os._exit(7)


def test_a_worker_that_fails_to_start_by_itself_is_not_tried_again(spec, monkeypatch, tmp_path):
    monkeypatch.setattr(worker_module, "_work", exits)
    with pytest.raises(WorkerError, match="status 7 .*what it said is above.*__main__"):
        run(spec(**TINY), tmp_path / "store", workers=1, device="cpu")


def test_a_family_given_to_a_worker_that_is_dead_goes_to_another(spec, monkeypatch, log, tmp_path):
    give, given = worker_module.Worker.give, []

    def kill_and_give(worker, family):
        given.append(family)
        if len(given) <= 2:
            end(worker.process)
        return give(worker, family)

    monkeypatch.setattr(worker_module.Worker, "give", kill_and_give)
    summary = run(spec(**TINY), tmp_path / "store", workers=1, device="cpu", on_event=log)
    assert summary.done == 2 and not summary.failed and len(given) == 4
    assert len(log.of(Started)) == len(log.of(Finished)) == 2


def answer():
    return b"here"


@pytest.mark.parametrize("said", [b"", b"x"])
def test_who_is_killed_while_it_asks_for_a_process_does_not_end_the_fork_server(said):
    assert call_apart(answer) == b"here"
    server = forkserver._forkserver
    before = server._forkserver_pid
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(server._forkserver_address)
        asking.sendall(said)
    assert call_apart(answer) == b"here" and server._forkserver_pid == before


@pytest.mark.slow  # a new server imports torch
def test_a_killed_fork_server_costs_at_most_the_cells_in_hand(spec, user_method, log, tmp_path):
    slow = user_method("time.sleep(0.5)\nreturn zeros(model)")
    processes = set()

    def listen(event):
        log(event)
        if isinstance(event, Started):
            processes.add(event.process)
        if len(log.of(Started)) == 2 and isinstance(event, Started):
            os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)

    benchmark = spec(**TINY | {"method": [slow, "random"]}, seed=[0, 1])
    summary = run(benchmark, tmp_path / "store", workers=2, device="cpu", on_event=listen)
    assert len(log.of(Finished)) == len(summary.ran) == 6 and len(summary.failed) <= 2
    assert all("server that had forked it" in reason for _, reason in summary.failed)
    assert not any(os.path.exists(f"/proc/{each}/fd/0") for each in processes)
    again = run(benchmark, tmp_path / "store", workers=2, device="cpu", retry_failed=True)
    assert again.done == 6 and not again.failed


def test_a_worker_that_hangs_is_ended_at_the_time_limit(spec, log, tmp_path):
    """It is stopped: nothing inside it can keep the limit."""
    stopped = []

    def listen(event):
        log(event)
        if isinstance(event, Started) and not stopped:
            stopped.append(event.process)
            os.kill(event.process, signal.SIGSTOP)

    benchmark = spec(**TINY | {"ablation": "zero"})
    summary = run(benchmark, tmp_path / "store", workers=1, device="cpu", time_limit=0.5, on_event=listen)
    assert [reason for _, reason in summary.failed] == ["timeout: no result within 0.5 seconds"]
    assert not os.path.exists(f"/proc/{stopped[0]}/fd/0")
