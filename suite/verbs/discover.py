"""``circuitmeter discover``: one method, one model, one circuit file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CircuitMeterError, DataError, MethodError, SpecError, Undefined
from ..users_line import raised, refused
from .arguments import (
    SELECTION_HELP,
    SELECTION_NAMES,
    add_computing,
    add_problem,
    add_prompts,
    add_several,
    add_split,
    add_yes,
    fraction,
    positive_number,
    score_threshold,
)
from .dictionaries import add_dictionary
from .output import refuse_missing, refuse_unwritable

if TYPE_CHECKING:
    from ..circuit import Circuit, Discovery, EdgeScores, Reference
    from ..interchange import Origin
    from ..intervention.ablation import Ablation
    from ..intervention.objective import Objective
    from ..methods import Method
    from ..methods.cost import Cost
    from ..model.transformer import Transformer
    from ..plan.speed import Forecast
    from ..plan.subject import Subject
    from ..run.kept_sums import KeptSums

NAME = "discover"
HELP = "Run one method on one model and write the circuit it finds."
EPILOG = (
    "The file is the EAP-IG / MIB graph JSON with one more key, or with --format a list of edges under another tool's "
    "names; `circuitmeter evaluate` reads them all. Interrupted or killed, the same command of a gradient method goes "
    "on behind the last part that was finished; the file beside --out that ends in .partial holds what is. On a CPU a "
    "part is so many prompts as take some ten seconds of an idle core, or --set batch_size=N of them."
)
_DEFAULT_FRACTION = 0.05
RULE_IN_WORDS = {
    "confident": "95 % bootstrap interval excludes 0",
    "null": "above the largest under random signs in 95 %",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    about = parser.add_argument_group("the model and the prompts")
    add_problem(about)
    add_dictionary(about, choosing=True)
    about.add_argument(
        "--by-position",
        action="store_true",
        help="tell edges apart by position, such as a0.h1->a2.h3<v>@3, where all prompts have one length; a method "
        "that knows no positions gives an edge its score at all of them",
    )
    add_split(about, "train")
    add_prompts(about)
    search = parser.add_argument_group("the search")
    search.add_argument(
        "--method",
        required=True,
        metavar="NAME|FILE.py:FUNCTION",
        help="a method (`circuitmeter list methods`) or a function of yours",
    )
    search.add_argument(
        "--ablation",
        metavar="A",
        default="patch",
        help="what a cut edge carries (`circuitmeter list ablations`; default: patch)",
    )
    search.add_argument(
        "--objective",
        metavar="O",
        help="what the method optimises (default: the task's; for --data logit-difference, log-probability-difference "
        "where an answer has several tokens, or kl without answers)",
    )
    add_several(
        search, "--set", "KEY=VALUE", "a parameter of the method, such as steps=5; typed as the method's own default is"
    )
    search.add_argument("--preset", metavar="NAME", help="a named set of the method's parameters, before --set")
    search.add_argument(
        "--avoid",
        metavar="CIRCUIT.json",
        type=Path,
        help="a circuit that the one to be found shall share little with, for methods that train masks; how much that "
        "counts: --set avoid_weight=1.04",
    )
    edges = parser.add_argument_group("which edges are kept")
    size = edges.add_mutually_exclusive_group()
    size.add_argument(
        "--top", type=positive_number, metavar="N", help="keep the N edges with the largest absolute scores"
    )
    size.add_argument(
        "--fraction",
        type=fraction,
        metavar="F",
        help="keep this fraction of all edges; without any size: as many edges as the certified circuit has, where one "
        f"is known, and else the fraction {_DEFAULT_FRACTION}",
    )
    size.add_argument(
        "--threshold", type=score_threshold, metavar="T", help="keep the edges whose absolute score is at least T"
    )
    edges.add_argument(
        "--selection",
        choices=(*SELECTION_NAMES, *RULE_IN_WORDS),
        default="top-n",
        help=f"how edges are chosen: {SELECTION_HELP}; or, without a size and from the scores of each prompt, "
        "confident (the bootstrap interval of the score excludes 0) or null (above what "
        "random signs of the prompts' scores give the best edge) (default: top-n)",
    )
    written = parser.add_argument_group("what is written")
    written.add_argument("--out", required=True, metavar="circuit.json", type=Path, help="where the circuit is written")
    written.add_argument(
        "--format",
        choices=("eap-ig", "auto-circuit", "acdc", "mib"),
        default="eap-ig",
        help="whose: the graph JSON of EAP-IG and MIB (default), or the edge names of auto-circuit or ACDC, with the "
        "scores in our key",
    )
    add_yes(add_computing(parser))


def run(options: argparse.Namespace) -> int:
    refuse_missing(options.data, options.avoid)
    refuse_unwritable(options.out)
    from ..interchange import save
    from ..intervention.ablation import Ablation
    from ..intervention.objective import OBJECTIVES
    from ..plan import names
    from . import dictionaries, subjects
    from .output import note
    from .settings import parse_settings

    ablation = Ablation.parse(options.ablation)
    method = names.callable_method(options.method)
    parameters = method.resolve(parse_settings(method, options.set or []), preset=options.preset)
    asked = OBJECTIVES.get(options.objective) if options.objective else None
    books = dictionaries.read_dictionaries(options.dictionary, options.top_features)
    if books and options.format not in ("eap-ig", "mib"):
        raise SpecError(f"--format {options.format} has no names for features; leave it out with --dictionary.")
    if books and options.by_position:
        raise SpecError("--by-position is for heads and MLPs; leave it out with --dictionary.")
    check_selection(options, method)
    if options.avoid is not None:
        check_avoids(method, parameters)
    on = subjects.outlined(options, prompts=options.prompts)
    on = subjects.at_positions(on) if options.by_position else on
    objective = asked or OBJECTIVES.get(on.task.objective)
    if options.avoid is not None:
        parameters = parameters | {"avoid": edges_of(options.avoid, on.model)}
    if not books:
        check_expressible(options, on.model)
    if reason := undefined(method, ablation, objective, on, on.reference(ablation)):
        raise Undefined(f"{reason}.")
    on = subjects.with_model_loaded(on, options)  # what can be refused without them is refused by now
    on = dictionaries.choosing(
        on, books, options.top_features, ablation=ablation, objective=objective, seed=options.seed
    )
    if books:
        check_expressible(options, on.model)
    reference = on.reference(ablation)
    if reason := undefined(method, ablation, objective, on, reference):  # a graph of features has no certified circuit
        raise Undefined(f"{reason}.")
    if sys.stderr.isatty():  # for somebody who waits; a script is told how it ended, and no more
        note(f"{method.name} on {on.model_source}: {on.model.graph}, {on.data.n} prompts, {ablation}, {objective.name}")
    in_parts = parameters | batch_size_chosen(method, on, parameters, ablation)
    forecast = allowed(method, on, in_parts, options)
    # Behind the estimate, because the model's hash reads all weights.
    origin = origin_of(method, on, ablation, objective, parameters, options.seed)
    found = search(method, on, ablation, objective, reference, in_parts, origin, options, forecast)
    if options.selection in RULE_IN_WORDS:
        circuit, rule = beyond_chance(method, on, ablation, objective, parameters, options)
    else:
        circuit, rule = circuit_asked_for(found.scores, reference, options)
    d_model = on.model.config.d_model
    save(
        options.out,
        circuit,
        found.scores,
        d_model=d_model,
        origin=origin.model_copy(update={"rule": rule}),
        format=options.format,
    )
    whole = circuit.pruned().n_edges
    print(
        f"{circuit.n_edges:,} of {circuit.graph.n_edges:,} edges ({rule}), {whole:,} without dead ends: {options.out}"
    )
    if circuit.n_edges and not whole:
        note(no_path(options.by_position))
    return 0


def no_path(by_position: bool) -> str:
    """Why all edges of a circuit are dead ends, and what to do."""
    text = "No path of these edges leads from the inputs to the logits, so the circuit does nothing: "
    if by_position:
        text += "each is at one position, and a path needs one into each position that it goes through. "
    else:
        text += "the edges with the largest scores do not meet. "
    return f"{text}Take more edges (--top N), or --selection greedy, which grows the circuit back from the logits."


def check_avoids(method: Method, parameters: Mapping[str, Any]) -> None:
    """Raises SpecError for a method that can avoid no circuit, or one that was told of another."""
    from ..methods import METHODS

    if "avoid" not in method.parameters:
        able = ", ".join(name for name in METHODS if "avoid" in METHODS.get(name).parameters)
        raise SpecError(f"--avoid is for methods that train masks ({able}); {method.name} trains none.")
    if parameters["avoid"]:
        raise SpecError("a circuit to avoid is given twice; leave --avoid or --set avoid=... out.")


def edges_of(path: Path, model: Transformer) -> list[str]:
    """The names of the edges of a circuit file, on a model's graph. Raises DataError for an empty one."""
    from ..interchange import read

    names = read(path).on(model.graph, learned_positions=model.config.positions == "learned").circuit.names
    if not names:
        raise DataError(f"{path} has no edge, so there is nothing to avoid.")
    return names


