"""Worker processes: the same bits whatever their number, and no death, of a worker or of everything, costs a result."""

import os
import signal
import subprocess
import sys
import time

import pytest

from circuitmeter.suite.plan.expand import expand
from circuitmeter.suite.plan.spec import Spec
from circuitmeter.suite.run.events import Finished, Started
from circuitmeter.suite.run.executors import crew
from circuitmeter.suite.run.run import run
from circuitmeter.suite.store.store import Store


def test_results_depend_neither_on_the_workers_nor_on_the_order(spec, contents, tmp_path):
    methods = ["eap", "exact", "acdc", "magnitude", {"name": "random", "seed": [0, 1]}]
    forwards = spec(method=methods, objective=["answer-difference", "l2"])
    backwards = spec(method=methods[::-1], task=forwards.grid[0].task[::-1], objective=["l2", "answer-difference"])
    one = run(forwards, tmp_path / "one", executor="serial")
    two = run(backwards, tmp_path / "two", workers=2, device="cpu")
    assert one.exit_status == two.exit_status == 0 and one.done == two.done >= 30
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_worker_that_ends_is_a_row_and_its_place_is_taken(spec, user_method, rows, log, tmp_path, capfd):
    """One method ends its process, one is killed from outside: everything else is measured."""
    suicidal = user_method("os._exit(3)", "suicidal.py")
    victim = user_method("time.sleep(60)", "victim.py")
    noisy = user_method("print('noise')\nreturn zeros(model)", "noisy.py")

    def listen(event):
        log(event)
        if isinstance(event, Started) and "victim" in event.job.cell.method:
            os.kill(event.process, signal.SIGKILL)

    benchmark = spec(
        task="tracr/xproportion",
        method=["truth", suicidal, noisy, victim, "exact"],
        ablation="zero",
    )
    summary = run(benchmark, tmp_path / "store", workers=2, device="cpu", on_event=listen)
    reasons = {row.identity.method: (row.kind, row.reason) for row in Store(tmp_path / "store").records()}
    assert reasons["suicidal.py:discover"] == (
        "killed",
        "the process ended with status 3 (os._exit, or a library that ends the process)",
    )
    assert "ended by SIGKILL" in reasons["victim.py:discover"][1]
    assert [reasons[name][0] for name in ("truth", "exact", "noisy.py:discover")] == [None] * 3
    assert len(log.of(Finished)) == len(summary.ran) == 5 and len(summary.failed) == 2
    assert all(row.provenance.versions["torch"] for row in rows(tmp_path / "store", "killed"))
    shown = capfd.readouterr()
    assert shown.out == "" and "noise" in shown.err, "what a method prints stays off stdout"


def test_a_cell_that_takes_too_long_is_a_row(spec, user_method, rows, tmp_path):
    endless = user_method("time.sleep(600)")
    benchmark = spec(task="tracr/xproportion", method=endless, ablation="zero", timeout_seconds=1.5)
    summary = run(benchmark, tmp_path / "store", workers=1, device="cpu")
    assert [row.reason for row in rows(tmp_path / "store", "timeout")] == ["no result within 1.5 seconds"]
    assert summary.exit_status == 1 and summary.seconds < 300


def test_an_interruption_stops_the_workers_and_keeps_what_is_done(spec, user_method, rows, tmp_path, logged):
    slow = user_method("log(os.getpid())\ntime.sleep(0 if ablation.value == 'patch' else 60)\nreturn zeros(model)")

    def interrupt(event):
        if isinstance(event, Started) and event.job.cell.ablation == "zero":
            raise KeyboardInterrupt

    benchmark = spec(method=slow, task="tracr/xproportion")
    with pytest.raises(KeyboardInterrupt):
        run(benchmark, tmp_path / "store", workers=1, device="cpu", on_event=interrupt)
    assert len(rows(tmp_path / "store", None)) == 1 == len(Store(tmp_path / "store").keys())
    assert not alive(int(logged()[0]))


RUN = """
import sys
from circuitmeter.suite.run.run import run
from circuitmeter.suite.plan.spec import Spec
if __name__ == "__main__":
    run(Spec.load(sys.argv[1]), sys.argv[2], workers=2, device="cpu", on_event=lambda event: print(event, flush=True))
"""


