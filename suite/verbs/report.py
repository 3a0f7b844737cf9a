"""``circuitmeter report``: tables, figures and one HTML page, from a store alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...reports.read.labels import RIVALS
from ..errors import SpecError

NAME = "report"
HELP = "Write tables, figures, leaderboard.json and report.html from stores, without running anything."
EPILOG = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "store",
        metavar="STORE",
        nargs="+",
        help="a folder that `run` or `validate` filled, or an address (s3://bucket/results); several are read as one",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="where the report is written (default: into the store, if it is one)"
    )
    parser.add_argument(
        "--brief", action="store_true", help="write brief.html as well: two pages to attach to an e-mail or print"
    )
    parser.add_argument(
        "--rivals",
        metavar="METHOD",
        nargs="+",
        help=f"methods in the store to test those of yours against, in this order (default: {' '.join(RIVALS)})",
    )


def run(options: argparse.Namespace) -> int:
    from ..store.folder import is_address
    from ..store.store import Store
    from .output import keeping, note

    if len(options.store) > 1 and options.out is None:
        raise SpecError(f"{len(options.store)} stores make one report; say where it goes with --out DIR.")
    if is_address(options.store[0]) and options.out is None:
        raise SpecError(f"{options.store[0]} is only read; say where the report goes with --out DIR.")
    for store in options.store:
        Store(store)  # refuses what is no store, or a newer one, before the slow imports below
    from ...reports.write import BRIEF, write_report

    first, *others = sorted(options.store)
    with keeping(lambda: "no report was written; an earlier one is whole"):
        report = write_report(
            first, options.out or first, *others, brief=options.brief, rivals=options.rivals, tell=note
        )
    print(report)
    if options.brief:
        print(report.with_name(BRIEF))
    return 0