def check_expressible(options: argparse.Namespace, model: Transformer) -> None:
    """Raises SpecError for more edges than the graph has, and for a format that has no names for its edges."""
    from ..interchange import says_all
    from ..model.position_graph import PositionGraph

    n_edges = model.graph.n_edges
    if options.top is not None and options.top > n_edges:
        raise SpecError(f"--top {options.top}: the graph has {n_edges:,} edges.")
    if isinstance(model.graph, PositionGraph) and options.format != "eap-ig":
        raise SpecError(f"--format {options.format} has no names for edges at single positions; leave it out.")
    if not says_all(options.format, model.graph, model.config.positions == "learned"):
        raise SpecError(
            f"--format {options.format} has no equal for most circuits of a graph with inputs="
            f"{model.graph.inputs}; give --inputs sum where the model takes it, or --format eap-ig."
        )


def origin_of(
    method: Method,
    on: Subject,
    ablation: Ablation,
    objective: Objective,
    parameters: Mapping[str, Any],
    seed: int,
) -> Origin:
    """Where the circuit comes from, as its file says it."""
    from ..interchange import Origin
    from ..json_model import plain

    return Origin(
        method=method.name,
        method_version=method.version,
        parameters=plain(parameters),
        ablation=str(ablation),
        objective=None if method.objectives is None else objective.name,
        seed=seed,
        task=on.task.name,
        model=on.model_source,
        model_hash=on.model.weights_hash,
        split=on.split,
        data_hash=on.data.hash,
        positions=on.model.config.positions,
    )


