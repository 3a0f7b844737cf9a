"""``circuitmeter evaluate``: how much of the model a circuit file explains, under each ablation and objective."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CircuitMeterError, DataError
from .arguments import (
    SELECTION_HELP,
    SELECTION_NAMES,
    add_computing,
    add_json,
    add_problem,
    add_prompts,
    add_split,
    add_yes,
    positive_number,
)
from .dictionaries import add_dictionary
from .factors import add_factors, settings
from .output import refuse_missing

if TYPE_CHECKING:
    from ..circuit import Circuit, Reference
    from ..interchange import CircuitFile
    from ..intervention.faithfulness import CircuitValues
    from ..intervention.setting import Cut, Setting
    from ..plan.subject import Subject

NAME = "evaluate"
HELP = "Measure a circuit file in every setting asked for, and against a certified truth."
EPILOG = (
    "Faithfulness is (circuit - nothing) / (full - nothing): 1 is the full model, 0 is what --reference says, the "
    "graph with every edge cut unless told otherwise; low and high are a 95 % interval over prompts; live is how many "
    "of the edges are on a path from an input node to the logits. With --cut circuit it is what is left without the "
    "circuit, and 0 is best. All levels of all factors are crossed. Of a "
    "circuit of features, features_alone and errors_alone say what it keeps without its error nodes, and without its "
    "features."
)
RENAMED = {"--against": "--truth", "--set": "--cut"}
_ALWAYS = ("ablation", "objective")
# Of the scores' recovery: what is about the circuit of the true size, and not about the file's own.
AT_TRUE_SIZE = ("precision", "recall", "f1", "exact")
NUMBERS = ("full", "nothing", "circuit", "faithfulness", "low", "high", "uncertain", "sign_changes")
# Of a circuit of features: the faithfulness of what is left of it without its error nodes, and without its features.
FEATURE_PARTS = ("features_alone", "errors_alone")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "circuit",
        metavar="CIRCUIT.json",
        type=Path,
        help="a circuit: a graph JSON of EAP-IG, MIB or ours, edge names of auto-circuit, or an edge list of ACDC",
    )
    about = parser.add_argument_group("the model and the prompts")
    add_problem(about)
    add_dictionary(about, choosing=False)
    add_split(about, "test")
    add_prompts(about)
    add_factors(
        parser.add_argument_group("the setting in which it is measured"),
        ablation="the ablation the circuit was found under, else patch",
        objective="the task's; for --data logit-difference, or kl without answers",
    )
    more = parser.add_argument_group("what else is measured")
    more.add_argument(
        "--truth",
        metavar="TRUTH",
        help="a certified truth (`circuitmeter list truths`) or a published circuit (`circuitmeter list references`) "
        "to score the circuit's edges against",
    )
    more.add_argument(
        "--curve",
        action="store_true",
        help="also measure the circuits that the file's scores make at each size, with CPR and CMD",
    )
    more.add_argument(
        "--selection",
        choices=SELECTION_NAMES,
        default="greedy",
        help=f"how --curve makes them: {SELECTION_HELP} (default: greedy)",
    )
    more.add_argument("--signed", action="store_true", help="rank edges for --curve by signed and not absolute score")
    more.add_argument(
        "--tests",
        action="store_true",
        help="also test the circuit: equivalence, independence, minimality, sufficiency, partial necessity; and "
        "measure its completeness and the edges that can go",
    )
    computing = add_computing(parser)
    computing.add_argument(
        "--batch-size",
        type=positive_number,
        metavar="N",
        help="prompts at a time (default: from the model's size); changes a number only where a mean is over the batch",
    )
    add_yes(computing)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    refuse_missing(options.circuit, options.data)
    from ..interchange import read
    from ..plan.speed import Speed
    from ..run.watch import watched
    from . import dictionaries, subjects
    from .circuit_curves import circuit_curves, print_circuit_curves
    from .circuit_tests import circuit_tests, print_circuit_tests
    from .costs import NEGLIGIBLE_SECONDS, allow, cost_of, most_prompts
    from .output import note, print_json

    edges, books = read(options.circuit), dictionaries.read_dictionaries(options.dictionary)
    given = {"ablation": [edges.origin.ablation or "patch"], "objective": ["kl"]}
    settings(options, **given)  # a wrong level is refused before anything is loaded
    on = subjects.outlined(options, inputs=edges.inputs, prompts=options.prompts)
    on = subjects.of_positions(dictionaries.of_circuits(on, books, [edges]), [edges])
    file = edges.on(on.model.graph, learned_positions=on.model.config.positions == "learned")
    for text in file.notes:
        note(text)
    if options.curve and file.scores is None:
        raise DataError(f"{options.circuit} holds no score of every edge, so it has no --curve; give one that does.")
    chosen = settings(options, **given | {"objective": [on.task.objective]})
    truths = certified(options.truth, on, chosen) if options.truth else {}
    subjects.refuse_undefined(chosen, on)
    on = subjects.with_model_loaded(on, options)
    cost = cost_of(chosen, on, 1 + len(_parts(file.circuit)))
    speed, n = Speed(on.model, on.data, NEGLIGIBLE_SECONDS), on.data.n
    forecast = speed.forecast(cost, options.batch_size or 0)
    meant = sum(each.undefined(on.data, on.model) is None for each in chosen)
    what = f"one circuit in {meant} settings on {n} prompts"
    allow(
        what,
        forecast.seconds,
        options.yes,
        busy=forecast.busy,
        fits=lambda: most_prompts(n, lambda fewer: speed.seconds(cost * (fewer / n))),
    )
    with watched("evaluate", cost.passes):
        rows = faithfulness_rows(file, on, chosen, seed=options.seed, batch_size=options.batch_size)
    subjects.note_in_sample(file.origin, on, options.circuit)
    subjects.warn(on)
    recovered = {name: recovery_by_truth(file, truth) for name, truth in truths.items()} or None
    runs: dict[str, Any] = {"seed": options.seed, "batch_size": options.batch_size}
    ranked: dict[str, Any] = {"selection": options.selection, "signed": options.signed}
    curves = circuit_curves(file, on, chosen, **ranked, **runs) if options.curve else None
    tests = circuit_tests(file, on, chosen, **runs) if options.tests else None
    if options.json:
        print_json(
            {
                "circuit": str(options.circuit),
                "model": on.model_source,
                "split": on.split,
                "prompts": on.data.n,
                "n_edges": file.circuit.graph.n_edges,
                "rows": rows,
                "recovery": recovered,
                "curves": curves,
                "tests": tests,
            }
        )
    else:
        _print(rows, recovered)
        print_circuit_curves(curves or ())
        print_circuit_tests(tests or ())
    return 0


def faithfulness_rows(
    file: CircuitFile, on: Subject, chosen: Sequence[Setting], *, seed: int, batch_size: int | None
) -> list[dict[str, Any]]:
    """One row per setting: its levels, the means of full model, reference and circuit, and the faithfulness; for a
    circuit of features also that of its ``FEATURE_PARTS``.

    A setting without a meaning has ``undefined``: the reason, and no numbers. One whose mean is over the batch has
    ``batch_size``, because it is another number with other batches.
    """
    from ..intervention.evaluator import default_batch_size
    from ..intervention.levels import FACTORS
    from ..intervention.objective import OBJECTIVES
    from ..run.memory import measure_with_less

    reasons = {setting: setting.undefined(on.data, on.model) for setting in chosen}
    runs: dict[Cut, list[str]] = {}
    for setting in chosen:
        if reasons[setting] is None:
            runs.setdefault(setting.cut, []).append(setting.objective)
    found, parts = {}, _parts(file.circuit)
    for cut, names in runs.items():
        objectives = [OBJECTIVES.get(name) for name in dict.fromkeys(names)]
        values = measure_with_less(
            on, "evaluate", [file.circuit, *parts], cut, objectives, seed=seed, batch_size=batch_size
        )
        found |= {(cut, objective.name): each for objective, each in zip(objectives, values, strict=True)}
    batch_size = batch_size or default_batch_size(on.model, on.data.clean.shape[1])
    rows = []
    for setting in chosen:
        over_batch = setting.cut.ablation.over_batch
        row: dict[str, Any] = {factor: setting.level(factor) for factor in FACTORS}
        row |= {"edges": file.circuit.n_edges}
        row["without_dead_ends"] = file.circuit.pruned().n_edges
        row["batch_size"] = batch_size if over_batch else None
        if reasons[setting]:
            rows.append(row | dict.fromkeys(NUMBERS + FEATURE_PARTS[: len(parts)]) | {"undefined": reasons[setting]})
        else:
            rows.append(row | _numbers(file, on, found[setting.cut, setting.objective], setting))
    return rows


def _parts(circuit: Circuit) -> tuple[Circuit, ...]:
    """The circuits of ``FEATURE_PARTS``; none for a circuit of heads and MLPs."""
    from ..intervention.feature_shares import parts_of
    from ..model.features.graph import FeatureGraph

    return parts_of(circuit) if isinstance(circuit.graph, FeatureGraph) else ()


def _numbers(file: CircuitFile, on: Subject, measured: CircuitValues, setting: Setting) -> dict[str, Any]:
    """What stands in a setting's row; ``undefined`` also where full model and reference are the same everywhere.

    Args:
        measured: the file's circuit, and its ``FEATURE_PARTS`` behind it.
    """
    from ..json_model import plain
    from ..scoring.faithfulness_curve import SizedCircuit, faithfulness_curve

    parts = measured.faithfulness(setting.aggregation, setting.reference)[1:].tolist()
    measured = replace(measured, circuits=measured.circuits[:1])
    nothing, templates = measured.reference(setting.reference), on.data.templates
    means = {"full": measured.full, "nothing": nothing, "circuit": measured.circuits[0]}
    values = {name: float(part.mean()) + 0.0 for name, part in means.items()}  # never -0
    point = faithfulness_curve(
        [SizedCircuit(1.0, file.circuit)],
        measured,
        aggregation=setting.aggregation,
        reference=setting.reference,
        templates=None if templates is None else templates.numpy(),
    )
    share = {"faithfulness": point.faithfulness[0], "low": point.low[0], "high": point.high[0]}
    undefined = measured.undefined(setting.reference)
    return plain(values | share | dict(zip(FEATURE_PARTS, parts, strict=False))) | {
        "uncertain": None if undefined else measured.uncertain(setting.reference),
        "sign_changes": measured.sign_changes(),
        "undefined": undefined,
    }


def certified(truth: str, on: Subject, chosen: Sequence[Setting]) -> dict[str, Reference]:
    """The truth under each ablation for which it is certified, or the published circuit under its own name.

    Raises:
        CircuitMeterError: a truth that is certified under none of the ablations.
    """
    from ...ground_truth import manual
    from .subjects import reference

    ablations = {str(setting.cut.ablation): setting.cut.ablation for setting in chosen}
    asked = {truth: chosen[0].cut.ablation} if truth in manual.names() else ablations
    circuits = {name: reference(truth, on.model, ablation) for name, ablation in asked.items()}
    found = {name: circuit for name, circuit in circuits.items() if circuit is not None}
    if not found:
        raise CircuitMeterError(
            f"the truth {truth} is not certified under {', '.join(ablations)}; choose another --ablation or --truth."
        )
    return found


def recovery_by_truth(file: CircuitFile, truth: Reference) -> dict[str, float | str]:
    """How well the file's circuit, and its scores where it has them, recover a truth; and, where all minimal circuits
    are listed, which of them the circuit is (``minimal_circuit``: scoring/plurality.py)."""
    from ..json_model import plain
    from ..scoring.plurality import plurality
    from ..scoring.recovery import circuit_recovery
    from ..scoring.recovery import recovery as score_recovery

    of_scores = {} if file.scores is None else score_recovery(file.scores, truth)
    ranked = {name: value for name, value in of_scores.items() if name not in AT_TRUE_SIZE}
    among = {"minimal_circuit": plurality(file.circuit, truth.minimal).verdict} if truth.minimal else {}
    return plain({**circuit_recovery(file.circuit, truth), **among, **ranked})


def _print(rows: list[dict[str, Any]], recovered: dict[str, dict[str, float | str]] | None) -> None:
    from ..intervention.levels import FACTORS
    from .output import note, print_lines, print_table, print_wrapped

    varied = [name for name in FACTORS if name in _ALWAYS or len({row[name] for row in rows}) > 1]
    columns = [
        *varied,
        *NUMBERS[:6],
        *(name for name in FEATURE_PARTS if name in rows[0]),
        "edges",
        "without_dead_ends",
    ]
    headings = ["live" if column == "without_dead_ends" else column for column in columns]
    table = [[row[column] for column in columns] for row in rows]
    if reasons := list(dict.fromkeys(row["undefined"] for row in rows if row["undefined"])):
        headings.append("undefined")
        for cells, row in zip(table, rows, strict=True):
            cells.append(f"({reasons.index(row['undefined']) + 1})" if row["undefined"] else "")
    print_table(headings, table, one_unit=NUMBERS[:3])
    for number, reason in enumerate(reasons, 1):
        print_lines(f"({number}) {reason}")
    if any(row["edges"] != row["without_dead_ends"] for row in rows):
        print_wrapped("live: edges that are on a path from an input node to the logits")
    if any(row["uncertain"] for row in rows):
        settings = sum(bool(row["uncertain"]) for row in rows)
        note(
            f"In {settings} of {len(rows)} settings the full model and the reference differ by less than two standard "
            f"errors: a share of that difference says little."
        )
    for setting in {(row["ablation"], row["objective"]) for row in rows if row["sign_changes"]}:
        note(
            f"Under {setting[0]} the full model's {setting[1]} lies between the corrupted run's and that of the graph "
            f"with every edge cut: faithfulness changes its sign with --reference."
        )
    if sizes := {row["batch_size"] for row in rows} - {None}:
        note(f"Means over the batch are over {sizes.pop()} prompts; with another --batch-size they are other numbers.")
    for name, metrics in (recovered or {}).items():
        published = "/" in name  # every other name is an ablation's
        print(f"\nagreement with the published {name}" if published else f"\nrecovery of the truth under {name}")
        print_table(("metric", "value"), list(metrics.items()))
