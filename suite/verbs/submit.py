"""``circuitmeter submit mib``: a store's circuits as a submission to MIB's leaderboard."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError, SpecError, StoreError, unknown
from .arguments import add_json

if TYPE_CHECKING:
    import numpy as np

    from ..model.graph import Graph
    from ..store.reading import StoreReader
    from ..store.record import Cell

NAME = "submit"
HELP = "Write a submission to another project's leaderboard from a store's cells."
EPILOG = (
    "mib: a folder for each method and ablation, to be uploaded as it is: TASK_MODEL/importances.json with a score for "
    "every edge. The leaderboard takes two tasks and two models at least. A model that lies in a folder, and a task of "
    "your own prompts, get MIB's name by --models FOLDER=gpt2 and --tasks prompts.jsonl=mcqa."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("leaderboard", choices=("mib",), help="whose leaderboard")
    parser.add_argument(
        "store", metavar="STORE", help="a folder that `run` filled, or an address (s3://bucket/results)"
    )
    parser.add_argument("--method", metavar="LABEL", nargs="+", help="which methods, as the report calls them; all")
    parser.add_argument(
        "--models", metavar="OURS=THEIRS", nargs="+", default=[], help="a model's name here, and what MIB calls it"
    )
    parser.add_argument(
        "--tasks", metavar="OURS=THEIRS", nargs="+", default=[], help="a task's name here, and what MIB calls it"
    )
    parser.add_argument(
        "--signed", action="store_true", help="edges are to be ranked by signed score (absolute unless given)"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="the folder to write to; it must be new")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    from ..interchange import mib
    from ..store.reading import StoreReader
    from .output import note, print_json

    tasks, models = _pairs("--tasks", options.tasks), _pairs("--models", options.models)
    mib.check_renamed(tasks, models)
    places = {Path(ours).name: ours for ours in models}  # a store knows a folder by its last part
    models = {Path(ours).name: theirs for ours, theirs in models.items()}
    if options.out.exists():
        raise SpecError(f"{options.out} is there already; name a new folder with --out.")
    reader = StoreReader(options.store)
    chosen = _chosen(reader, options.method, tasks, models)
    graphs = _graphs([cell for cells in chosen.values() for cell in cells.values()], models, places)
    written: dict[str, list[str]] = {}
    for (label, ablation), cells in chosen.items():
        folder = options.out / f"{_plain(label)}_{_plain(ablation)}_edge_abs-{not options.signed}"
        for name, cell in cells.items():
            _write(folder / name, reader.scores(cell.key), cell, *graphs[cell.model, cell.graph])
        written[str(folder)] = mib.check_submission(folder)
    for path, names in written.items():
        if not options.json:
            print(f"{path}: {', '.join(names)}")
        parts = [set(part) for part in zip(*(name.split("_") for name in names), strict=True)]
        if min(map(len, parts)) < mib.FEWEST:
            note(f"{path}: the leaderboard takes {mib.FEWEST} tasks and {mib.FEWEST} models at least.")
    if options.json:
        print_json(written)
    return 0


def _chosen(
    reader: StoreReader, methods: Sequence[str] | None, tasks: Mapping[str, str], models: Mapping[str, str]
) -> dict[tuple[str, str], dict[str, Cell]]:
    """(label of a method, ablation) -> the folder of a task on a model -> the finished cell, of the first seed.

    Args:
        methods: labels; all when omitted.
        tasks, models: as of ``mib.task_of`` and ``mib.model_of``.

    Raises:
        SpecError: a label that the store does not have.
        StoreError: no finished cell is of a task and a model of the leaderboard.
    """
    from ...reports.read.labels import method_labels
    from ..interchange import mib

    records = [record for record in reader.records() if record.done]
    done = {record.key: record.identity for record in records}
    labels = method_labels(done, {record.key: record.prompts for record in records})
    for label in methods or ():
        if label not in labels.values():
            raise SpecError(unknown("method in this store", label, sorted(set(labels.values()))))
    found: dict[tuple[str, str], dict[str, Cell]] = {}
    for cell in sorted(done.values(), key=lambda cell: (str(cell), cell.key)):
        task, model, label = mib.task_of(cell.task, tasks), mib.model_of(cell.model, models), labels[cell.key]
        if task and model in mib.MIB_TASKS[task] and (methods is None or label in methods):
            found.setdefault((label, cell.ablation), {}).setdefault(f"{task}_{model}", cell)
    if not found:
        there = sorted({f"{cell.task} on {cell.model}" for cell in done.values()})
        more = f" and {len(there) - 5} more" if len(there) > 5 else ""
        raise StoreError(
            f"{reader.name} has no finished cell of a task and a model of MIB's ({', '.join(mib.all_names())}); it has "
            f"{', '.join(there[:5]) or 'no finished cell'}{more}. --models and --tasks say what MIB calls them."
        )
    return found


def _pairs(flag: str, given: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    for ours, equals, theirs in pairs:
        if not (ours and equals and theirs):
            raise SpecError(f"{flag} {ours}{equals}{theirs}: write OURS=THEIRS.")
    return {ours: theirs for ours, _, theirs in pairs}


def _graphs(
    cells: Sequence[Cell], renamed: Mapping[str, str], places: Mapping[str, str]
) -> dict[tuple[str, str], tuple[Graph, int, str]]:
    """(model, hash of its graph) -> the graph that a submission is about, the model's width, and its positions."""
    from ..interchange import mib
    from ..interchange.circuit_file import are_one
    from ..model.load.by_name import load_outline

    found: dict[tuple[str, str], tuple[Graph, int, str]] = {}
    for cell in cells:
        if (cell.model, cell.graph) in found:
            continue
        where = places.get(cell.model, cell.model)
        choices = [load_outline(where, inputs=inputs) for inputs in ("token", "sum", "split")]
        outline = choices[0]
        theirs = mib.model_of(cell.model, renamed)
        assert theirs is not None
        mib.check_graph(outline.graph, theirs, cell.model)
        graph = next((each.graph for each in choices if each.graph.hash == cell.graph), None)
        learned = outline.config.positions == "learned"
        if graph is None or not are_one({graph.inputs, "token"}, learned):
            raise DataError(
                f"the cells on {cell.model} are not of the graph that MIB's scores are of, with one input node that "
                f"position embeddings are not part of; run them with inputs = token."
            )
        found[cell.model, cell.graph] = (outline.graph, outline.config.d_model, outline.config.positions)
    return found


def _write(folder: Path, scores: np.ndarray, cell: Cell, graph: Graph, d_model: int, positions: str) -> None:
    """Writes the scores of a cell, all edges in the circuit."""
    import torch

    from ..circuit import Circuit, EdgeScores
    from ..interchange import Origin, mib, save
    from .output import make_folder

    make_folder(folder)
    origin = Origin(
        method=cell.method,
        method_version=cell.version,
        parameters=cell.parameters,
        ablation=cell.ablation,
        objective=cell.objective,
        seed=cell.seed,
        task=cell.task,
        data_hash=cell.data,
        model=cell.model,
        model_hash=cell.weights,
        positions=positions,
    )
    found = EdgeScores(graph, torch.from_numpy(scores))
    save(folder / mib.IMPORTANCES, Circuit(graph, graph.exists), found, d_model=d_model, origin=origin, format="mib")


def _plain(text: str) -> str:
    """A text as a part of a folder's name: letters, digits, dots and hyphens."""
    return re.sub(r"[^A-Za-z0-9.=]+", "-", text).strip("-")
