"""What ``circuitmeter`` does: one verb a file.

Each has ``NAME``, ``HELP``, ``EPILOG``, ``add_arguments(parser)`` and ``run(options) -> exit status``. A verb imports
what it needs inside ``run``, so that ``--help`` stays fast.
"""

from __future__ import annotations

from . import (
    check,
    compare,
    convert,
    discover,
    evaluate,
    listing,
    merge,
    plan,
    report,
    reproduce,
    run,
    sensitivity,
    show,
    stability,
    train_dictionary,
    truth,
    validate,
)

VERBS = (
    listing,
    plan,
    run,
    report,
    check,
    merge,
    validate,
    discover,
    evaluate,
    sensitivity,
    convert,
    compare,
    stability,
    reproduce,
    truth,
    show,
    train_dictionary,
)
