"""``circuitmeter plan``: what a benchmark still needs; computes nothing."""

from __future__ import annotations

import argparse

from .arguments import add_benchmark, add_json

NAME = "plan"
HELP = "Show which cells of a benchmark are done, missing or undefined (and why), and how long the missing ones take."
EPILOG = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_benchmark(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    from ..plan.plan import plan
    from ..plan.spec import Spec
    from .arguments import store_of
    from .output import print_json, print_lines

    spec = Spec.load(options.spec)
    found = plan(spec, store_of(options, spec), only=options.only or ())
    if options.json:
        print_json(found.as_json())
    else:
        print_lines(str(found))
    return 0
