"""A sweep whose workers, drivers and nodes are killed again and again, and what became of its cells.

    python benchmarks/soak.py --workers-killed 40 --drivers-killed 8
    python benchmarks/soak.py --shards 4 --seconds 180
    python benchmarks/soak.py --executor ray --nodes-killed 3
    python benchmarks/soak.py --full-disk

A driver does what ``circuitmeter run --retry-failed`` does, without its report: one for all cells, or one a share
(``--shard``). What is killed as a worker is any process that its fork server has started: workers, and the processes of
users' methods. On Ray there is a cluster of local nodes, and what is killed are Ray's processes and what they have
started, drivers, and whole nodes, for each of which another one joins. When a sweep has been disturbed a few times, it
is run to its end, and compared bit for bit with one that nobody disturbed.

    lost             cells that are not there
    changed          cells that ended otherwise, or with other numbers
    replaced         finished cells whose files were written anew
    repeated         searches that began after their cell was finished
    corrupt          whatever ``check`` finds, but for cells that fail as they should
    unsaid           drivers that ended neither well nor with one line
    ended in a line  drivers that said what was wrong; no fault: what reads methods was killed before anything ran
    done twice       searches that came to their end more often than cells are; no fault: the process was killed
                     between the search and the store, or its driver was, and the next one did not wait for it

``--full-disk`` runs the sweep and its report on a small file system (tmpfs) that fills up, and is made larger, again
and again: in a user namespace of its own, so that it needs no rights.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from circuitmeter.suite.errors import StoreError
from circuitmeter.suite.store.check import check
from circuitmeter.suite.store.store import Store

METHODS = """
import time
import torch
from circuitmeter import EdgeScores

def log(what, model, ablation):
    with open(LOG, "a") as file:
        file.write(f"{what} {model.graph.n_edges} {ablation} {time.time_ns()}\\n")

def poison(model, data, *, ablation, objective, seed):
    for weight in model.state_dict().values():  # what it was lent
        weight.add_(1) if weight.is_floating_point() else None
    return EdgeScores(model.graph, torch.ones(model.graph.exists.shape))

def counted(model, data, *, ablation, objective, seed):
    log("begins", model, ablation)
    time.sleep(0.3)
    log("ends", model, ablation)
    return EdgeScores(model.graph, torch.ones(model.graph.exists.shape))
"""
SPEC = """
[grid]
task = ["tracr/xproportion", "tracr/hist"]
ablation = ["patch", "zero", "mean"]
method = ["eap", "magnitude", {name = "random", seed = [0, 1, 2, 3]}, "FILE:poison", "FILE:counted"]
"""


DRIVER = """
import sys
from circuitmeter.suite.errors import CircuitMeterError
from circuitmeter.suite.plan.spec import Spec
from circuitmeter.suite.run.run import run

spec, store, workers, share, shares, executor, address = sys.argv[1:]
try:
    run(
        Spec.load(spec),
        store,
        workers=int(workers),
        device="cpu",
        executor=executor,
        address=address or None,
        shard=(int(share), int(shares)),
        retry_failed=True,
    )
except CircuitMeterError as error:
    sys.exit(f"error: {error}")