def batch_size_chosen(method: Method, on: Subject, parameters: Mapping[str, Any], ablation: Ablation) -> dict[str, int]:
    """The batch size of a search that sums over batches, where nobody gave one and it changes no score beyond rounding:
    of such a size that a part is kept every half minute or so. Empty for any other search."""
    from ..plan.parts import prompts_of_a_part, sums_gradients

    cost = method.cost_of(on.model.graph, on.data.n, parameters)
    free = parameters.get("batch_size") == 0 and "batch_size" in method.cost_only_under(ablation)
    if not free or cost is None or not sums_gradients(cost):
        return {}
    return {"batch_size": prompts_of_a_part(cost.with_runs(on.data.n_runs / on.data.n), on.model, on.data)}


def allowed(method: Method, on: Subject, parameters: Mapping[str, Any], options: argparse.Namespace) -> Forecast | None:
    """What the search will take, said where it is worth saying; ``None`` where the method does not declare it.

    Raises:
        SpecError: it takes more than ten minutes, and ``--yes`` was not given; more memory than there is.
    """
    from ..plan.speed import Speed
    from .costs import NEGLIGIBLE_SECONDS, allow, memory_words, most_prompts, refuse_memory

    def cost_on(prompts: int) -> Cost | None:
        cost = method.cost_of(on.model.graph, prompts, parameters)
        return cost and cost.with_runs(on.data.n_runs / on.data.n)

    def seconds_on(prompts: int) -> float:
        fewer = cost_on(prompts)
        return float("inf") if fewer is None else speed.seconds(fewer)

    cost = cost_on(on.data.n)
    if cost is None:
        return None
    speed = Speed(on.model, on.data, NEGLIGIBLE_SECONDS)
    forecast = speed.forecast(cost, parameters.get("batch_size") or 0)
    what = f"{method.name} on {on.data.n} prompts and {on.model.graph.n_edges:,} edges"
    if not options.memory:  # layers are spread over places with memory of their own
        smaller = [f"fewer {name}" for name in ("targets", "regularisations", "samples") if name in parameters]
        smaller += ["a smaller batch_size"] if "batch_size" in parameters else []
        refuse_memory(what, forecast, on.model.device, " or ".join([*smaller, "fewer prompts (--prompts N)"]))
    allow(
        what,
        forecast.seconds,
        options.yes,
        busy=forecast.busy,
        detail=memory_words(forecast),
        less="fewer prompts (--prompts N) or another method",
        fits=lambda: most_prompts(on.data.n, seconds_on),
    )
    return forecast


