"""``circuitmeter sensitivity``: how much the verdict on a circuit depends on the analyst's choices."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import LONGEST_LINE, SpecError, Undefined
from .arguments import (
    add_computing,
    add_json,
    add_problem,
    add_split,
    add_yes,
    positive_number,
    score_threshold,
    whole_number,
)
from .dictionaries import add_dictionary
from .factors import add_factors, settings

if TYPE_CHECKING:
    from ..interchange import Origin
    from ..intervention.setting import Setting
    from ..methods.cost import Cost
    from ..plan.subject import Subject
    from ..scoring.sensitivity.card_model import Search, SensitivityCard

NAME = "sensitivity"
HELP = "Measure a circuit file in every meaningful setting, and say how much the verdict depends on which is chosen."
EPILOG = (
    "All levels of all factors are crossed; combinations without a meaning are listed with the reason. Of several "
    "circuits the card compares the ranks. Where the circuit itself is cut (--cut circuit), 1 - faithfulness is shown, "
    "so that 1 speaks for the circuit in every setting."
)
RENAMED = {"--set": "--cut"}
_ABLATIONS = ("patch", "resample", "mean", "mean-positional", "zero")
DEFAULTS = {
    "component": ("edge", "node"),
    "direction": ("noising", "denoising"),
    "aggregation": ("ratio-of-means", "median-of-ratios"),
    "reference": ("none", "corrupted-run", "cut-graph"),
}
# After the task's own, of those that have a meaning.
OBJECTIVES_AFTER = ("kl", "logit-difference", "probability-difference", "l2")
MOST_OBJECTIVES = 3
FEWER_RANDOM = 20  # with which a circuit can still be above 95 % of them
FEWER_LEVELS = {"component": ("edge",), "ablation": ("patch", "mean", "zero")}
WORST = 10
"""Settings that are printed; the files hold all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "circuits",
        metavar="CIRCUIT.json",
        nargs="+",
        type=Path,
        help="circuits: graph JSONs of EAP-IG, MIB or ours, edge names of auto-circuit, or edge lists of ACDC",
    )
    about = parser.add_argument_group("the model and the prompts")
    add_problem(about)
    add_dictionary(about, choosing=False)
    add_split(about, "test")
    about.add_argument(
        "--prompts", type=positive_number, default=100, metavar="N", help="prompts, drawn by the seed (default: 100)"
    )
    grid = parser.add_argument_group("the settings in which it is measured")
    add_factors(
        grid,
        ablation=", ".join(_ABLATIONS),
        objective="the task's, and two of " + ", ".join(OBJECTIVES_AFTER),
        **{factor: " ".join(levels) for factor, levels in DEFAULTS.items()},
    )
    grid.add_argument(
        "--weight",
        nargs=3,
        action="append",
        default=[],
        metavar=("FACTOR", "LEVEL", "W"),
        help="how much a level counts beside the others of its factor, each of which counts 1; may be repeated",
    )
    parser.add_argument(
        "--threshold",
        type=score_threshold,
        default=0.8,
        metavar="T",
        help="the faithfulness from which the circuit would be called faithful (default: 0.8)",
    )
    parser.add_argument(
        "--random",
        type=whole_number,
        default=100,
        metavar="N",
        help="random connected circuits of the same size to compare with (default: 100; 0 for none)",
    )
    grid.add_argument(
        "--pairings",
        type=positive_number,
        default=3,
        metavar="N",
        help="seeds with which resample and noise are run (default: 3)",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        help="where card.json, settings.csv and the figure are written (default: CIRCUIT-card beside the first)",
    )
    parser.add_argument("--all", action="store_true", help="print every setting, share and reversal, not the ten worst")
    add_json(parser)
    add_yes(add_computing(parser))


