"""``circuitmeter discover``: one method, one model, one circuit file."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CircuitMeterError, MethodError, SpecError
from ..users_line import raised
from .arguments import add_problem, add_prompts, add_several, add_split, fraction, positive_number, threshold

if TYPE_CHECKING:
    from ..circuit import Circuit, Discovery, EdgeScores, Reference
    from ..intervention.ablation import Ablation
    from ..intervention.objective import Objective
    from ..methods import Method
    from .problem import Problem

NAME = "discover"
HELP = "Run one method on one model and write the circuit it finds."
EPILOG = (
    "The file is the EAP-IG / MIB graph JSON with one more key, or with --format a list of edges under another tool's "
    "names; `circuitmeter evaluate` reads them all. Interrupted or killed, the same command of a gradient method goes "
    "on behind the last batch of prompts; the file beside --out that ends in .partial holds what is finished."
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
    add_prompts(parser)
    parser.add_argument("--out", required=True, metavar="circuit.json", type=Path, help="where the circuit is written")
    parser.add_argument(
        "--format",
        choices=("eap-ig", "auto-circuit", "acdc", "mib"),
        default="eap-ig",
        help="whose: the graph JSON of EAP-IG and MIB (default), or the edge names of auto-circuit or ACDC, with the "
        "scores in our key",
    )


def run(options: argparse.Namespace) -> int:
    from ..errors import Undefined
    from ..interchange import save, says_all
    from ..intervention.ablation import Ablation
    from ..intervention.objective import OBJECTIVES
    from ..plan import names
    from . import problem as problems
    from .output import note
    from .settings import parse_settings

    if not options.out.parent.is_dir() or options.out.is_dir():
        raise SpecError(f"cannot write {options.out}: it is a folder, or it lies in none; choose another --out.")
    ablation = Ablation.parse(options.ablation)
    method = names.method(options.method)
    parameters = method.resolve(parse_settings(method, options.set or []), preset=options.preset)
    asked = OBJECTIVES.get(options.objective) if options.objective else None
    problem = problems.load(options, prompts=options.prompts)
    n_edges = problem.model.graph.n_edges
    if options.top is not None and options.top > n_edges:
        raise SpecError(f"--top {options.top}: the graph has {n_edges:,} edges.")
    if not says_all(options.format, problem.model.graph, problem.model.config.positions == "learned"):
        raise SpecError(
            f"--format {options.format} has no equal for most circuits of a graph with inputs="
            f"{problem.model.graph.inputs}; give --inputs sum where the model takes it, or --format eap-ig."
        )
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
    }
    found = search(method, problem, ablation, objective, reference, parameters, meta, options)
    circuit, rule = choose(found.scores, reference, options)
    d_model = problem.model.config.d_model
    save(options.out, circuit, found.scores, d_model=d_model, meta=meta | {"rule": rule}, format=options.format)
    print(
        f"{circuit.n_edges:,} of {circuit.graph.n_edges:,} edges ({rule}), {circuit.pruned().n_edges:,} without dead "
        f"ends: {options.out}"
    )
    return 0


def search(
    method: Method,
    problem: Problem,
    ablation: Ablation,
    objective: Objective,
    reference: Reference | None,
    parameters: Mapping[str, Any],
    meta: Mapping[str, Any],
    options: argparse.Namespace,
) -> Discovery:
    """What the method finds; said beforehand what it takes, and finished batches kept beside ``--out`` on the way.

    Raises:
        SpecError: it takes more than ten minutes, and ``--yes`` was not given.
        MethodError: whatever a user's function raises.
    """
    from ..methods.partial import kept_by
    from ..plan import names
    from ..plan.speed import Speed
    from ..run.kept_sums import KeptSums
    from ..run.watch import watched
    from .costs import allow, memory_words, took
    from .output import note
    from .problem import warn

    kept = KeptSums(options.out.with_name(f"{options.out.name}.partial"), meta)
    cost = method.cost_of(problem.model.graph, problem.data.n, parameters)
    forecast = None
    if cost is not None:
        forecast = Speed(problem.model, problem.data).forecast(cost, parameters.get("batch_size") or 0)
        what = f"{method.name} on {problem.data.n} prompts and {problem.model.graph.n_edges:,} edges"
        less = "fewer prompts (--prompts N) or another method"
        allow(what, forecast.seconds, options.yes, detail=memory_words(forecast), less=less)
    warn(problem)
    if kept.found:
        note(f"going on from {kept.path}: {kept.found} batches of prompts are finished.")
    start = time.perf_counter()
    try:
        with watched(method.name, cost and cost.passes), kept_by(kept):
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
        raise MethodError(f"{method.name} raised {raised(error)}.") from error
    kept.remove()
    if forecast is not None:
        took(forecast.seconds, time.perf_counter() - start)
    return found


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
