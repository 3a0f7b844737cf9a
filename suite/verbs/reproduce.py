"""``circuitmeter reproduce``: a paper's numbers and figures again, with a verdict for each number."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import add_json, add_workers

if TYPE_CHECKING:
    from ...reports.reproduction.entries import Card
    from ...reports.reproduction.judge import Judged
    from ..plan.spec import Spec

NAME = "reproduce"
HELP = "Run what a paper's figures need and is missing, draw reported beside reproduced, and judge every number."
EPILOG = (
    "`circuitmeter list papers` says which papers. Parts on language models run where --model is given; on another "
    "model than the paper's, such as mini, their numbers are shown beside the paper's and not judged. Exit status 1: "
    "a cell failed, or a number left its tolerance for no known reason."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paper", metavar="PAPER", help="a paper (`circuitmeter list papers`)")
    parser.add_argument("--model", metavar="NAME|DIR", help="a language model, for the parts that need one")
    parser.add_argument("--store", metavar="DIR", type=Path, help="where results are kept (default: results/PAPER)")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="where figures and verdicts go (default: into the store)"
    )
    parser.add_argument("--from-store-only", action="store_true", help="run nothing: judge what the store holds")
    parser.add_argument("--all", action="store_true", help="print a line for every value, also those not run")
    add_workers(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    from ...reports.reproduction import manifest as manifests
    from ...reports.reproduction.overview import spec_of
    from .output import drawing, keeping, of_cells, print_json, stdout_kept_clean

    manifest = manifests.load(options.paper)
    store = options.store or Path("results") / options.paper
    out = options.out or store
    with keeping(lambda: of_cells(store)):
        # Language models first: one that cannot be had is said before anything is run.
        parts = sorted(manifest.part, key=lambda part: part.model is None)
        specs = [spec for part in parts if (spec := spec_of(manifest, part, options.model))]
        failed = 0
        if not options.from_store_only:
            with stdout_kept_clean():
                failed = sum(_run(spec, store, options) for spec in specs)
                for card in manifest.card:
                    _measure_card(card, store)
        from ...reports.reproduction.write import write_reproduction

        with drawing() as progress:
            found = write_reproduction(manifest, store, out, options.model, progress)
    if options.json:
        import json

        print_json(json.loads((out / "verdicts.json").read_text(encoding="utf-8")))
    else:
        _print(found.judged, (found.elsewhere, found.undrawn), out, every=options.all)
    return 1 if failed or not all(item.explained for item in found.judged) else 0


def _run(spec: Spec, store: Path, options: argparse.Namespace) -> int:
    """Runs what the store lacks of a benchmark; returns how many cells failed."""
    from ..run import run as harness
    from ..run.progress import Progress
    from .output import note

    workers = {"workers": options.workers, "device": options.device, "executor": options.executor}
    with Progress() as progress:
        summary = harness.run(spec, store, on_event=progress, **workers)
    for job, reason in summary.failed:
        note(f"failed: {summary.plan.labels[job.key]}: {reason}")
    return len(summary.failed)


def _measure_card(card: Card, store: Path) -> None:
    """Measures what a sensitivity card shows, unless the store holds it."""
    from ...reports.card.words import paragraph
    from ...reports.reproduction.write import card_path
    from ..circuit import Circuit
    from ..intervention.ablation import Ablation
    from ..intervention.setting import grid
    from ..plan.subject import subject
    from ..store.store import Store
    from .sensitivity import DEFAULTS, sensitivity_card

    path = card_path(store, card.name)
    if path.is_file():
        return
    on = subject(card.task, None)
    truths = {name: on.reference(Ablation.parse(ablation)) for name, ablation in card.circuits.items()}
    circuits = {name: Circuit(on.model.graph, truth.core) for name, truth in truths.items() if truth is not None}
    levels: dict[str, Any] = DEFAULTS | {"ablation": card.ablation, "objective": (on.task.objective,)}
    settings = grid(**levels)
    options = {"prompts": card.prompts, "random": card.random, "pairings": 3, "seed": 0, "threshold": 0.8, "yes": True}
    found = sensitivity_card(argparse.Namespace(**options, circuits=list(circuits)), on, circuits, settings, {})
    Store(store, create=True).write_card(card.name, found.model_copy(update={"paragraph": paragraph(found)}))


def _print(judged: Sequence[Judged], remarks: Sequence[str], out: Path, *, every: bool) -> None:
    """Values with their tolerances and verdicts; a reason that several share is told once, below.

    Args:
        remarks: sentences on the whole, such as what was measured on another model than the paper's; may be empty.
        every: whether values that were not run have a line each; else their number stands beside the reason.
    """
    from ...reports.page.table import number
    from ...reports.reproduction.judge import verdict_counts
    from .output import print_lines, print_table, print_wrapped

    reasons = {text: i for i, text in enumerate(dict.fromkeys(item.because for item in judged if item.because), 1)}
    rows = []
    for item in judged:
        ours, tolerance = number(item.ours, 3), number(item.value.tolerance, 4)
        why = f"({reasons[item.because]})" if item.because else ""
        if every or item.verdict != "not run":
            rows.append([item.value.name, number(item.value.reported, 3), ours, tolerance, item.verdict, why])
    left_out = Counter(item.because for item in judged if item.verdict == "not run" and not every)
    if rows:
        print_table(["value", "reported", "ours", "tolerance", "verdict", "why"], rows, fit="wrap first")
    if rows and reasons:
        print()
    for text, i in reasons.items():
        n = left_out[text]
        print_wrapped(f"({i}) {f'{n} not run: ' if n else ''}{text}")
    if reasons:
        print()
    if left_out:
        print("What was not run has no line here: --all prints it.")
    for text in filter(None, remarks):
        print_wrapped(text)
    print_lines(f"{verdict_counts(judged)}. Figures and verdicts: {out / 'reproduction.html'}")
