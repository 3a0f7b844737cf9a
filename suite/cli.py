"""The ``circuitmeter`` command: its grammar, its errors, its exit status.

Nothing heavy is imported here: ``circuitmeter --help`` answers at once, and a verb imports what it needs when it runs.
Exit status: 0 done, 1 done but some cell failed, 2 the request was wrong, 130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from shutil import get_terminal_size
from typing import Any, NoReturn

from .errors import CircuitMeterError, SpecError, one_line
from .reading import shown
from .verbs import GROUPS, VERBS

_DESCRIPTION = (
    "Tells whether a circuit-discovery method works: on models whose circuits are known, under every ablation."
)
_WORDS = {
    "edge": "from what one component writes to what another reads; a circuit is a set of edges",
    "ablation": "what a cut edge carries instead: nothing, a mean, the counterfactual prompt's activation, ...",
    "objective": "the number a circuit is to keep, such as the logit difference",
    "cell": "one method on one task under one ablation, objective and seed: what a benchmark consists of",
    "setting": "everything that a faithfulness depends on: what is cut, how, and how it is summed up",
}
_EXAMPLE = "circuitmeter run quick, the quick benchmark and its report (no download, no GPU, two minutes)."
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
BROKEN_PIPE = 141  # 128 + SIGPIPE


class _Help(argparse.HelpFormatter):
    """Help that breaks no word at a hyphen, because flags and names of models are full of them."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = textwrap.wrap(" ".join(text.split()), width - len(indent), break_on_hyphens=False)
        return textwrap.indent("\n".join(lines), indent)


class Parser(argparse.ArgumentParser):
    """Raises instead of printing its usage: every error of the command is one line.

    A value may begin with a minus sign and a digit, whatever follows: ``--vocab -2,-1,0``.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"formatter_class": _Help} | options)
        self._negative_number_matcher = re.compile(r"^-\.?[0-9]")

    def error(self, message: str) -> NoReturn:
        if match := re.match(r"argument (?:\S+/)?(--\S+): expected (one|at least one) argument", message):
            message = f"{match[0]}; a value that begins with - is written {match[1]}=VALUE"
        raise SpecError(f"{message}; `{self.prog} --help` says more.")


class WholeCommand(Parser):
    """The command itself, whose help lists its verbs in groups and explains five words."""

    def format_help(self) -> str:
        width = min(get_terminal_size().columns, 120) - 2
        groups = {title: {verb.NAME: verb.HELP for verb in verbs} for title, verbs in GROUPS.items()}
        parts = [
            f"{self.format_usage()}\n{textwrap.fill(_DESCRIPTION, width)}",
            *(_listed(title, entries, width) for title, entries in groups.items()),
            _listed("words", _WORDS, width),
            textwrap.fill(f"{self.prog} VERB --help says more. For example: {self.epilog}", width),
        ]
        return "\n\n".join(parts) + "\n"


def _listed(title: str, entries: Mapping[str, str], width: int) -> str:
    """A heading, and below it names with what is said of each, wrapped."""
    lines = [f"{title}:"]
    for name, text in entries.items():
        lines += textwrap.wrap(text, width, initial_indent=f"  {name:<18}", subsequent_indent=" " * 20)
    return "\n".join(lines)


def build_parser() -> Parser:
    """The grammar: one subcommand a verb."""
    from circuitmeter import __version__

    parser = WholeCommand(prog="circuitmeter", description=_DESCRIPTION, epilog=_EXAMPLE, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"circuitmeter {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    for verb in VERBS:
        sub = verbs.add_parser(verb.NAME, help=verb.HELP, description=verb.HELP, epilog=verb.EPILOG, allow_abbrev=False)
        verb.add_arguments(sub)
        sub.set_defaults(run=verb.run)
    return parser


class _OnStderr(logging.Handler):
    """What a library has to say while it works (a model is converted), a line each."""

    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), file=sys.stderr, flush=True)


def refuse_empty_and_renamed(arguments: Sequence[str]) -> None:
    """Raises SpecError for an argument without content, and for a flag that has another name now, with that name."""
    for before, argument in zip(("", *arguments), arguments, strict=False):
        if not argument.strip() or (argument.startswith("--") and argument.endswith("=")):
            raise SpecError(
                f"{argument.strip().rstrip('=') or before or 'the first argument'} is empty; give it a value."
            )
    verb = next((verb for verb in VERBS if arguments and verb.NAME == arguments[0]), None)
    name = "" if verb is None else verb.NAME
    for argument in arguments:
        flag, _, value = argument.partition("=")
        for old, new in getattr(verb, "RENAMED", {}).items():
            if flag == old:
                raise SpecError(f"{old} of {name} is called {new} now; write {new}{f'={value}' if value else ''}.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status; the request's mistakes are one line on stderr."""
    log = logging.getLogger("circuitmeter")
    log.setLevel(logging.INFO)
    log.handlers = [_OnStderr()]
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a file name may hold what the terminal's encoding has not
            stream.reconfigure(errors="backslashreplace")
    try:
        refuse_empty_and_renamed(sys.argv[1:] if arguments is None else arguments)
        options, left_over = build_parser().parse_known_args(arguments)
        if left_over:  # argparse would point to the help of the whole command
            raise SpecError(
                f"unrecognized arguments: {' '.join(left_over)}; `circuitmeter {options.verb} --help` says more."
            )
        status = options.run(options)
        sys.stdout.flush()
        return status
    except CircuitMeterError as error:
        print("circuitmeter:", one_line(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt as interruption:  # what a verb keeps, it says (output.keeping)
        kept = interruption.args[0] if interruption.args else "nothing was written"
        print(f"circuitmeter: interrupted; {one_line(kept)}.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`| head`). Python would complain again when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:  # of a name that no file can have, a full disk, a folder that cannot be written
        where = "" if error.filename is None else f" {shown(error.filename, 200)}"
        print(f"circuitmeter: cannot use{where or ' a file'}: {error.strerror or one_line(error)}.", file=sys.stderr)
        return 2
    except MemoryError:
        print(
            "circuitmeter: this asks for more memory than there is; give fewer prompts or a smaller model.",
            file=sys.stderr,
        )
        return 2
