"""``circuitmeter list``: what there is."""

from __future__ import annotations

import argparse
from typing import Any

from .arguments import add_json
from .output import print_json, print_table

NAME = "list"
HELP = "List methods, tasks, certified truths, benchmarks, ablations or objectives."
EPILOG = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=sorted(_ROWS), metavar="KIND", help=", ".join(_ROWS))
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    rows = _ROWS[options.kind]()
    if options.json:
        print_json(rows)
    else:
        columns = list(rows[0]) if rows else ["name"]
        print_table(columns, [[_short(row[column]) for column in columns] for row in rows])
    return 0


def _short(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items()) or "-"
    return value


def _methods() -> list[dict[str, Any]]:
    from ..methods import METHODS

    rows = []
    for name in METHODS:
        method = METHODS.get(name)
        rows.append(
            {
                "name": name,
                "needs": sorted(method.needs),
                "ablations": "any" if method.ablations is None else sorted(map(str, method.ablations)),
                "objectives": method.objectives or "ignored",
                "presets": sorted(method.presets),
                "parameters": method.parameters,
                "cost": method.cost,
                "paper": method.paper,
            }
        )
    return rows


def _tasks() -> list[dict[str, Any]]:
    from ... import tasks

    loaded = [tasks.load(name) for name in tasks.names()]
    return [{"name": task.name, "model": task.model, "objective": task.objective, "truth": task.truth} for task in loaded]


def _truths() -> list[dict[str, Any]]:
    from ... import ground_truth

    rows = []
    for name in ground_truth.names():
        truth = ground_truth.load(name)
        references = {ablation: truth.reference(ablation) for ablation in truth.ablations}
        rows.append(
            {
                "name": name,
                "n_edges": truth.certificate["n_edges"],
                "inputs": truth.certificate["domain"]["n_inputs"],
                "true_edges": {ablation: int(reference.core.sum()) for ablation, reference in references.items() if reference is not None},
            }
        )
    return rows


def _benchmarks() -> list[dict[str, Any]]:
    from ..harness.spec import built_in

    return built_in()


def _ablations() -> list[dict[str, Any]]:
    from ..ablation import KNOWN

    return [{"name": name, "on a cut edge": text} for name, text in KNOWN.items()]


def _objectives() -> list[dict[str, Any]]:
    from ..objective import OBJECTIVES

    values = [OBJECTIVES.get(name) for name in OBJECTIVES]
    return [{"name": value.name, "better": "higher" if value.higher_is_better else "lower", "what": value.description} for value in values]


_ROWS = {
    "methods": _methods,
    "tasks": _tasks,
    "truths": _truths,
    "benchmarks": _benchmarks,
    "ablations": _ablations,
    "objectives": _objectives,
}
