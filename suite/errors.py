"""The mistakes a user can make. Each message says what was given, what is allowed and what to do next.

The command line prints them as one line and exits with status 2; only bugs print a traceback.
"""

from __future__ import annotations

import difflib
import functools
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import ParamSpec

# Characters of a message, of another program's message that it quotes, and of a word; what is given may be longer.
LONGEST_LINE, LONGEST_QUOTE, LONGEST_WORD = 4000, 1000, 200
# So many names are listed where one is unknown; of what `circuitmeter list` lists, these or the few that are nearest.
MOST_NAMES, MOST_OF_LISTED, _FEW_NAMES = 40, 12, 5
_LISTS = {
    "task": "tasks",
    "method": "methods",
    "model": "models",
    "mini model": "models",
    "ground truth": "truths",
    "published circuit": "references",
    "benchmark": "benchmarks",
    "paper": "papers",
    "ablation": "ablations",
    "objective": "objectives",
}
_LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD},}}")
_Arguments = ParamSpec("_Arguments")


class CircuitMeterError(Exception):
    """Base of every error that is the request's fault and not the program's. Its message is one line."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class SpecError(CircuitMeterError):
    """A benchmark specification or a command-line value that means nothing."""


class DataError(CircuitMeterError):
    """Prompts, answers or circuit files that cannot be used as they are."""


class TaskUnaskable(DataError):
    """A task that a model cannot be asked, because its tokenizer lacks the words: nothing is wrong with the request."""


class ModelError(CircuitMeterError):
    """A model that cannot be found, read or converted."""


class ModelAbsent(ModelError):
    """A model of the hub that is not on this machine and cannot be fetched: nothing is wrong with the request."""


class MethodError(CircuitMeterError):
    """A discovery method that cannot be loaded or returned something that is not edge scores."""


class NotFinite(MethodError):
    """A discovery method whose scores are NaN or infinite: its form is right, its numbers are not."""


class StoreError(CircuitMeterError):
    """A results folder that cannot be read or written."""


class WorkerError(CircuitMeterError):
    """Worker processes that cannot be started here, or that end before they begin with anything."""


class Undefined(CircuitMeterError):
    """A combination (method, ablation, objective, task) that has no meaning; the message is the reason."""


def install_extra(name: str) -> str:
    """The command that installs an extra of this package from a clone of its repository; it is on no index."""
    return f"in the clone, .venv/bin/pip install -c requirements/lock.txt '.[{name}]'"


def nearest_name(given: str, names: Sequence[str]) -> str | None:
    """The name that was meant, perhaps: the nearest, where one is near."""
    # A slip in a short name changes much of it: of two letters one may differ, of others about a third.
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.5 if len(given) <= 2 else 0.65)
    return near[0] if near else None


def unknown(kind: str, given: str, known: Iterable[str], hint: str = "", shown: Iterable[str] = ()) -> str:
    """One sentence for a name that does not exist: what was given, the nearest name, the names there are (or those
    ``shown``); of many the first, or where a command lists them the few that are nearest.

    >>> unknown("method", "eapig", ["acdc", "eap-ig"])
    "no method 'eapig'. Did you mean 'eap-ig'? Known: acdc, eap-ig."
    """
    names = sorted(known)
    near = nearest_name(given, names)
    nearest = f" Did you mean {near!r}?" if near else ""
    listed = list(shown or names)
    if kind in _LISTS and len(listed) > MOST_OF_LISTED:
        few = ", ".join(difflib.get_close_matches(given[:LONGEST_WORD], listed, n=_FEW_NAMES, cutoff=0.0))
        all_names = f"`circuitmeter list {_LISTS[kind]}` has all {len(names):,}"
        return f"no {kind} {given!r}.{nearest} There are {few} and others: {all_names}.{' ' + hint if hint else ''}"
    further = f" and {len(listed) - MOST_NAMES} more" if len(listed) > MOST_NAMES else ""
    known = ", ".join(listed[:MOST_NAMES]) or "none"
    return f"no {kind} {given!r}.{nearest} Known: {known}{further}.{' ' + hint if hint else ''}"


def mistakes_in_one_line(main: Callable[_Arguments, int]) -> Callable[_Arguments, int]:
    """The ``main`` of a script (``python -m ...``), with the request's mistakes as one line on stderr and status 2."""

    @functools.wraps(main)
    def guarded(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> int:
        try:
            return main(*args, **kwargs)
        except CircuitMeterError as mistake:
            print(mistake, file=sys.stderr)
            return 2

    return guarded


def one_line(error: object, at_most: int = LONGEST_LINE) -> str:
    """What an error says, or any text, in one line of printable characters, cut where it is too long.

    >>> one_line(ValueError("first\\n second \\x1b[31m"))
    'first second [31m'
    """
    text = str(error)[: 10 * at_most]
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    line = _LONG_WORD.sub(lambda word: f"{word[0][: LONGEST_WORD // 2]}…", line)
    line = line or (type(error).__name__ if isinstance(error, BaseException) else "")
    return line if len(line) <= at_most else f"{line[: at_most - 1]}…"