def run(options: argparse.Namespace) -> int:
    from ...reports.card.figure import draw_card
    from ...reports.card.files import write_card
    from ...reports.card.tables import share_table, value_table, verdict_table
    from ...reports.card.words import paragraph
    from ..interchange import read
    from . import dictionaries, subjects
    from .output import make_folder, note, print_json, refuse_folder

    names = named(options.circuits)
    edges, books = [read(path) for path in options.circuits], dictionaries.read_dictionaries(options.dictionary)
    defaults: dict[str, Sequence[str]] = {**DEFAULTS, "ablation": _ABLATIONS, "objective": OBJECTIVES_AFTER}
    settings(options, **defaults)  # a wrong level is refused before anything is loaded
    out = options.out or options.circuits[0].with_name(f"{options.circuits[0].stem}-card")
    refuse_folder(out)
    on = subjects.outlined(options, inputs=edges[0].inputs)
    on = subjects.of_positions(dictionaries.of_circuits(on, books, edges), edges)
    learned = on.model.config.positions == "learned"
    files = [file.on(on.model.graph, learned_positions=learned) for file in edges]
    circuits = [file.circuit for file in files]
    for file, path in zip(files, options.circuits, strict=True):
        subjects.note_in_sample(file.origin, on, path)
        for text in file.notes:
            note(text)
    defaults["objective"] = default_objectives(on)
    chosen = settings(options, **defaults)
    weights = level_weights(options.weight, chosen)
    subjects.refuse_undefined(chosen, on)
    on = subjects.with_model_loaded(on, options)
    card = sensitivity_card(options, on, dict(zip(names, circuits, strict=True)), chosen, weights)
    found = [
        verdict.model_copy(update={"search": searched(file.origin)})
        for verdict, file in zip(card.circuits, files, strict=True)
    ]
    card = card.model_copy(update={"circuits": tuple(found)})
    card = card.model_copy(update={"paragraph": paragraph(card)})
    values = value_table(card)
    figure = draw_card(values, share_table(card), verdict_table(card), card.settings.varying)
    make_folder(out)
    write_card(card, figure, out, values)
    if options.json:
        print_json(card.as_json())
    else:
        _print(card, out, options.all)
        print(f"\n{out}: card.json, settings.csv, card.pdf, card.svg, card.png")
    return 0


def named(paths: Sequence[Path]) -> list[str]:
    """What each circuit is called: its file's name, with as many of its folders as tell the files apart."""
    files = [path.resolve() for path in paths]
    if len(set(files)) < len(files):
        raise SpecError("a circuit file is given twice; name each once.")
    bare = [file.with_suffix("") for file in files]
    whole = [file.parts for file in (bare if len(set(bare)) == len(bare) else files)]
    for n in range(1, max(map(len, whole)) + 1):
        names = ["/".join(parts[-n:]) for parts in whole]
        if len(set(names)) == len(names):
            break
    return names


def searched(origin: Origin) -> Search | None:
    """What a circuit's file says of how it was found; None where it does not name the method."""
    from ..scoring.sensitivity.card_model import Search

    said = {
        name: value
        for name in Search.model_fields
        if (value := getattr(origin, name)) and value.isprintable() and len(value) <= LONGEST_LINE
    }
    return Search(**said) if "method" in said else None


def default_objectives(on: Subject) -> list[str]:
    """The task's objective and the first others that have a meaning."""
    from ..intervention.objective import OBJECTIVES

    found = [on.task.objective]
    for name in OBJECTIVES_AFTER:
        if name not in found and OBJECTIVES.get(name).undefined(on.data, on.model.config) is None:
            found.append(name)
    return found[:MOST_OBJECTIVES]


def level_weights(given: Sequence[Sequence[str]], chosen: Sequence[Setting]) -> dict[str, dict[str, float]]:
    """``--weight`` as a mapping. Raises SpecError for a factor or level that is not asked for, or no number."""
    from ..intervention.levels import FACTORS
    from ..scoring.sensitivity.design import Design

    weights: dict[str, dict[str, float]] = {}
    for factor, level, weight in given:
        try:
            weights.setdefault(factor, {})[level] = float(weight)
        except ValueError:
            raise SpecError(f"--weight {factor} {level} {weight}: {weight!r} is not a number.") from None
    Design.of(FACTORS, [[setting.level(factor) for factor in FACTORS] for setting in chosen], weights)
    return weights


