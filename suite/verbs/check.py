"""``circuitmeter check``: is a store whole and unchanged."""

from __future__ import annotations

import argparse

from .arguments import add_json, positive_number

NAME = "check"
HELP = "Check a store: every file against its checksum and schema, every benchmark for cells that are not there."
EPILOG = (
    "Exit status 1: a file was changed, a cell is missing or failed, or came out otherwise when computed anew. The "
    "next run replaces damaged cells."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "store", metavar="STORE", help="a folder that `run` or `validate` filled, or an address (s3://bucket/results)"
    )
    parser.add_argument(
        "--replay",
        metavar="N",
        type=positive_number,
        default=0,
        help="compute N of the finished cells anew and compare: bit for bit where machine and versions are the same",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    from ..store.check import check
    from .output import print_json, print_lines

    found = check(options.store)
    if options.replay:
        from ..run.replay import replay
        from .output import stdout_kept_clean

        with stdout_kept_clean():
            found = replay(found, options.replay)
    if options.json:
        print_json(found.as_json())
    else:
        print_lines(str(found))
    return 0 if found.whole else 1
