"""``circuitmeter merge``: stores from several machines become one."""

from __future__ import annotations

import argparse
from pathlib import Path

from .arguments import add_json

NAME = "merge"
HELP = "Merge stores from several machines into one: identical cells once, contradictions listed."
EPILOG = (
    "A finished cell replaces a failed one; what is there is never overwritten. Exit status 1: results contradict each "
    "other, or a source holds damaged files, which are not copied. `run` on the merged store computes what is missing."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "store", metavar="STORE", nargs="+", help="a folder that `run` filled, or an address (s3://bucket/results)"
    )
    parser.add_argument(
        "--into",
        required=True,
        metavar="STORE",
        type=Path,
        help="a store on this machine; a new folder is made if it does not exist",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    from ..store.merge import merge
    from .output import keeping, print_json

    with keeping(lambda: f"what was copied is in {options.into}, and the same command copies the rest"):
        done = merge(options.store, options.into)
    if options.json:
        print_json(done.as_json())
    else:
        print(done)
    return 0 if done.clean else 1
