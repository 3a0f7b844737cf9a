"""``circuitmeter discover``: one method, one model, one circuit file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CircuitMeterError, MethodError, SpecError
from .arguments import add_problem, add_several, add_split, fraction, positive_number, threshold

if TYPE_CHECKING:
    from ..circuit import Circuit, EdgeScores, Reference
    from ..intervention.ablation import Ablation
    from ..intervention.objective import Objective
    from ..methods import Method
    from .problem import Problem

NAME = "discover"
HELP = "Run one method on one model and write the circuit it finds."
EPILOG = (
    "The file is the EAP-IG / MIB graph JSON with one more key, or with --format a list of edges under another tool's "
    "names; `circuitmeter evaluate` reads them all."
)
DEFAULT_FRACTION = 0.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_problem(parser)
    add_split(parser, "train")
    parser.add_argument(
        "--method",
        required=True,
        metavar="NAME|FILE.py:FUNCTION",
        help="a method (`circuitmeter list methods`) or a function of yours",
    )
    parser.add_argument(
        "--ablation",
        metavar="A",
        default="patch",
        help="what a cut edge carries (`circuitmeter list ablations`; default: patch)",
    )
    parser.add_argument(
        "--objective",
        metavar="O",
        help="what the method optimises (default: the task's; for --data logit-difference, or kl without answers)",
    )
    add_several(
        parser, "--set", "KEY=VALUE", "a parameter of the method, such as steps=5; typed as the method's own default is"
    )
    parser.add_argument("--preset", metavar="NAME", help="a named set of the method's parameters, before --set")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--top", type=positive_number, metavar="N", help="keep the N edges with the largest absolute scores"
    )
    size.add_argument(
        "--fraction",
        type=fraction,
        metavar="F",
        help="keep this fraction of all edges; without any size: as many edges as the certified circuit has, where one "
        f"is known, and else the fraction {DEFAULT_FRACTION}",
    )
    size.add_argument(
        "--threshold", type=threshold, metavar="T", help="keep the edges whose absolute score is at least T"
    )
    parser.add_argument("--out", required=True, metavar="circuit.json", type=Path, help="where the circuit is written")
    parser.add_argument(
        "--format",
        choices=("eap-ig", "auto-circuit", "acdc"),
        default="eap-ig",
        help="whose: the graph JSON of EAP-IG and MIB (default), or the edge names of auto-circuit or ACDC",
    )


def run(options: argparse.Namespace) -> int:
    from ..errors import Undefined
    from ..interchange import save
    from ..intervention.ablation import Ablation
    from ..intervention.objective import OBJECTIVES
    from ..plan import names
    from . import problem as problems
    from .output import note
    from .settings import parse_settings
    from .validate import described

    if not options.out.parent.is_dir() or options.out.is_dir():
        raise SpecError(f"cannot write {options.out}: it is a folder, or it lies in none; choose another --out.")
    ablation = Ablation.parse(options.ablation)
    method = names.method(options.method)
    parameters = method.resolve(parse_settings(method, options.set or []), preset=options.preset)
    asked = OBJECTIVES.get(options.objective) if options.objective else None
    problem = problems.load(options)
    n_edges = problem.model.graph.n_edges
    if options.top is not None and options.top > n_edges:
        raise SpecError(f"--top {options.top}: the graph has {n_edges:,} edges.")
    objective = asked or OBJECTIVES.get(problem.objective)
    reference = problem.reference(ablation)
    reason = undefined(method, ablation, objective, problem, reference)
    if reason:
        raise Undefined(f"{reason}.")
    if sys.stderr.isatty():  # for somebody who waits; a script is told how it ended, and no more
        note(
            f"{method.name} on {problem.model_name}: {problem.model.graph}, {problem.data.n} prompts, {ablation}, "
            f"{objective.name}"
        )
    try:
        found = method.discover(
            problem.model,
            problem.data,
            ablation=ablation,
            objective=objective,
            seed=options.seed,
            truth=reference,
            **parameters,
        )
    except CircuitMeterError:
        raise
    except Exception as error:
        if not names.is_file(options.method):
            raise
        # Whatever a user's function raises is the answer to give.
        raise MethodError(f"{method.name} raised {described(error)}.") from error
    circuit, rule = choose(found.scores, reference, options)
    meta = {
        "method": method.name,
        "method_version": method.version,
        "parameters": parameters,
        "ablation": str(ablation),
        "objective": None if method.objectives is None else objective.name,
        "seed": options.seed,
        "task": problem.name,
        "model": problem.model_name,
        "model_hash": problem.model.weights_hash,
        "split": problem.split,
        "data_hash": problem.data.hash,
        "positions": problem.model.config.positions,
        "rule": rule,
    }
    d_model = problem.model.config.d_model
    save(options.out, circuit, found.scores, d_model=d_model, meta=meta, format=options.format)
    print(
        f"{circuit.n_edges:,} of {circuit.graph.n_edges:,} edges ({rule}), {circuit.pruned().n_edges:,} without dead "
        f"ends: {options.out}"
    )
    return 0


def undefined(
    method: Method, ablation: Ablation, objective: Objective, problem: Problem, reference: Reference | None
) -> str | None:
    """Why this combination has no meaning; ``None`` when it has one."""
    if "truth" in method.needs and reference is None:
        return f"{method.name} needs a certified circuit, and {problem.name} has none under {ablation}"
    used = None if method.objectives is None else objective
    return method.undefined(ablation, used, problem.data, problem.model.config)


def choose(scores: EdgeScores, reference: Reference | None, options: argparse.Namespace) -> tuple[Circuit, str]:
    """The circuit of the size asked for, and the rule in words."""
    from ..circuit import threshold as at_threshold
    from ..circuit import top_n

    n_edges = scores.graph.n_edges
    if options.threshold is not None:
        return at_threshold(scores, options.threshold), f"threshold {options.threshold:g}"
    if options.top is not None:
        return top_n(scores, options.top), f"top {options.top}"
    if options.fraction is None and reference is not None:
        size = int(reference.core.sum())
        return top_n(scores, size), f"top {size}, the size of the certified circuit"
    share = DEFAULT_FRACTION if options.fraction is None else options.fraction
    size = max(1, round(share * n_edges))
    return top_n(scores, size), f"top {size}, a fraction of {share:g}"
