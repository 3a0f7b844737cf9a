"""``circuitmeter check``: is a store whole and unchanged."""

from __future__ import annotations

import argparse
from pathlib import Path

from .arguments import add_json

NAME = "check"
HELP = "Check a store: every file against its checksum and schema, every benchmark for cells that are not there."
EPILOG = "Exit status 1: a file was changed, a cell is missing or failed. The next run replaces damaged cells."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", metavar="STORE", type=Path, help="a folder that `run` or `validate` filled")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    from ..store.check import check
    from .output import print_json

    found = check(options.store)
    if options.json:
        print_json(found.as_json())
    else:
        print(found)
    return 0 if found.whole else 1
