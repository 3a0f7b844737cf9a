"""What ``circuitmeter`` does: one verb per file.

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
    submit,
    train_dictionary,
    truth,
    validate,
)

# In the groups and the order of `circuitmeter --help`.
GROUPS = {
    "look around": (listing, show),
    "measure methods over a benchmark": (validate, plan, run, report, check, merge, submit, reproduce),
    "find and judge one circuit": (discover, evaluate, sensitivity, stability, compare, convert),
    "make models": (truth, train_dictionary),
}
VERBS = tuple(verb for group in GROUPS.values() for verb in group)
