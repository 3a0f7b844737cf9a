"""``circuitmeter show``: a circuit drawn, in the terminal and in the browser."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CircuitMeterError, DataError, SpecError
from .arguments import add_adapter, add_device, add_several, positive_number, whole_number
from .dictionaries import add_dictionary
from .output import print_lines, refuse_missing, refuse_unwritable

if TYPE_CHECKING:
    from ...ground_truth import GroundTruth
    from ...ground_truth.explain import Explained
    from ...reports.page.circuit_view import Arrow, CircuitView
    from ...tasks import PromptFile, TextTask
    from ...tasks.task import Task
    from ..circuit import Circuit, EdgeScores
    from ..interchange import Origin

NAME = "show"
HELP = "Draw a certified circuit, the circuits that methods find, or a circuit file."
EPILOG = (
    "For a task: its certified circuit, with what each node computes, what each edge carries and why the others are "
    "inert; with --method what the method finds of it. For a circuit file: its edges, with --truth against the truth "
    "of the task that it was found on, with --examples the prompts on which its features are most active. With "
    "--model: a task's prompts, and what the model answers."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("subject", metavar="TASK|CIRCUIT.json", help="a certified task, or a circuit file")
    parser.add_argument(
        "--truth", action="store_true", help="draw the certified circuit beside the others, and compare with it"
    )
    add_several(parser, "--method", "NAME", "draw what this method finds, as many edges as the truth has")
    parser.add_argument("--ablation", metavar="A", help="whose truth (default: the circuit file's own, else patch)")
    parser.add_argument("--seed", type=whole_number, default=0, metavar="N", help="of a method (default: 0)")
    parser.add_argument(
        "--all",
        action="store_true",
        help="a line for every edge, also of a large circuit, and of inert edges where many are inert for one reason",
    )
    parser.add_argument(
        "--model", metavar="NAME|DIR", help="show the task's prompts as text, with this model's answers"
    )
    add_adapter(parser)
    parser.add_argument(
        "--prompts", type=positive_number, default=5, metavar="N", help="how many, with --model (default: 5)"
    )
    parser.add_argument(
        "--examples",
        type=positive_number,
        metavar="N",
        help="of a circuit of features: the N prompts on which each is most active",
    )
    add_dictionary(parser, choosing=False)
    parser.add_argument("--out", metavar="FILE.html", type=Path, help="write a page for the browser, too")
    add_device(parser)


def run(options: argparse.Namespace) -> int:
    if options.dictionary and not options.examples:
        raise SpecError("--dictionary goes with --examples; a circuit file is drawn without its dictionaries.")
    if options.examples and not options.subject.endswith(".json"):
        raise SpecError("--examples goes with a circuit file, and this is a task; give the file.")
    if options.model is not None:
        from .asked import prompt_lines

        if options.subject.endswith(".json"):
            _refuse_circuit(options.subject)
        for line in prompt_lines(options.subject, options.model, options.prompts, adapter=options.adapter):
            print(line, flush=True)
        return 0
    if options.adapter is not None:
        raise SpecError("--adapter goes with --model, and none is given.")
    is_file = options.subject.endswith(".json")
    if is_file and options.method:
        raise SpecError("--method goes with a task, and this is a circuit file; give the task's name.")
    if is_file:
        refuse_missing(options.subject)
    if options.out is not None:
        refuse_unwritable(options.out)
    from ...reports.page.circuit_summary import LARGE, circuit_summary
    from ...reports.page.circuit_view import as_text

    title, facts, views = _of_file(options) if is_file else _of_task(options)
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    shown = []
    for view in views:
        short = not (options.all or view.against_truth) and len(view.arrows) > LARGE
        shown.append(
            circuit_summary(view, facts, unicode=unicode)
            if short
            else as_text(view, unicode=unicode, every=options.all)
        )
    print_lines("\n\n".join(shown))
    sys.stdout.flush()
    if options.examples:
        from .feature_examples import example_lines

        for line in example_lines(options.subject, options.examples, options.dictionary, options.device):
            print(line, flush=True)
    if options.out is not None:
        from ...reports.page.circuit_page import circuit_page

        try:
            options.out.write_text(circuit_page(title, facts, views), encoding="utf-8")
        except OSError as error:
            raise DataError(f"cannot write {options.out}: {error.strerror}.") from None
        print(f"\nwrote {options.out}")
    return 0


def _refuse_circuit(file: str) -> None:
    """Raises SpecError for a circuit file, before the seconds that a model takes; a file of prompts passes."""
    from ...tasks.prompt_files import is_circuit
    from ..reading import read_json

    if is_circuit(read_json(file)):
        raise SpecError(f"{file} is a circuit file, and --model shows the prompts of a task; leave out --model.")


def _of_task(options: argparse.Namespace) -> tuple[str, list[str], list[CircuitView]]:
    """The truth of a task, and what methods find of it."""
    from ... import tasks
    from ..intervention.ablation import Ablation

    task = tasks.load(options.subject)
    truth = _truth_of(task.name, task.truth)
    ablation = str(Ablation.parse(options.ablation or "patch"))
    views = [] if options.method and not options.truth else [truth_view(truth, ablation)]
    for name in options.method or ():
        found, scores = _discovered(name, task, truth, ablation, options)
        views.append(circuit_view(found, truth, ablation, f"{name} on {task.name}", scores))
    return truth.name, _facts(truth), views


def _of_file(options: argparse.Namespace) -> tuple[str, list[str], list[CircuitView]]:
    """The circuit of a file, by itself or against the truth of its task."""
    from ...reports.page.circuit_view import Arrow, CircuitView
    from ..interchange import load
    from ..intervention.ablation import Ablation
    from ..model.graph import Edge

    file = load(options.subject)
    title, origin = Path(options.subject).name, file.origin
    if not options.truth:
        arrows = [Arrow(Edge.parse(name), "kept") for name in file.circuit.names]
        found, size = _found(origin), f"{file.circuit.n_edges:,} of {file.circuit.graph.n_edges:,} edges"
        caption = ", ".join(filter(None, [found, size]))
        scores = scores_of(file.scores)
        view = CircuitView(title, caption, file.circuit.graph, arrows, scores=scores, against_truth=False)
        rule = f" ({origin.rule})" if origin.rule else ""
        facts = [*filter(None, [found]), f"{size}{rule}, {_about_paths(file.circuit, view)}"]
        return title, facts, [view]
    if not origin.task:
        raise DataError(f"{options.subject} does not say which task it was found on, so --truth has nothing to show.")
    from ... import tasks

    truth = _truth_of(origin.task, tasks.load(origin.task).truth)
    ablation = str(Ablation.parse(options.ablation or origin.ablation or "patch"))
    if file.circuit.graph.hash != truth.graph.hash:
        raise DataError(f"the circuit's graph ({file.circuit.graph}) is not that of {truth.name} ({truth.graph}).")
    views = [truth_view(truth, ablation), circuit_view(file.circuit, truth, ablation, title, file.scores)]
    return title, _facts(truth), views


def _found(origin: Origin) -> str:
    """How a circuit was found, as far as its file says; empty where it says nothing."""
    where = "".join(f" {word} {name}" for word, name in (("on", origin.task), ("in", origin.model)) if name)
    found = f"found by {origin.method}{where}" if origin.method else where.strip()
    under = f"{found} under {origin.ablation}".strip() if origin.ablation else found
    return ", ".join(filter(None, [under, f"objective {origin.objective}" if origin.objective else ""]))


def _about_paths(circuit: Circuit, view: CircuitView) -> str:
    """How many nodes a circuit has, and what of it is on no path from an input to the logits."""
    node = circuit.graph.node_of_reader
    nodes = {name for edge in view.kept for name in (edge.writer, node(edge.reader))}
    dead, lost = circuit.n_edges - circuit.pruned().n_edges, len(view.without_path)
    return (
        f"between {len(nodes):,} of {len(circuit.graph.nodes):,} nodes; {dead:,} edges are dead ends, "
        f"{lost:,} nodes are without a path"
    )


def truth_view(truth: GroundTruth, ablation: str) -> CircuitView:
    """The certified circuit under an ablation, and the structural edges that are not in it, with the reasons."""
    from ...ground_truth.explain import explain
    from ...reports.page.circuit_view import Arrow, CircuitView

    arrows = [Arrow(e.edge, e.status, e.carries, e.why) for e in explain(truth, ablation)]
    n = {status: sum(arrow.mark == status for arrow in arrows) for status in ("true", "optional", "inert")}
    besides = f"{n['optional']} optional, " if n["optional"] else ""
    caption = (
        f"{n['true']} true edges of {truth.graph.n_edges:,}, {besides}{n['inert']} inert although structural; of the "
        f"other {truth.graph.n_edges - len(arrows):,} nothing is read"
    )
    optional = [str(arrow.edge) for arrow in arrows if arrow.mark == "optional"]
    writers = truth.description.writers
    return CircuitView(f"{truth.name} under {ablation}", caption, truth.graph, arrows, writers, optional=optional)


def circuit_view(
    circuit: Circuit, truth: GroundTruth, ablation: str, title: str, scores: EdgeScores | None = None
) -> CircuitView:
    """A circuit against the truth: found, missed and wrongly added edges, and what it has of the optional ones.

    Args:
        scores: those by which its edges were chosen.
    """
    from ...ground_truth.explain import claim_of, explain
    from ...reports.page.circuit_view import Arrow, CircuitView
    from ..model.graph import Edge

    known = {str(e.edge): e for e in explain(truth, ablation)}
    kept = set(circuit.names)
    arrows: list[Arrow] = []
    for edge in map(str, truth.graph.edges):
        about = known.get(edge)
        status = about.status if about else "inert"
        mark = {
            ("true", True): "found",
            ("true", False): "missed",
            ("optional", True): "optional",
            ("inert", True): "added",
        }.get((status, edge in kept))
        if mark:
            why = about.why if about else "nothing that the writer writes is read there, or it leads nowhere"
            arrows.append(Arrow(Edge.parse(edge), mark, about.carries if about else (), why))
    n = {mark: sum(arrow.mark == mark for arrow in arrows) for mark in ("found", "missed", "added")}
    caption = f"under {ablation}: {n['found']} found, {n['missed']} missed, {n['added']} wrongly added"
    if any(e.status == "optional" for e in known.values()):
        caption += _about_optional(known, kept, claim_of(truth, ablation).known_circuits)
    optional = [edge for edge, about in known.items() if about.status == "optional"]
    writers = truth.description.writers
    return CircuitView(title, caption, truth.graph, arrows, writers, scores_of(scores), optional)


def scores_of(scores: EdgeScores | None) -> dict[str, float]:
    """Scores by the names of edges; empty for a circuit without scores."""
    return {} if scores is None else dict(zip(map(str, scores.graph.edges), scores.flat().tolist(), strict=True))


def _about_optional(
    known: Mapping[str, Explained], kept: Collection[str], minimal: Sequence[Sequence[str]] | None
) -> str:
    """How many optional edges are kept, and whether what is kept is one of the minimal circuits."""
    optional = [edge for edge, about in known.items() if about.status == "optional"]
    text = f"; of {len(optional)} optional edges {sum(edge in kept for edge in optional)} kept"
    if minimal is None:
        return text
    if any(set(circuit) == set(kept) for circuit in minimal):
        return f"{text}; a minimal circuit"
    more = any(set(circuit) < set(kept) for circuit in minimal)
    return f"{text}; {'more than' if more else 'not'} a minimal circuit"


def _discovered(
    name: str, task: Task | TextTask | PromptFile, truth: GroundTruth, ablation: str, options: argparse.Namespace
) -> tuple[Circuit, EdgeScores]:
    """The circuit of the truth's size that a method finds with its default parameters, and its scores."""
    from ..circuit import top_n
    from ..errors import Undefined
    from ..intervention.ablation import Ablation
    from ..intervention.objective import OBJECTIVES
    from ..model.load.by_name import load_model, on_model
    from ..plan import names

    method, parsed = names.callable_method(name), Ablation.parse(ablation)
    reference, objective = truth.reference(parsed), OBJECTIVES.get(task.objective)
    source = task.model or truth.name
    model, data = load_model(source, device=options.device), on_model(task, source).data()
    if reason := method.undefined(parsed, None if method.objectives is None else objective, data, model.config):
        raise Undefined(f"{reason}.")
    settings: dict[str, Any] = {"ablation": parsed, "objective": objective, "seed": options.seed, "truth": reference}
    found = method.discover(model, data, **settings, **method.resolve({}))
    size = 0 if reference is None else reference.size
    return top_n(found.scores, size), found.scores


def _truth_of(task: str, truth: str | None) -> GroundTruth:
    from ... import ground_truth

    if truth is None:
        raise CircuitMeterError(f"nothing is certified about {task}; `circuitmeter list truths` names what there is.")
    return ground_truth.load(truth)


def _facts(truth: GroundTruth) -> list[str]:
    about = truth.certificate.domain
    inputs = "all" if about.enumerated else "a sample of"
    return [truth.description.description, f"{truth.graph}; certified on {inputs} {about.n_inputs:,} inputs."]
