"""What the commands cost that surround the engine: start-up, a report, a sensitivity card, the check of a method.

    python benchmarks/commands.py [--repeats 3] [--store results/quick] [--parts start report card validate]

Each is the command that a user types, in a process of its own, with its children; the unit is a process that imports
torch and ends. ``report`` is that of the benchmark ``quick``, which is run first where no store that has it is given.
``validate`` finds ``quick`` run and adds README's method to it, each time to a copy of the store. ``sensitivity`` is
README's card: a circuit of 20 edges of ``mini`` on ioi, with its default settings.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from measuring import heading

PARTS = ("start", "report", "card", "validate")
METHOD = '''
import torch
from circuitmeter import EdgeScores, Evaluator


def discover(model, data, *, ablation, objective, seed):
    """The gradient of the loss with respect to every edge's mask, where every edge is half cut."""
    scores = torch.zeros(model.graph.exists.shape)
    for batch in Evaluator(model, data, ablation, objective, seed=seed).prepared():
        half = torch.full((1, *scores.shape), 0.5, requires_grad=True)
        outputs = model.run_cut(half, batch.alternative, inputs=batch.inputs, read=batch.runs.read)
        objective.loss(outputs, batch.targets).sum().backward()
        scores -= half.grad[0]
    return EdgeScores(model.graph, scores)
'''


@dataclass(frozen=True)
class Ran:
    """What a command took: seconds of CPU, of all its processes, and by the clock; the largest process's peak in MB."""

    cpu: float
    wall: float
    peak: float
    faults: float


def ran(*arguments: str) -> Ran:
    """Runs a command. Raises CalledProcessError where it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments, stderr=said.decode())
    wall = time.perf_counter() - start
    return Ran(used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1024, used.ru_minflt)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--store", type=Path, help="a store in which `quick` has run (default: run it)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    given = parser.parse_args()
    command = (sys.executable, "-m", "circuitmeter")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = given.store or folder / "quick"
        if given.store is None and {"report", "validate"} & set(given.parts):
            ran(*command, "run", "quick", "--store", str(store))
        work: dict[str, Callable[[int], Ran]] = {}
        if "start" in given.parts:
            for words in ("--help", "list methods", "discover --help", "list tasks"):
                work[words] = lambda turn, words=words: ran(*command, *words.split())
        if "report" in given.parts:
            work["report of quick"] = lambda turn: ran(*command, "report", str(store), "--out", str(folder / "report"))
        if "card" in given.parts:
            on, circuit = ("--task", "ioi", "--model", "mini"), str(folder / "circuit.json")
            ran(*command, "discover", *on, "--method", "eap-ig", "--top", "20", "--out", circuit)
            work["sensitivity"] = lambda turn: ran(*command, "sensitivity", circuit, *on, "--yes")
        if "validate" in given.parts:
            (folder / "my_method.py").write_text(METHOD, encoding="utf-8")

            here = ("--yes", "--executor", "serial")  # the CPU time of workers is not this process's

            def validate(turn: int) -> Ran:
                copy = shutil.copytree(store, folder / f"copy-{turn}")
                return ran(*command, "validate", f"{folder}/my_method.py:discover", "--store", str(copy), *here)

            work["validate"] = validate
        heading("Commands")
        print("| command | CPU s | wall s | of a process that imports torch (CPU) | page faults | peak MB |")
        print("|---|--:|--:|--:|--:|--:|", flush=True)
        for name, run in work.items():
            units, turns = [], []
            for turn in range(given.repeats):
                units.append(ran(sys.executable, "-c", "import torch"))
                turns.append(run(turn))
            cpu, wall, peak, faults = (
                statistics.median(getattr(turn, key) for turn in turns) for key in ("cpu", "wall", "peak", "faults")
            )
            ratio = statistics.median(mine.cpu / its.cpu for mine, its in zip(turns, units, strict=True))
            print(f"| {name} | {cpu:.2f} | {wall:.2f} | {ratio:.2f} | {faults:,.0f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