FEW = 'task = ["tracr/xproportion", "tracr/hist"]\nablation = ["patch", "zero"]'
MANY = 'task = ["tracr/xproportion", "tracr/hist", "tracr/reverse"]\nablation = ["patch", "zero", "mean"]'


@pytest.fixture
def benchmark(request, tmp_path, user_method):
    """A file with cells of a method that logs when it begins and ends, and as many of the built-in ``random``.

    The test's parameter, or ``FEW``, says on what. In the processes of ``start`` the method waits before it ends.
    """
    counted = user_method(
        "log('begin')\ntime.sleep(float(os.environ.get('PAUSE', 0)))\nlog('end')\nreturn zeros(model)"
    )
    path = tmp_path / "small.toml"
    path.write_text(f"[grid]\n{getattr(request, 'param', FEW)}\nmethod = [{counted!r}, 'random']\n")
    return path


@pytest.fixture
def start(tmp_path, benchmark):
    """Starts ``RUN`` on a store, in a process group of its own; gives the process."""
    (tmp_path / "run.py").write_text(RUN)
    started = []

    def go(store):
        command = [sys.executable, str(tmp_path / "run.py"), str(benchmark), str(store)]
        environment = os.environ | {"PAUSE": "2"}
        started.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True, env=environment)
        )
        return started[-1]

    yield go
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def kill_everything_at(process, count):
    """SIGKILL for the process and its workers when ``count`` cells are finished. Returns once all of them are gone."""
    finished = (line for line in process.stdout if line.startswith("Finished"))
    for _ in range(count):
        next(finished)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.read()  # ends when the last process that holds the pipe does


def check_equal_to_never_killed(benchmark, store, whole, kills, contents, logged):
    """Runs what is left, and compares with a run that nobody killed."""
    done = {record.key for record in Store(store).records()}
    spec, finished = Spec.load(benchmark), []
    jobs = {job.key for job in expand(spec).jobs}
    assert 0 < len(done) < len(jobs)
    run(spec, store, executor="serial", on_event=lambda e: finished.append(e.job) if isinstance(e, Finished) else None)
    assert {job.key for job in finished} == jobs - done
    assert len(done) + len(finished) == len(jobs)
    assert not any((store / "writing").iterdir())
    # Each of the two workers had at most one cell in hand when it was killed.
    assert len(jobs) / 2 <= logged().count("begin") <= len(jobs) / 2 + 2 * kills
    run(spec, whole, executor="serial")
    assert contents(store) == contents(whole)


def test_killed_in_the_middle_and_run_again_equals_never_killed(start, benchmark, contents, tmp_path, logged):
    kill_everything_at(start(tmp_path / "store"), 3)
    check_equal_to_never_killed(benchmark, tmp_path / "store", tmp_path / "whole", 1, contents, logged)


@pytest.mark.slow
@pytest.mark.parametrize("benchmark", [MANY], indirect=True)
def test_killed_again_and_again_and_run_again_equals_never_killed(start, benchmark, contents, tmp_path, logged):
    for count in (1, 2, 1, 4, 1):
        kill_everything_at(start(tmp_path / "store"), count)
    check_equal_to_never_killed(benchmark, tmp_path / "store", tmp_path / "whole", 5, contents, logged)


def test_workers_do_not_outlive_a_parent_that_is_killed(start, tmp_path):
    process = start(tmp_path / "store")
    next(line for line in process.stdout if line.startswith("Started"))
    workers = [
        each for child in children(process.pid) for each in (child, *children(child))
    ]  # the server's are workers
    assert len(workers) >= 2 and all(map(alive, workers))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 60
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, workers))


def children(pid):
    """The processes whose parent is ``pid``."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as file:
                if file.read().rpartition(")")[2].split()[1] == str(pid):
                    found.append(int(entry))
        except OSError:  # it ended while we looked
            continue
    return found


def alive(pid):
    """Whether a process runs; one that ended and that nobody has waited for yet does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_an_executor_of_one_family_at_a_time_has_one_worker():
    assert crew("serial", "cpu", 8) == ["cpu"] and crew("local", "cpu", 3) == ["cpu"] * 3