def search(
    method: Method,
    on: Subject,
    ablation: Ablation,
    objective: Objective,
    reference: Reference | None,
    parameters: Mapping[str, Any],
    origin: Origin,
    options: argparse.Namespace,
    forecast: Forecast | None,
) -> Discovery:
    """What the method finds; finished batches are kept beside ``--out`` on the way. Where memory runs out, the search
    is done again with fewer prompts at a time, if their number changes no score.

    Args:
        parameters: with the batch size that is used. Batches of another size are not those that are kept.

    Raises:
        MethodError: whatever a user's function raises.
    """
    from ..methods.partial import kept_by
    from ..plan import names
    from ..plan.parts import sums_gradients
    from ..run.kept_sums import KeptSums, SearchIdentity
    from ..run.memory import with_less
    from ..run.watch import watched
    from ..store.keys import KEY_VERSION
    from .costs import Watch
    from .output import keeping, note
    from .subjects import warn

    asked = int(parameters.get("batch_size") or 0)
    sums = sums_gradients(method.cost_of(on.model.graph, on.data.n, parameters))
    path = options.out.with_name(f"{options.out.name}.partial")
    passes = None if forecast is None else forecast.passes

    def run(prompts: int) -> Discovery:
        """The search; with so many prompts at a time instead of those asked for, unless it is 0."""
        size = prompts or asked
        searched = origin.model_copy(update={"parameters": {**(origin.parameters or {}), "batch_size": size}})
        identity = SearchIdentity(
            origin=searched,
            graph=on.model.graph.hash,
            dtype=str(on.model.dtype),
            tf32=options.tf32,
            key_version=KEY_VERSION,
        )
        kept = KeptSums(path, identity)
        if kept.found:
            note(f"going on from {path}: {kept.found} batches of prompts are finished.")
        left_behind = partial(_left_behind, kept, method, min(size, on.data.n) if sums else 0)
        with keeping(left_behind), watched(method.name, passes), kept_by(kept):
            found = method.discover(
                on.model,
                on.data,
                ablation=ablation,
                objective=objective,
                seed=options.seed,
                truth=reference,
                **({**parameters, "batch_size": prompts} if prompts else parameters),
            )
        kept.remove()
        return found

    warn(on)
    watch = Watch(on.model.device)
    try:
        fixed = names.is_users(options.method) or "batch_size" not in method.cost_only_under(ablation)
        found = run(0) if fixed else with_less(run, on, method.name, asked)
    except Undefined:
        raise
    except CircuitMeterError as error:
        if names.is_users(options.method):
            raise MethodError(refused(error)) from error
        raise
    except Exception as error:
        if not names.is_users(options.method):
            raise
        # Whatever a user's function raises is the answer to give.
        raise MethodError(f"{method.name} raised {raised(error)}.") from error
    if forecast is not None:
        watch.took(forecast.seconds)
    return found


