"""Speed-up of a benchmark on several workers, and what the driver takes for a cell.

    python benchmarks/workers.py --only method=eap method=eap-ig --workers 1 2
    python benchmarks/workers.py --only method=eap --executor ray --workers 2

Each line is a run into an empty store, in a process of its own. Seconds are counted from the first cell's start to the
last one's end, so that neither imports nor Ray's own start are in them. ``driver`` is the CPU time of the command's
process for a cell: sending, receiving, what it writes. ``around`` is what a cell takes beyond its search and its
scoring: workers x wall / cells, less the cell's own seconds. ``all`` is the CPU time of the command and of every
process under it, from the first cell's start to the last one's end. On a machine that others use, wall time says how
much of it so many processes get; CPU time says what more workers cost: on n idle cores, n workers are faster by n times
the ratio of one worker's ``all`` to theirs, the last column.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from circuitmeter.suite.plan.spec import Spec
from circuitmeter.suite.run.events import Event, Finished, Planned
from circuitmeter.suite.run.run import run


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed-up on several workers, and the driver's time for a cell.")
    parser.add_argument("--benchmark", default="known-circuits-1")
    parser.add_argument("--only", nargs="*", default=["method=eap", "method=eap-ig"], help="KEY=VALUE filters")
    parser.add_argument("--executor", default="local")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.benchmark, options.only, options.executor, options.workers[0])))
        return
    print(
        "| executor | workers | cells | wall s | speed-up | own s a cell | around ms a cell | driver CPU ms a cell "
        "| all CPU s | speed-up by CPU |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    first: dict[str, float] = {}
    for n in options.workers:
        given = ["--benchmark", options.benchmark, "--executor", options.executor, "--workers", str(n)]
        command = [sys.executable, __file__, "--one", *given, "--only", *options.only]
        one = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
        first = first or one
        around = 1000 * (n * one["wall"] / one["cells"] - one["own"])
        print(
            f"| {options.executor} | {n} | {one['cells']} | {one['wall']:.1f} | {first['wall'] / one['wall']:.2f} "
            f"| {one['own']:.3f} | {around:.0f} | {1000 * one['driver']:.1f} "
            f"| {one['all']:.1f} | {n / options.workers[0] * first['all'] / one['all']:.2f} |",
            flush=True,
        )


def measured(benchmark: str, only: Sequence[str], executor: str, workers: int) -> dict[str, float]:
    """One run: cells, wall seconds, a cell's own seconds (mean), CPU seconds of this process a cell."""
    when: dict[str, float] = {}
    own: list[float] = []

    def listen(event: Event) -> None:
        now, used = time.perf_counter(), time.process_time()
        if isinstance(event, Planned):
            when["cpu"], when["cells"] = used, len(event.to_run)
        elif "start" not in when:  # an executor may say when a cell ends, and not when it starts
            when["start"], when["all"] = now, cpu_of_all(os.getpid())
        if isinstance(event, Finished):
            when["end"] = now
            own.append(event.outcome.seconds or 0.0)
            if len(own) == when["cells"]:
                when["all"] = cpu_of_all(os.getpid()) - when["all"]

    with tempfile.TemporaryDirectory() as store:
        run(Spec.load(benchmark), store, workers=workers, device="cpu", executor=executor, only=only, on_event=listen)
    used = time.process_time() - when["cpu"]
    return {
        "cells": len(own),
        "wall": when["end"] - when["start"],
        "own": sum(own) / len(own),
        "driver": used / len(own),
        "all": when["all"],
    }


def cpu_of_all(process: int) -> float:
    """CPU seconds of a process, of those under it, and of those that these have waited for."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        under = [each for file in Path(f"/proc/{process}/task").glob("*/children") for each in file.read_text().split()]
    except OSError:  # it has just ended
        return 0.0
    own = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")  # utime, stime, cutime, cstime
    return own + sum(cpu_of_all(int(each)) for each in under)


if __name__ == "__main__":
    main()
