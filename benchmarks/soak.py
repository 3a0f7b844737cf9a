"""A sweep whose workers and drivers are killed again and again, and what became of its cells.

    python benchmarks/soak.py --workers-killed 100 --drivers-killed 20
    python benchmarks/soak.py --shards 4 --seconds 180

A driver does what ``circuitmeter run --retry-failed`` does, without its report: one for all cells, or one a share
(``--shard``). What is killed as a worker is any process
that its fork server has started: workers, and the processes of users' methods. When a sweep has been disturbed a
few times, it is run to its end, and compared bit for bit with one that nobody disturbed.

    lost             cells that are not there
    changed          cells that ended otherwise, or with other numbers
    replaced         finished cells whose files were written anew
    repeated         searches that began after their cell was finished
    corrupt          whatever ``check`` finds, but for cells that fail as they should
    done twice       searches that came to their end more often than cells are; no fault: the process was killed
                     between the search and the store, or its driver was, and the next one did not wait for it
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
from pathlib import Path

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
task = ["tracr/xproportion", "tracr/hist", "tracr/reverse"]
ablation = ["patch", "zero", "mean"]
method = ["eap", "magnitude", {name = "random", seed = [0, 1, 2, 3]}, "FILE:poison", "FILE:counted"]
"""


DRIVER = """
import sys
from circuitmeter.suite.plan.spec import Spec
from circuitmeter.suite.run.run import run

spec, store, workers, share, shares = sys.argv[1:]
run(Spec.load(spec), store, workers=int(workers), device="cpu", shard=(int(share), int(shares)), retry_failed=True)
"""
KILLED = ("workers killed", "drivers killed")
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
WRONG = ("lost", "changed", "replaced", "repeated", "corrupt")


def main() -> None:
    parser = argparse.ArgumentParser(description="Kills workers and drivers, and says what became of the cells.")
    parser.add_argument("--workers-killed", type=int, default=10**6, help="at most")
    parser.add_argument("--drivers-killed", type=int, default=10**6, help="at most")
    parser.add_argument("--seconds", type=float, default=3600.0, help="after which no new sweep begins")
    parser.add_argument("--shards", type=int, default=1, help="so many commands, each with its share of the cells")
    parser.add_argument("--workers", type=int, default=2, help="of each command")
    parser.add_argument("--times", type=int, default=3, help="that a sweep is disturbed before it is run to its end")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = soak(Path(name), options)
    sys.exit(any(found[name] for name in WRONG))


def soak(folder: Path, options: argparse.Namespace) -> Counter[str]:
    """Prints, after each sweep, what was killed and what was found so far; returns it."""
    spec, found, chance = folder / "soak.toml", Counter[str](), random.Random(options.seed)
    (folder / "methods.py").write_text(METHODS.replace("LOG", repr(str(folder / "log"))))
    spec.write_text(SPEC.replace("FILE", f"{folder}/methods.py"))
    run_to_the_end(spec, folder / "whole", options.workers)
    expected, start = contents(folder / "whole"), time.monotonic()
    while True:
        found["sweeps"] += 1
        (folder / "log").write_text("")
        store = folder / f"store{found['sweeps']}"
        for _ in range(options.times):
            disturb(commands(spec, store, options), store, options, chance, found)
        run_to_the_end(spec, store, options.workers)
        judge(store, expected, folder / "log", found)
        seconds = time.monotonic() - start
        print(f"{found['sweeps']} sweeps of {len(expected)} cells, {seconds:.0f} s: "
              + ", ".join(f"{found[name]} {name}" for name in (*KILLED, *WRONG, "done twice")), flush=True)  # fmt: skip
        if seconds > options.seconds or not left(options, found):
            return found


def left(options: argparse.Namespace, found: Counter[str]) -> list[str]:
    """What may still be killed."""
    limits = dict(zip(KILLED, (options.workers_killed, options.drivers_killed), strict=True))
    return [name for name, limit in limits.items() if found[name] < limit]


def disturb(
    commands: list[list[str]], store: Path, options: argparse.Namespace, chance: random.Random, found: Counter[str]
) -> None:
    """Starts drivers, and kills workers and now and then a driver until all have ended.

    A worker is killed only when a cell was finished or has failed since the last kill: a worker that is killed before
    it is ready ends its run, and a run whose workers all die young would be all that is tried.
    """
    drivers = [subprocess.Popen(command, **QUIET) for command in commands]
    seen = folders(store)
    while living := [driver for driver in drivers if driver.poll() is None]:
        time.sleep(chance.uniform(0.05, 0.8))
        before, may = finished(store), left(options, found)
        workers = [each for driver in living for each in workers_of(driver.pid)]
        if workers and KILLED[0] in may and folders(store) != seen:
            seen = folders(store)
            found[KILLED[0]] += kill(chance.choice(workers))
        if before and KILLED[1] in may and chance.random() < 0.1:
            driver = chance.choice(living)
            found[KILLED[1]] += driver.poll() is None and kill(driver.pid)
        now = finished(store)
        found["replaced"] += sum(now.get(key) != file for key, file in before.items())


def commands(spec: Path, store: Path, options: argparse.Namespace) -> list[list[str]]:
    """One command, or one a share of the cells."""
    return [driver(spec, store, options.workers, i, options.shards) for i in range(1, options.shards + 1)]


def driver(spec: Path, store: Path, workers: int, share: int = 1, shares: int = 1) -> list[str]:
    return [sys.executable, "-c", DRIVER, str(spec), str(store), str(workers), str(share), str(shares)]


def run_to_the_end(spec: Path, store: Path, workers: int) -> None:
    """Undisturbed."""
    subprocess.run(driver(spec, store, workers), check=True, **QUIET)


def workers_of(driver: int) -> list[int]:
    """What a driver's fork server has started."""
    return [process for child in children(driver) for process in children(child)]


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
