"""Released tools on certified models, edge by edge beside our methods.

    python benchmarks/conformance.py [ADAPTER ...] [--only NAME]

Runs the adapters named, whose tools have to be installed, on the models of ``tests/released_tools.py``, writes what
they gave to ``tests/released_records/tools.json``, and prints the table of ``docs/conformance.md`` from all that is
written there. Without an adapter it prints alone. TransformerLens 4 and the other tools, which need an older one,
cannot be installed together: each is run in its own environment.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from importlib import metadata
from pathlib import Path
from statistics import median

from circuitmeter.suite.circuit import EdgeScores
from circuitmeter.suite.interchange import adapters
from circuitmeter.suite.interchange.adapters import TOOLS
from circuitmeter.suite.plan import names
from circuitmeter.suite.plan.subject import subject
from circuitmeter.suite.scoring.recovery import recovery

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import released_tools as tools  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapters", nargs="*", metavar="ADAPTER")
    parser.add_argument("--only", metavar="NAME", default="", help="runs whose name has this: method=EAP, zero")
    given = parser.parse_args()
    if unknown := set(given.adapters) - set(TOOLS):
        parser.error(f"no adapter {min(unknown)!r}; there are {', '.join(TOOLS)}")
    written = tools.read() if tools.RECORDS.exists() else {"versions": {}, "scores": {}}
    for adapter in given.adapters:
        written["versions"][adapter] = [f"{name} {metadata.version(name)}" for name in packages(adapter)]
    for run in tools.RUNS:
        if run.adapter in given.adapters and given.only in run.name:
            for task in run.tasks:
                found = [float(f"{score:.8g}") for score in tools.by_tool(run, task).flat()]
                written["scores"].setdefault(run.name, {})[task] = found
                tools.RECORDS.write_text(as_text(written))
    print(table(written))


def packages(adapter: str) -> tuple[str, ...]:
    """The installed packages that an adapter's scores come from."""
    module, _, name = TOOLS[adapter].partition(":")
    return getattr(importlib.import_module(f"{adapters.__name__}.{module}"), name).packages


def as_text(written: dict) -> str:
    """JSON with the scores of a model on a line of their own."""
    rows = [
        f"  {json.dumps(name)}: {{\n"
        + ",\n".join(f"   {json.dumps(task)}: {json.dumps(scores)}" for task, scores in sorted(by_task.items()))
        + "\n  }"
        for name, by_task in sorted(written["scores"].items())
    ]
    versions = json.dumps(written["versions"], sort_keys=True)
    return f'{{\n "versions": {versions},\n "scores": {{\n' + ",\n".join(rows) + "\n }\n}\n"


def table(written: dict) -> str:
    lines = [
        "| adapter | its parameters | ablation | beside | models | largest difference | AUC, its and ours |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in tools.RUNS:
        if all(task in written["scores"].get(run.name, {}) for task in run.tasks):
            said = ", ".join(f"`{key}={value}`" for key, value in run.parameters.items()) or "-"
            its = "".join(f" `{key}={value}`" for key, value in run.its.items())
            largest = max(tools.difference(tools.recorded(run, task), tools.by_us(run, task)) for task in run.tasks)
            lines.append(
                f"| `{run.adapter}` | {said} | {run.ablation} | `{run.ours}`{its} | {len(run.tasks)} | {largest:.1e}"
                f"{': ' + run.differs if run.differs else ''} | {areas(run)} |"
            )
    return "\n".join(lines)


def areas(run: tools.Run) -> str:
    """The median areas under the ROC curve of a tool and of our method, over the models whose truth is certified."""
    found: dict[str, list[float]] = {"its": [], "ours": []}
    for task in run.tasks:
        on = subject(task, None)
        truth, exists = on.reference(names.ablation(run.ablation)), on.model.graph.exists
        for whose, scores in (("its", tools.recorded(run, task)), ("ours", tools.by_us(run, task))):
            if truth is not None:
                values = exists.double()
                values[exists] = scores
                found[whose].append(recovery(EdgeScores(on.model.graph, values), truth)["auroc"])
    return f"{median(found['its']):.3f}, {median(found['ours']):.3f}" if found["its"] else "not certified"


if __name__ == "__main__":
    main()
