"""``circuitmeter run``: measures what a benchmark is missing, then writes its report."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from .arguments import add_benchmark, add_workers, seconds, shard_of_cells

NAME = "run"
HELP = "Run the cells of a benchmark that its store does not hold yet, and write the report."
EPILOG = (
    "Interrupted or killed, the same command goes on where it was. Exit status 1: some cell failed; its row says why."
)
REPORT = "report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_benchmark(parser)
    add_workers(parser)
    parser.add_argument(
        "--shard",
        type=shard_of_cells,
        metavar="I/N",
        help="only the I-th of N fixed shares of the cells, chosen by key: for job arrays, with nothing to coordinate",
    )
    parser.add_argument(
        "--time-limit",
        type=seconds,
        metavar="SECONDS",
        help="how long a cell may take before it is a failed row (default: the benchmark's own limit, or six hours)",
    )
    parser.add_argument(
        "--known",
        metavar="STORE",
        nargs="+",
        default=(),
        help="other stores, folders or addresses: what they have finished is copied and not run",
    )
    parser.add_argument("--retry-failed", action="store_true", help="run the cells that failed earlier again")


def run(options: argparse.Namespace) -> int:
    from ..plan.spec import Spec
    from ..run import run as harness
    from ..run.progress import Progress
    from .arguments import store_of
    from .output import keeping, note, of_cells

    spec = Spec.load(options.spec)
    store = store_of(options, spec)
    with keeping(lambda: of_cells(store)), Progress() as progress:
        summary = harness.run(
            spec,
            store,
            workers=options.workers,
            device=options.device,
            executor=options.executor,
            address=options.address,
            shard=options.shard,
            time_limit=options.time_limit,
            retry_failed=options.retry_failed,
            only=options.only or (),
            known=options.known,
            on_event=progress,
        )
    for job, reason in summary.failed:
        note(f"failed: {summary.plan.labels[job.key]}: {reason}")
    report = summary.store / REPORT
    results = [summary.store / "cells" / planned.job.key for planned in summary.plan.jobs]
    results += [summary.store / "evaluations", summary.store / "behaviours"]
    if not summary.ran and is_fresh(report, results):
        print(f"{summary}. Report: {report}")
        return summary.exit_status
    note("drawing the report ...")
    from ...reports.summary import summary_table
    from ...reports.write import write_report

    print(summary_table(summary.store))
    with keeping(lambda: f"all cells are in {store}, and the same command draws the report"):
        print(f"\n{summary}. Report: {write_report(summary.store, summary.store, tell=note)}")
    return summary.exit_status


def is_fresh(report: Path, results: Iterable[Path]) -> bool:
    """Whether the report was written after the last of the results: a run may be killed between the two."""
    if not report.is_file():
        return False
    return report.stat().st_mtime >= max((path.stat().st_mtime for path in results if path.exists()), default=0)
