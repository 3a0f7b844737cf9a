"""``circuitmeter evaluate``: how much of the model a circuit file explains, under each ablation and objective."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CircuitMeterError, Undefined
from .arguments import add_json, add_problem, add_several

if TYPE_CHECKING:
    from ..ablation import Ablation
    from ..circuit import Reference
    from ..interchange import CircuitFile
    from ..objective import Objective
    from .problem import Problem

NAME = "evaluate"
HELP = "Measure a circuit file under each ablation and objective, and against a certified truth."
EPILOG = (
    "Normalised faithfulness is (circuit - cut) / (full - cut), a ratio of means over the prompts: 1 is the full "
    "model, 0 is the graph with every edge cut."
)
# Of the scores' recovery: what is about the circuit of the true size, and not about the file's own.
AT_TRUE_SIZE = ("precision", "recall", "f1", "exact")
COLUMNS = ("ablation", "objective", "full", "cut", "circuit", "faithfulness", "edges", "undefined")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "circuit",
        metavar="CIRCUIT.json",
        type=Path,
        help="a circuit: the graph JSON of EAP-IG and MIB, or a list of edges as auto-circuit or ACDC name them",
    )
    add_problem(parser)
    add_several(
        parser,
        "--ablation",
        "A",
        "what a cut edge carries (default: the ablation the circuit was found under, else patch)",
    )
    add_several(
        parser,
        "--objective",
        "O",
        "what is measured (default: the task's; for --data logit-difference, or kl without answers)",
    )
    parser.add_argument(
        "--against",
        metavar="TRUTH",
        help="a certified truth (`circuitmeter list truths`) to score the recovered edges against",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    from ..ablation import Ablation
    from ..interchange import read
    from ..objective import OBJECTIVES
    from . import problem as problems
    from .output import print_json

    file = read(options.circuit)
    ablations = [Ablation.parse(text) for text in options.ablation or [file.meta.get("ablation") or "patch"]]
    objectives = [OBJECTIVES.get(name) for name in options.objective or []]
    problem = problems.load(options, inputs=file.inputs)
    file = file.on(problem.model.graph)
    truths = certified(options.against, problem, ablations) if options.against else {}
    objectives = objectives or [OBJECTIVES.get(problem.objective)]
    rows = [
        measure(file, problem, ablation, objective, options.seed) for ablation in ablations for objective in objectives
    ]
    if all(row["full"] is None for row in rows):
        raise Undefined(f"{rows[0]['undefined']}.")
    recovered = {name: recovery(file, truth) for name, truth in truths.items()} or None
    if options.json:
        print_json(
            {
                "circuit": str(options.circuit),
                "model": problem.model_name,
                "prompts": problem.data.n,
                "n_edges": file.circuit.graph.n_edges,
                "rows": rows,
                "recovery": recovered,
            }
        )
    else:
        _print(rows, recovered)
    return 0


def measure(file: CircuitFile, problem: Problem, ablation: Ablation, objective: Objective, seed: int) -> dict[str, Any]:
    """The objective's mean for the full model, the fully cut graph and the circuit, and the faithfulness.

    A combination without a meaning has ``undefined``: the reason, and no numbers.
    """
    import torch

    from ..evaluator import Evaluator
    from ..harness.record import plain

    row = {"ablation": str(ablation), "objective": objective.name, "edges": file.circuit.n_edges}
    reason = ablation.undefined(problem.data) or objective.undefined(problem.data, problem.model.config)
    if reason:
        return {**row, "full": None, "cut": None, "circuit": None, "faithfulness": None, "undefined": reason}
    masks = torch.stack([file.circuit.graph.exists, torch.zeros_like(file.circuit.edges), file.circuit.edges])
    losses = Evaluator(problem.model, problem.data, ablation, objective, seed=seed).loss(masks)
    full, cut, circuit = (objective.value(loss) + 0.0 for loss in losses.tolist())  # never -0
    numbers = plain({"full": full, "cut": cut, "circuit": circuit})  # NaN is not JSON
    if full == cut:
        return {**row, **numbers, "faithfulness": None, "undefined": "cutting every edge changes nothing"}
    return {**row, **numbers, "faithfulness": plain((circuit - cut) / (full - cut)), "undefined": None}


def certified(truth: str, problem: Problem, ablations: list[Ablation]) -> dict[str, Reference]:
    """The truth under each ablation for which it is certified. Raises CircuitMeterError where it is for none."""
    from .problem import reference

    found = {str(ablation): reference(truth, problem.model, ablation) for ablation in ablations}
    found = {name: circuit for name, circuit in found.items() if circuit is not None}
    if not found:
        raise CircuitMeterError(
            f"the truth {truth} is not certified under {', '.join(map(str, ablations))}; choose another --ablation or "
            f"--against."
        )
    return found


def recovery(file: CircuitFile, truth: Reference) -> dict[str, float]:
    """How well the file's circuit, and its scores where it has them, recover a truth."""
    from ..harness.record import plain
    from ..scoring.recovery import circuit_recovery
    from ..scoring.recovery import recovery as score_recovery

    of_scores = {} if file.scores is None else score_recovery(file.scores, truth)
    ranked = {name: value for name, value in of_scores.items() if name not in AT_TRUE_SIZE}
    return plain({**circuit_recovery(file.circuit, truth), **ranked})


def _print(rows: list[dict[str, Any]], recovered: dict[str, dict[str, float]] | None) -> None:
    from .output import print_table

    columns = COLUMNS if any(row["undefined"] for row in rows) else COLUMNS[:-1]
    print_table(columns, [[row[column] for column in columns] for row in rows])
    for ablation, metrics in (recovered or {}).items():
        print(f"\nrecovery of the truth under {ablation}")
        print_table(("metric", "value"), list(metrics.items()))
