"""What a RASP program is: one function that builds it, and one Python function that says what it computes.

A program's name is its function's name and its description the docstring. ``rasp`` and ``lib`` are Tracr's modules,
handed in by the compiler, so that nothing here imports Tracr. Rules that Tracr leaves to the author, and that these
programs keep: numerical maps never see a negative number; a selector never queries with a value that may be None and
matter; every length is at most 9, up to which Tracr's selector widths are exact; ``lib.length`` is one shared object
with a memory of earlier compilations, so programs that need the length make their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Value = int | float | str | bool | None


@dataclass(frozen=True)
class Program:
    """A RASP program and all that is needed to compile and check it.

    Args:
        build: ``(rasp, lib) -> SOp``, the program in terms of Tracr's ``tracr.rasp.rasp`` and ``tracr.compiler.lib``.
        specification: the same function in Python, ``list of tokens -> list of outputs``; None where undefined.
        vocabulary: the tokens.
        max_len: the longest sequence of tokens; the model's positions are one more, for the BOS token.
        causal: whether the model is compiled with causal attention.
        domains: the kinds of inputs that it is certified on, the default first (see ``Domain``).
    """

    name: str
    description: str
    build: Callable[[Any, Any], Any]
    specification: Callable[[Sequence[Value]], list[Value]]
    vocabulary: tuple[Value, ...]
    max_len: int
    causal: bool = False
    domains: tuple[str, ...] = ("variable", "fixed")


PROGRAMS: dict[str, Program] = {}


def program(
    vocabulary: Sequence[Value],
    max_len: int,
    specification: Callable,
    *,
    causal: bool = False,
    domains: Sequence[str] = ("variable", "fixed"),
) -> Callable:
    """Decorator: registers ``build(rasp, lib)`` as the program of its name. The arguments are those of Program."""

    def register(build: Callable) -> Callable:
        name = build.__name__
        about = (build.__doc__ or "").strip()
        PROGRAMS[name] = Program(name, about, build, specification, tuple(vocabulary), max_len, causal, tuple(domains))
        return build

    return register