def _left_behind(kept: KeptSums, method: Method, size: int) -> str:
    """What an interrupted search leaves behind, in words.

    Args:
        size: prompts of a part; 0 where none is kept, or their number is not known.
    """
    if kept.path.exists():
        return f"the batches that are finished are in {kept.path}, and the same command goes on behind them"
    of = f" ({size} prompts; --set batch_size=N makes it smaller)" if size > 1 else " (one prompt)" * size
    return f"nothing of it is kept: {method.name} had finished no part{of} that it could go on from"


def undefined(
    method: Method, ablation: Ablation, objective: Objective, on: Subject, reference: Reference | None
) -> str | None:
    """Why this combination has no meaning; ``None`` when it has one."""
    if "truth" in method.needs and reference is None:
        return f"{method.name} needs a certified circuit, and {on.task.name} is not certified under {ablation}"
    used = None if method.objectives is None else objective
    return method.undefined(ablation, used, on.data, on.model.config)


def circuit_asked_for(
    scores: EdgeScores, reference: Reference | None, options: argparse.Namespace
) -> tuple[Circuit, str]:
    """The circuit of the size asked for, and the rule in words."""
    from ..circuit import threshold as at_threshold
    from ..selection import SELECTIONS as RULES

    select, name = RULES[options.selection], "top" if options.selection == "top-n" else options.selection
    n_edges = scores.graph.n_edges
    if options.threshold is not None:
        return at_threshold(scores, options.threshold), f"threshold {options.threshold:g}"
    if options.top is not None:
        return select(scores, options.top), f"{name} {options.top}"
    if options.fraction is None and reference is not None:
        size = reference.size
        return select(scores, size), f"{name} {size}, the size of the certified circuit"
    share = _DEFAULT_FRACTION if options.fraction is None else options.fraction
    size = max(1, round(share * n_edges))
    return select(scores, size), f"{name} {size}, a fraction of {share:g}"


def check_selection(options: argparse.Namespace, method: Method) -> None:
    """Raises SpecError for a size where the rule has its own, Undefined for a method without scores of each prompt."""
    sized = options.top is not None or options.fraction is not None or options.threshold is not None
    if options.selection in RULE_IN_WORDS and sized:
        raise SpecError(
            f"--selection {options.selection} finds its own size; leave --top, --fraction, --threshold out."
        )
    if options.selection in RULE_IN_WORDS and not method.per_prompt:
        raise Undefined(
            f"{method.name} has no scores of each prompt, so --selection {options.selection} has no meaning."
        )
    if options.selection != "top-n" and options.threshold is not None:
        raise SpecError(f"--threshold keeps all edges that reach it; leave --selection {options.selection} out.")


def beyond_chance(
    method: Method,
    on: Subject,
    ablation: Ablation,
    objective: Objective,
    parameters: Mapping[str, Any],
    options: argparse.Namespace,
) -> tuple[Circuit, str]:
    """The edges that chance does not explain, and the rule in words. Raises Undefined for one prompt."""
    from ..selection import BY_PROMPT, circuit_of

    if on.data.n < 2:
        raise Undefined("one prompt says nothing of chance; give two at least, or another --selection.")
    given = {"ablation": ablation, "objective": objective, "seed": options.seed, **parameters}
    by_prompt = method.scores_by_prompt(on.model, on.data, **given).numpy()
    chosen = BY_PROMPT[options.selection](by_prompt, seed=options.seed)
    return circuit_of(on.model.graph, chosen), RULE_IN_WORDS[options.selection]