"""
KILLED = ("workers killed", "drivers killed", "nodes killed")
WRONG = ("lost", "changed", "replaced", "repeated", "corrupt", "unsaid")
NODES = 2  # of a Ray cluster
STARTS = 5  # tries to start a node of it
OBJECT_STORE = 10**8  # bytes of shared memory on each node; results are small
STUBBORN = 0.2  # the share of kills that do not wait until something was finished since the last one
SIZES = (300, 700, 2_000, 5_000, 400_000)  # kilobytes of the disk that fills up; the last has room for everything


def main() -> None:
    parser = argparse.ArgumentParser(description="Kills workers, drivers and nodes: what became of the cells.")
    parser.add_argument("--workers-killed", type=int, default=10**6, help="at most")
    parser.add_argument("--drivers-killed", type=int, default=10**6, help="at most")
    parser.add_argument("--nodes-killed", type=int, default=10**6, help="at most, on Ray")
    parser.add_argument("--seconds", type=float, default=3600.0, help="after which nothing is disturbed any more")
    parser.add_argument("--shards", type=int, default=1, help="so many commands, each with its share of the cells")
    parser.add_argument("--executor", choices=["local", "ray"], default="local")
    parser.add_argument("--workers", type=int, default=2, help="of each command")
    parser.add_argument("--times", type=int, default=3, help="that a sweep is disturbed before it is run to its end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--full-disk", action="store_true", help="fill the disk, and kill nothing")
    options = parser.parse_args()
    if options.full_disk and os.environ.get("SOAK_INSIDE") is None:
        command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, *sys.argv]
        sys.exit(subprocess.run(command, env=os.environ | {"SOAK_INSIDE": "1"}).returncode)
    with tempfile.TemporaryDirectory() as name:
        found = soak(Path(name), options)
    sys.exit(any(found[name] for name in WRONG))


def soak(folder: Path, options: argparse.Namespace) -> Counter[str]:
    """Prints, after each sweep, what was killed and what was found so far; returns it."""
    spec, found, chance = folder / "soak.toml", Counter[str](), random.Random(options.seed)
    (folder / "methods.py").write_text(METHODS.replace("LOG", repr(str(folder / "log"))))
    spec.write_text(SPEC.replace("FILE", f"{folder}/methods.py"))
    run_to_the_end(spec, folder / "whole", options.workers)
    expected = contents(folder / "whole")
    with cluster_for(options) as cluster:
        start = time.monotonic()
        while True:
            found["sweeps"] += 1
            (folder / "log").write_text("")
            store = folder / f"store{found['sweeps']}"
            if options.full_disk:
                fill_up(spec, store, options, found)
            for _ in range(0 if options.full_disk else options.times):
                if time.monotonic() - start < options.seconds:
                    disturb(commands(spec, store, options, cluster), store, options, chance, found, cluster)
            run_to_the_end(spec, store, options.workers)
            judge(store, expected, folder / "log", found)
            seconds = time.monotonic() - start
            told = (*KILLED, "full disks", *WRONG, "ended in a line", "done twice")
            counts = ", ".join(f"{found[name]} {name}" for name in told)
            print(f"{found['sweeps']} sweeps of {len(expected)} cells, {seconds:.0f} s: {counts}", flush=True)
            if options.full_disk or seconds > options.seconds or not left(options, found):
                return found


@contextlib.contextmanager
def cluster_for(options: argparse.Namespace) -> Iterator[Any]:
    """A Ray cluster of local nodes, none of which a driver is connected to; or ``None``."""
    if options.executor != "ray":
        yield None
        return
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        join(cluster, num_cpus=0, include_dashboard=False)
        for _ in range(NODES):
            join(cluster, num_cpus=1)
        yield cluster
    finally:
        cluster.shutdown()


def join(cluster: Any, **node: Any) -> None:
    """Adds a node, at first the head. Ray gives it thirty seconds to start, which is little on a busy machine."""
    for tries_left in reversed(range(STARTS)):
        try:
            cluster.add_node(object_store_memory=OBJECT_STORE, **node)
            return
        except Exception:  # Ray raises a bare one
            if not tries_left:
                raise


def left(options: argparse.Namespace, found: Counter[str]) -> list[str]:
    """What may still be killed."""
    limits = dict(zip(KILLED, (options.workers_killed, options.drivers_killed, options.nodes_killed), strict=True))
    return [name for name in KILLED[: 3 if options.executor == "ray" else 2] if found[name] < limits[name]]


def disturb(
    commands: list[list[str]],
    store: Path,
    options: argparse.Namespace,
    chance: random.Random,
    found: Counter[str],
    cluster: Any,
) -> None:
    """Starts drivers, and kills workers and now and then a driver or a node until all drivers have ended.

    Most kills of workers wait until a cell was finished or has failed since the last one, so that the sweep gets on.
    """
    said = [tempfile.TemporaryFile("w+") for _ in commands]  # a pipe that nobody reads would fill up
    drivers = [
        subprocess.Popen(command, stdout=file, stderr=file) for command, file in zip(commands, said, strict=True)
    ]
    seen, waits, shot = folders(store), True, set[int]()
    while living := [driver for driver in drivers if driver.poll() is None]:
        time.sleep(chance.uniform(0.05, 0.8))
        before, may = finished(store), left(options, found)
        roots = [driver.pid for driver in living] if cluster is None else raylets(cluster)
        workers = [worker for root in roots for worker in workers_of(root, cluster is not None)]
        if workers and KILLED[0] in may and (folders(store) != seen or not waits):
            seen, waits = folders(store), chance.random() >= STUBBORN
            found[KILLED[0]] += kill(chance.choice(workers))
        if before and KILLED[1] in may and chance.random() < 0.1:
            driver = chance.choice(living)
            if driver.poll() is None and kill(driver.pid):
                found[KILLED[1]] += 1
                shot.add(driver.pid)
        if before and KILLED[2] in may and chance.random() < 0.03:
            join(cluster, num_cpus=1)
            cluster.remove_node(chance.choice(sorted(cluster.worker_nodes, key=str)), allow_graceful=False)
            found[KILLED[2]] += 1
        now = finished(store)
        found["replaced"] += sum(now.get(key) != file for key, file in before.items())
    for driver, file in zip(drivers, said, strict=True):
        if driver.returncode and driver.pid not in shot:
            file.seek(0)
            last = file.read().strip().splitlines()[-1:]
            found["ended in a line"] += (one := last[0].startswith("error: ") if last else False)
            found["unsaid"] += not one
            print(f"a driver ended with {driver.returncode}: {' '.join(last)}", flush=True)
        file.close()


def fill_up(spec: Path, store: Path, options: argparse.Namespace, found: Counter[str]) -> None:
    """Runs the sweep and its report on a disk that is too small, made larger each time, until both are there; then
    draws the report again where there is no room for another one."""
    run = ["run", str(spec), "--store", str(store), "--retry-failed", "--workers", str(options.workers)]
    store.mkdir()
    for kilobytes in SIZES:
        kind, size = (["-o", "remount,"] if os.path.ismount(store) else ["-t", "tmpfs", "-o", ""]), f"size={kilobytes}k"
        subprocess.run(["mount", *kind[:-1], kind[-1] + size, "none", str(store)], check=True)
        before = finished(store)
        words = asked(run, found, may_be_full=kilobytes != SIZES[-1])
        now = finished(store)
        found["replaced"] += sum(now.get(key) != file for key, file in before.items())
        print(f"{kilobytes} kB: {len(now)} cells finished; {words}", flush=True)
    published = report_of(store)
    found["lost"] += "report.html" not in published
    ballast = store / "writing" / "ballast"
    ballast.parent.mkdir(exist_ok=True)
    with contextlib.suppress(OSError), ballast.open("wb") as file:
        while True:
            file.write(bytes(10**5))
    print(f"no room for another report: {asked(['report', str(store)], found, may_be_full=True)}", flush=True)
    found["changed"] += report_of(store) != published
    ballast.unlink()
    print(f"room again: {asked(['report', str(store)], found, may_be_full=False)}", flush=True)
    found["changed"] += report_of(store) != published


def asked(words: list[str], found: Counter[str], may_be_full: bool) -> str:
    """What a command answers: one line where the disk is full."""
    ended = subprocess.run([sys.executable, "-m", "circuitmeter", *words], capture_output=True, text=True)
    last = ended.stderr.strip().splitlines()[-1:]
    full = ended.returncode == 2 and len(last) == 1 and "No space left on device" in last[0]
    found["full disks"] += full
    if "Traceback" in ended.stderr or not (ended.returncode in (0, 1) or full and may_be_full):
        found["unsaid"] += 1
        print(f"{words[0]} ended with {ended.returncode}: {ended.stderr[-2000:]}", flush=True)
    return last[0] if full else "done"


def report_of(store: Path) -> dict[str, bytes]:
    """The files of the report that is in a store."""
    names = ("report.html", "report.sha256", "leaderboard.json")
    return {name: (store / name).read_bytes() for name in names if (store / name).exists()}


def commands(spec: Path, store: Path, options: argparse.Namespace, cluster: Any = None) -> list[list[str]]:
    """One command, or one a share of the cells."""
    where = ("local", "") if cluster is None else ("ray", cluster.address)
    return [driver(spec, store, options.workers, i, options.shards, *where) for i in range(1, options.shards + 1)]


def driver(
    spec: Path, store: Path, workers: int, share: int = 1, shares: int = 1, executor: str = "local", address: str = ""
) -> list[str]:
    words = (spec, store, workers, share, shares, executor, address)
    return [sys.executable, "-c", DRIVER, *map(str, words)]


def run_to_the_end(spec: Path, store: Path, workers: int) -> None:
    """Undisturbed."""
    subprocess.run(driver(spec, store, workers), check=True, stdout=subprocess.DEVNULL)


def raylets(cluster: Any) -> list[int]:
    """Ray's process on each node, which starts the others there."""
    return [each.process.pid for node in cluster.worker_nodes for each in node.all_processes.get("raylet", ())]


