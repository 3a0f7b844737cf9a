"""``circuitmeter report``: tables, figures and one HTML page, from a store alone."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "report"
HELP = "Write tables, figures and report.html from a store, without running anything."
EPILOG = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", metavar="STORE", type=Path, help="a folder that `circuitmeter run` filled")
    parser.add_argument("--out", metavar="DIR", type=Path, help="where the report is written (default: into the store)")


def run(options: argparse.Namespace) -> int:
    from ..harness.store import Store

    Store(options.store)  # refuses what is no store, or a newer one, before the slow imports below
    from ...reports.write import write_report

    print(write_report(options.store, options.out or options.store))
    return 0
