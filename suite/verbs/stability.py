"""``circuitmeter stability``: does a method's circuit stay when prompts, templates, seeds or orders change?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SpecError, Undefined, unknown
from .arguments import (
    add_computing,
    add_json,
    add_problem,
    add_prompts,
    add_several,
    add_split,
    add_yes,
    fraction,
    positive_number,
)
from .output import refuse_missing

if TYPE_CHECKING:
    from ..intervention.ablation import Ablation
    from ..intervention.objective import Objective
    from ..methods import Method
    from ..plan.subject import Subject
    from ..scoring.structure.stability_card import StabilityCard
    from .stability_runs import MethodMeasured

NAME = "stability"
HELP = "Say how much of each method's circuit stays when its prompts, their order, or its seed change."
EPILOG = (
    "Prompts and templates are resampled from the scores of each prompt, in one pass; seeds, orders and parameters "
    "(the method's presets) are runs of their own. The Jaccard index of two circuits is the share of "
    "edges that both have among those that either has."
)
OVER = ("prompts", "templates", "seeds", "order", "parameters")
LEGEND = (
    "Jaccard: the mean over pairs of circuits, its 95 % interval (low, high), and the value that one pair in forty is "
    "below (2.5 %). rank: the correlation of scores with those of all prompts, among the circuit's edges. in 95 %, "
    "in 5 to 95 %: how many edges are in so many of the circuits. true edges: their share in the circuit, where one is "
    "certified. Below: differences in the Jaccard index."
)
"""What the columns of the terminal's table are."""
_DEFAULT_FRACTION = 0.1
_FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    about = parser.add_argument_group("the model and the prompts")
    add_problem(about)
    add_split(about, "train")
    add_prompts(about)
    search = parser.add_argument_group("the search")
    search.add_argument("--method", metavar="NAME|FILE.py:FUNCTION", nargs="+", required=True, help="one or several")
    search.add_argument("--ablation", metavar="A", default="patch", help="what a cut edge carries (default: patch)")
    search.add_argument("--objective", metavar="O", help="what methods optimise (default: the task's)")
    add_several(search, "--set", "METHOD:KEY=VALUE", "a parameter of a method, such as eap-ig:steps=30")
    parser.add_argument(
        "--resamples", type=positive_number, default=1000, metavar="N", help="bootstrap resamples (default: 1000)"
    )
    parser.add_argument(
        "--runs", type=positive_number, default=5, metavar="N", help="seeds and orders to run (default: 5)"
    )
    parser.add_argument(
        "--over",
        metavar="WHAT[,WHAT...]",
        default="prompts",
        help=f"what is changed, of {', '.join(OVER)} (default: prompts)",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--top", type=positive_number, metavar="N", help="the circuit's size in edges")
    size.add_argument(
        "--fraction",
        type=fraction,
        metavar="F",
        help="the circuit's size as a share of all edges (default: the size of the certified circuit where one is "
        f"known, else {_DEFAULT_FRACTION})",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="where card.json, card.pdf, card.svg, card.png are put"
    )
    add_json(parser)
    add_yes(add_computing(parser))


def run(options: argparse.Namespace) -> int:
    refuse_missing(options.data)
    from ...reports.card.files import write_card
    from ...reports.card.stability import stability_paragraph
    from ...reports.card.stability_figure import stability_figure
    from ..intervention.ablation import Ablation
    from ..intervention.objective import OBJECTIVES
    from ..plan import names
    from . import subjects
    from .discover import undefined
    from .output import make_folder, print_json, print_wrapped, refuse_folder

    over = changed(options.over)
    ablation = Ablation.parse(options.ablation)
    methods = {name: names.callable_method(name) for name in dict.fromkeys(options.method)}
    parameters = parameters_of(methods, options.set or ())
    asked = OBJECTIVES.get(options.objective) if options.objective else None
    if bootstrapped := [what for what in over if what in ("prompts", "templates")]:
        for name, method in methods.items():
            if not method.per_prompt:
                raise Undefined(
                    f"{name} has no scores of each prompt, so that {' and '.join(bootstrapped)} cannot be resampled; "
                    f"use --over seeds,order, or one of {', '.join(with_prompts())}."
                )
    on = subjects.outlined(options, prompts=options.prompts)
    if on.data.n < 2:
        raise Undefined(f"{on.task.name} has one prompt here; stability needs two at least.")
    objective = asked or OBJECTIVES.get(on.task.objective)
    sizes, main = sizes_of(on, ablation, options)
    for method in methods.values():
        if reason := undefined(method, ablation, objective, on, on.reference(ablation)):
            raise Undefined(f"{reason}.")
    refuse_folder(options.out)
    on = subjects.with_model_loaded(on, options)
    allow_searches(on, methods, parameters, ablation, over, options)
    subjects.warn(on)
    card = stability_card(options, on, methods, parameters, (ablation, objective), over, (sizes, main))
    card = card.but(paragraph=stability_paragraph(card))
    make_folder(options.out)
    write_card(card, stability_figure(card), options.out)
    if options.json:
        print_json(card.as_json())
    else:
        _print(card)
        print_wrapped(card.paragraph)
        print(f"\n{options.out}: card.json, card.pdf, card.svg, card.png")
    return 0


def changed(text: str) -> tuple[str, ...]:
    """``--over`` as a tuple. Raises SpecError for a word that means nothing."""
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for part in found or ("",):
        if part not in OVER:
            raise SpecError(unknown("--over", part, OVER))
    return found


def with_prompts() -> list[str]:
    """The methods that can give the scores of each prompt."""
    from ..methods import METHODS

    return sorted(name for name in METHODS if METHODS.get(name).per_prompt)


def parameters_of(methods: Mapping[str, Method], given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Each method's parameters: its defaults and what ``--set METHOD:KEY=VALUE`` says. Raises SpecError."""
    from .settings import parse_settings

    own: dict[str, list[str]] = {name: [] for name in methods}
    for setting in given:
        name, colon, rest = setting.rpartition(":") if setting.count(":") else ("", "", setting)
        if not colon and len(methods) == 1:
            name = next(iter(methods))
        if name not in own:
            raise SpecError(f"--set {setting}: write METHOD:KEY=VALUE, METHOD one of {', '.join(methods)}.")
        own[name].append(rest)
    return {name: method.resolve(parse_settings(method, own[name])) for name, method in methods.items()}


def sizes_of(on: Subject, ablation: Ablation, options: argparse.Namespace) -> tuple[list[int], int]:
    """(the sizes of the curve, the one that the card is about), in edges. Raises SpecError for one too large."""
    n_edges, truth = on.model.graph.n_edges, on.reference(ablation)
    if options.top is not None and options.top > n_edges:
        raise SpecError(f"--top {options.top}: the graph has {n_edges:,} edges.")
    main = options.top
    if main is None and options.fraction is None and truth is not None:
        main = truth.size
    main = main or max(1, round((options.fraction or _DEFAULT_FRACTION) * n_edges))
    return sorted({main, *(max(1, round(share * n_edges)) for share in _FRACTIONS)}), main


def allow_searches(
    on: Subject,
    methods: Mapping[str, Method],
    parameters: Mapping[str, Mapping[str, Any]],
    ablation: Ablation,
    over: Sequence[str],
    options: argparse.Namespace,
) -> None:
    """Says what all searches together will take, where it is worth saying; of methods that declare it.

    Raises:
        SpecError: it takes more than ten minutes, and ``--yes`` was not given.
    """
    from ..plan.speed import Speed
    from .costs import NEGLIGIBLE_SECONDS, allow, most_prompts
    from .stability_runs import rerun_with

    searches = [(method, parameters[name]) for name, method in methods.items()]
    for name, method in methods.items():
        for what in over:
            try:
                again = rerun_with(method, parameters[name], ablation, what, options.runs)
            except Undefined:  # the card says why
                continue
            searches += [(method, given) for given in again]
    speed = Speed(on.model, on.data, NEGLIGIBLE_SECONDS)

    def seconds_on(prompts: int) -> float:
        costs = [method.cost_of(on.model.graph, prompts, given) for method, given in searches]
        return sum(speed.seconds(cost.with_runs(on.data.n_runs / on.data.n)) for cost in costs if cost is not None)

    seconds = seconds_on(on.data.n)
    allow(
        f"stability of {', '.join(methods)} on {on.data.n} prompts and {on.model.graph.n_edges:,} edges",
        seconds,
        options.yes,
        busy=speed.busy,
        less="fewer prompts (--prompts N) or fewer runs (--runs N)",
        fits=lambda: most_prompts(on.data.n, seconds_on),
    )


def stability_card(
    options: argparse.Namespace,
    on: Subject,
    methods: Mapping[str, Method],
    parameters: Mapping[str, Mapping[str, Any]],
    search: tuple[Ablation, Objective],
    over: Sequence[str],
    size: tuple[Sequence[int], int],
) -> StabilityCard:
    """The card, without its paragraph."""
    from circuitmeter import __version__

    from ..plan import names
    from ..run.memory import with_less
    from ..scoring.structure.stability_card import StabilityCard
    from .stability_runs import method_stability, pairs_of_methods

    ablation, objective = search
    found, resamples = [], {}
    for done, (name, method) in enumerate(methods.items()):
        _progress(done, len(methods), name)

        def measure(_: int, name: str = name, method: Method = method) -> MethodMeasured:
            amounts = options.resamples, options.runs, options.seed
            return method_stability(on, name, method, parameters[name], search, over, size, amounts)

        # Where the number of prompts at a time would change a result, memory that runs out is an error.
        fixed = names.is_users(name) or ablation.over_batch or "batch_size" not in method.cost_only_under(ablation)
        fixed |= bool(parameters[name].get("batch_size"))
        entry, pairs = measure(0) if fixed else with_less(measure, on, f"stability of {name}")
        found.append(entry)
        resamples[name] = pairs
    _progress(len(methods), len(methods), "")
    return StabilityCard(
        version=__version__,
        task=on.task.name,
        model=on.model_source,
        model_hash=on.model.weights_hash,
        data_hash=on.data.hash,
        prompts=on.data.n,
        n_edges=on.model.graph.n_edges,
        ablation=str(ablation),
        objective=objective.name,
        resamples=options.resamples,
        runs=options.runs,
        seed=options.seed,
        over=tuple(over),
        size=size[1],
        methods=tuple(found),
        comparisons=pairs_of_methods(resamples, size),
    )


def _progress(done: int, of: int, name: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} of {of} methods {name:20}", end="\n" if done == of else "", file=sys.stderr, flush=True)


def _print(card: StabilityCard) -> None:
    """The card for a terminal: one row per method and change at the card's size, comparisons, and what is undefined."""
    from ...reports.page.table import with_interval
    from .output import print_table, print_wrapped, printable

    rows, reasons = [], []
    for entry in card.methods:
        for what, change in entry.over.items():
            if change.undefined is not None:
                reasons.append(f"{entry.method}, {what}: {change.undefined}")
                continue
            at = change.at(card.size)
            numbers = (at.jaccard, at.low, at.high, at.lowest, at.rank, at.always, at.sometimes)
            rows.append([entry.method, what, *numbers, entry.precision])
    on = f"{card.task}, {card.model}, {card.ablation}"
    print(f"circuits of {card.size} of {card.n_edges:,} edges; {on}")
    columns = ("method", "over", "Jaccard", "low", "high", "2.5 %", "rank", "in 95 %", "in 5 to 95 %", "true edges")
    print_table(columns, rows)
    print_wrapped(LEGEND)
    for each in card.comparisons:
        difference = with_interval(each.difference, each.low, each.high, 3, sign=True)
        print(printable(f"{each.first} - {each.second}: {difference}"))
    for reason in reasons:
        print(reason)
    print()