def workers_of(root: int, on_ray: bool) -> list[int]:
    """What a driver's fork server has started; under a raylet, Ray's processes with a task, and what they started."""
    if not on_ray:
        return [process for child in children(root) for process in children(child)]
    tasks = [child for child in children(root) if "ray::_measure" in title(child)]
    return tasks + [process for task in tasks for process in workers_of(task, False)]


def title(process: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")
    return ""


def children(parent: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(each) for each in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    return []


def kill(process: int) -> bool:
    """Whether there was one to kill."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def finished(store: Path) -> dict[str, tuple[int, int]]:
    """Key -> inode and time of the record of every cell that is done."""
    if not (store / "store.json").exists():
        return {}
    reader, found = Store(store), {}
    for key in reader.keys():
        with contextlib.suppress(OSError, StoreError):  # a failed row that is being replaced
            if reader.record(key).done:
                file = (store / "cells" / key / "record.json").stat()
                found[key] = (file.st_ino, file.st_mtime_ns)
    return found


def folders(store: Path) -> set[int]:
    """What tells that a cell was finished or has failed: the inodes of the cells' folders."""
    with contextlib.suppress(OSError):
        return {entry.inode() for entry in os.scandir(store / "cells")}
    return set()


def contents(store: Path) -> dict[str, object]:
    """Key -> everything in a cell but what it cost and where it ran."""
    reader = Store(store)
    return {
        record.key: (
            record.status,
            str(record.model_dump(exclude={"cost", "provenance", "diagnostics"})),
            {name: array.tobytes() for name, array in reader.tensors(record.key).items()} if record.done else {},
        )
        for record in reader.records()
    }


def judge(store: Path, expected: dict[str, object], log: Path, found: Counter[str]) -> None:
    """Counts what is wrong with a sweep that was run to its end."""
    now = contents(store)
    found["lost"] += len(expected.keys() - now.keys())
    found["changed"] += sum(now[key] != value for key, value in expected.items() if key in now)
    found["corrupt"] += len(check(store).faults)
    lines = [line.split() for line in log.read_text().splitlines()]
    counted = [record for record in Store(store).records() if record.identity.method.endswith("counted")]
    when = {(str(record.n_edges), record.identity.ablation): finished(store)[record.key][1] for record in counted}
    found["repeated"] += sum(what == "begins" and int(t) > when[n, ablation] for what, n, ablation, t in lines)
    found["done twice"] += sum(what == "ends" for what, *_ in lines) - len(when)


if __name__ == "__main__":
    main()
