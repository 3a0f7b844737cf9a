"""Released benchmarks: what each asks, as a hash that is written down with a release and never changes again.

``python -m circuitmeter.suite.plan.released 1.0.0 quick ...`` writes those of a release into ``released.json``,
beside the benchmarks; a test compares them with what these ask. A benchmark that is to ask something else gets another
name.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Literal

from ..errors import SpecError
from ..json_model import File, Kept, Line, json_hash
from ..reading import read_json
from .expand import Expansion, expand
from .spec import Spec

_FILE = Path(__file__).parent.parent / "benchmarks" / "released.json"


class FixedBenchmark(Kept):
    """A released benchmark: the first release that has it, and ``benchmark_hash`` of it."""

    release: Line
    hash: Line


class ReleasedBenchmarks(File):
    """``released.json``: the released benchmarks by name. The other built-in ones may still change."""

    format: Literal[1] = 1
    benchmarks: dict[str, FixedBenchmark]


@cache
def released() -> dict[str, FixedBenchmark]:
    """The released benchmarks by name."""
    return ReleasedBenchmarks.model_validate(read_json(_FILE)).benchmarks


def benchmark_hash(expanded: Expansion) -> str:
    """What a benchmark asks: its prompts, weights, graphs, truths, methods with their parameters, ablations, objectives
    and seeds, which combinations have no meaning, which gates they have, and how circuits are evaluated.

    The versions of methods are left out: methods are what a benchmark judges, and each record has that of its method.

    Args:
        expanded: the whole benchmark, on a machine that has all of its models.

    Returns:
        16 hex digits.
    """
    asked = []
    for job in expanded.jobs:
        cell = {**job.cell.as_json(), "key_version": 0, "version": ""}
        evaluation = None if job.evaluation is None else job.evaluation.identity("0" * 16).as_json()
        gates = [gate.model_dump(exclude={"task", "model"}) for gate in job.gates]
        whole = {"cell": cell, "evaluation": evaluation, "undefined": job.undefined is not None}
        asked.append(json_hash({**whole, **({"gates": gates} if gates else {})}))
    return json_hash({"asked": sorted(asked)})


def standing(name: str, hashed: str) -> str:
    """In words, whether a benchmark asks what the released one of its name asks; empty where there is none."""
    fixed = released().get(name)
    if fixed is None:
        return ""
    return f"as released with {fixed.release}" if hashed == fixed.hash else f"differs from {name} of {fixed.release}"


def main(release: str, *names: str) -> int:
    """Writes the hashes of benchmarks that a release fixes. Returns the exit status.

    Raises:
        SpecError: one of them is released already and asks something else now, or a model of it is not on this machine.
    """
    fixed = dict(released())
    for name in names:
        expanded = expand(Spec.load(name))
        if expanded.not_run:
            raise SpecError(f"{name} cannot be hashed here: {expanded.not_run[0].reason}")
        hashed = benchmark_hash(expanded)
        if name in fixed and fixed[name].hash != hashed:
            raise SpecError(f"{name} {standing(name, hashed)}; give what it asks now another name, as {name[:-1]}2.")
        fixed.setdefault(name, FixedBenchmark(release=release, hash=hashed))
    contents = ReleasedBenchmarks(benchmarks=dict(sorted(fixed.items()))).as_json()
    _FILE.write_text(json.dumps({"format": 1, **contents}, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