def sensitivity_card(
    options: argparse.Namespace,
    on: Subject,
    circuits: Mapping[str, Any],
    chosen: Sequence[Setting],
    weights: Mapping[str, Mapping[str, float]],
) -> SensitivityCard:
    """The card without its paragraph. Raises Undefined where no setting has a meaning."""
    from circuitmeter import __version__

    from ..plan.speed import Speed
    from ..run.memory import measure_with_less
    from ..run.watch import watched
    from ..scoring.sensitivity.card import grid_verdicts
    from ..scoring.sensitivity.card_model import SensitivityCard
    from ..scoring.sensitivity.estimate import estimate
    from ..scoring.sensitivity.measure import measure_grid
    from .costs import NEGLIGIBLE_SECONDS, Watch, allow
    from .subjects import warn

    data = drawn_prompts(on.data, options.prompts, options.seed)
    asked = replace(on, data=data)
    work = CardWork(tuple(chosen), data.n, options.random, options.pairings)
    cost = work.cost(asked, len(circuits))
    speed = Speed(on.model, data, NEGLIGIBLE_SECONDS)
    forecast = speed.forecast(cost)
    meant = sum(each.undefined(data, on.model) is None for each in chosen)
    allow(
        f"{meant} settings on {data.n} prompts",
        forecast.seconds,
        options.yes,
        busy=forecast.busy,
        less="fewer --prompts, --random or levels",
        fits=lambda: work.that_fits(lambda fewer: speed.seconds(fewer.cost(asked, len(circuits)))),
    )
    warn(asked)
    watch = Watch(on.model.device)
    with watched("sensitivity", cost.passes):
        grid = measure_grid(
            on.model,
            data,
            list(circuits.values()),
            chosen,
            n_random=options.random,
            n_pairings=options.pairings,
            seed=options.seed,
            measure=partial(measure_with_less, asked, "sensitivity"),
        )
    watch.took(forecast.seconds)
    if not grid.cells:
        raise Undefined(f"{next(iter(grid.undefined.values()))}.")
    estimates = estimate(grid, seed=options.seed)
    given = {"threshold": options.threshold, "level_weights": weights, "seed": options.seed}
    found = grid_verdicts(grid, estimates, list(circuits), **given)
    of_files = tuple(
        verdict.model_copy(update={"file": str(path), "edges": circuit.n_edges})
        for verdict, path, circuit in zip(found.circuits, options.circuits, circuits.values(), strict=True)
    )
    return SensitivityCard(
        version=__version__,
        task=on.task.name,
        task_description=on.task.description,
        model=on.model_source,
        model_hash=on.model.weights_hash,
        split=on.split,
        data_hash=data.hash,
        n_edges=on.model.graph.n_edges,
        seed=options.seed,
        random=options.random,
        pairings=options.pairings,
        **dict(found) | {"circuits": of_files},
    )


@dataclass(frozen=True)
class CardWork:
    """What is measured: settings, and how many prompts, random circuits and seeds of a random ablation."""

    settings: tuple[Setting, ...]
    prompts: int
    random: int
    pairings: int

    def cost(self, on: Subject, circuits: int) -> Cost:
        """What it costs, where ``on`` may have more prompts; all of them are taken to have as many runs."""
        from .costs import cost_of

        found = cost_of(self.settings, on, circuits, random=self.random, pairings=self.pairings)
        return found * (self.prompts / on.data.n)

    def that_fits(self, seconds_of: Callable[[CardWork], float]) -> tuple[str, float] | None:
        """The first options that make it short enough, and the seconds that it takes with them; None for none.

        Each step keeps what those before it left out: first random circuits, then nodes, then all but three ablations,
        and at last prompts.
        """
        from .costs import LONG_SECONDS, most_prompts

        def said(options: Mapping[str, str]) -> str:
            return " ".join(f"{flag} {value}" for flag, value in options.items())

        work, options = self, dict[str, str]()
        for random in (FEWER_RANDOM, 0):
            if random < work.random:
                work, options["--random"] = replace(work, random=random), str(random)
                if (seconds := seconds_of(work)) <= LONG_SECONDS:
                    return said(options), seconds
        for factor, levels in FEWER_LEVELS.items():
            settings = tuple(each for each in work.settings if each.level(factor) in levels)
            if settings and len(settings) < len(work.settings):
                there = {each.level(factor) for each in settings}
                options[f"--{factor}"] = " ".join(level for level in levels if level in there)
                work = replace(work, settings=settings)
                if (seconds := seconds_of(work)) <= LONG_SECONDS:
                    return said(options), seconds
        found = most_prompts(self.prompts, lambda n: seconds_of(replace(work, prompts=n)))
        return found and (f"{said(options)} {found[0]}".strip(), found[1])


def drawn_prompts(data: Any, n: int, seed: int) -> Any:
    """``n`` prompts drawn by the seed, in their order; all where there are no more."""
    import torch

    if data.n <= n:
        return data
    drawn = torch.randperm(data.n, generator=torch.Generator().manual_seed(seed))[:n]
    return data.select(drawn.sort().values)


def _print(card: SensitivityCard, out: Path, every: bool) -> None:
    """The card for a terminal: its summary, the paragraph for a paper, and the worst settings; all with ``every``."""
    from ...reports.card.tables import card_tables
    from ...reports.card.words import in_short
    from .output import print_table, print_wrapped

    for line in in_short(card):
        print_wrapped(line)
    print()
    print_wrapped(card.paragraph)
    (title, columns, rows), *others = card_tables(card)
    print(f"\n{title if every else f'the {min(WORST, len(rows))} worst of {title}'}")
    print_table(columns, rows if every else rows[:WORST])
    for name, columns, rows in others if every else ():
        print(f"\n{name}")
        if rows:
            print_table(columns, rows)
    if not every and (len(rows) > WORST or others):
        print(f"\nAll settings, shares of the variance and what is undefined: --all, or {out / 'settings.csv'}.")
