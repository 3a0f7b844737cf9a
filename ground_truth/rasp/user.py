"""A RASP program of a user's own: loaded, interpreted, compiled, checked against its interpreter, and why not if not.

What a program computes is what Tracr's interpreter says it does; that is its specification. Needs the ``[tracr]``
extra.
"""

from __future__ import annotations

import inspect
import itertools
import random
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from ...suite.errors import LONGEST_QUOTE, ModelError, SpecError, one_line, unknown
from ...suite.reading import shown
from ...suite.users_file import file_and_name, imported
from .check import check_port, check_specification
from .compile import Compiled, compile_rasp, tracr_modules
from .domain import SHORTEST, Domain, domain_of
from .program import Value

LONGEST_WIDTH = 9  # the longest sequence on which Tracr's selector widths are right: on 10 tokens they count 9
MOST_INPUTS = 4_096  # that are enumerated; beyond, a sample has to be asked for


def load_program(where: str) -> tuple[Any, str]:
    """The program ``FILE.py:FUNCTION``, and what its docstring says in its first line.

    ``FUNCTION`` is a function of nothing, or of Tracr's modules ``(rasp, lib)``, that returns an SOp; or an SOp.

    Raises:
        ModelError: Tracr is not installed.
        SpecError: no such file or function, or one that fails or returns something else.
    """
    rasp, lib = tracr_modules()
    path, name = file_and_name(where, "program", SpecError)
    rasp.RASPExpr._ids = itertools.count(1)
    module = imported(path, "circuitmeter_user_program", SpecError)
    made = getattr(module, name, None)
    if made is None:
        known = [key for key, value in vars(module).items() if inspect.isfunction(value) or isinstance(value, rasp.SOp)]
        raise SpecError(f"{path}: {unknown('function', name, known)}")
    about = (inspect.getdoc(made) or "").split("\n")[0] if inspect.isfunction(made) else ""
    if inspect.isfunction(made):
        try:
            made = made(rasp, lib) if inspect.signature(made).parameters else made()
        except (Exception, SystemExit) as error:  # whatever a user's function raises is the answer to give
            raise SpecError(f"{where} raised {type(error).__name__}: {one_line(error, LONGEST_QUOTE)}.") from error
    if not isinstance(made, rasp.SOp):
        raise SpecError(f"{where} gives a {type(made).__name__}; a program is an SOp, of tracr.rasp.rasp.")
    return made, about


def interpreter(sop: Any, causal: bool) -> Callable[[list[Value]], list[Value]]:
    """What the program computes by Tracr's interpreter: list of tokens -> list of outputs."""
    from tracr.rasp import causal_eval

    return (lambda x: causal_eval.evaluate(sop, x)) if causal else (lambda x: list(sop(x)))


def sequences(
    vocabulary: Sequence[Value], max_len: int, *, fixed: bool, sample: int | None
) -> tuple[list[tuple], bool]:
    """The sequences of the domain, and whether they are all of it: a seeded sample has each length equally often, or as
    often as there are sequences of that length.

    Raises:
        SpecError: there are too many sequences to enumerate, and no sample was asked for.
    """
    lengths = [max_len] if fixed else list(range(SHORTEST, max_len + 1))
    sizes = [len(vocabulary) ** length for length in lengths]
    if sample is None or sample >= sum(sizes):
        if sum(sizes) > MOST_INPUTS:
            raise SpecError(
                f"{len(vocabulary)} tokens make {sum(sizes):,} sequences of up to {max_len}, and {MOST_INPUTS:,} are "
                f"enumerated at most; take fewer tokens or a smaller length, or certify a sample with --sample 2000 "
                f"(edges that matter on no sampled input are then missed)."
            )
        return [x for length in lengths for x in itertools.product(vocabulary, repeat=length)], True
    generator, chosen = random.Random(0), []
    for length, size in zip(lengths, sizes, strict=True):
        wanted = min(size, -(-sample // len(lengths)))
        found: dict[tuple, None] = {}
        while len(found) < wanted:
            found[tuple(vocabulary[int(generator.random() * len(vocabulary))] for _ in range(length))] = None
        chosen += sorted(found, key=str)
    return chosen, False


def why_not_as_many(
    vocabulary: Sequence[Value], max_len: int, *, fixed: bool, sample: int | None, certified: int
) -> list[str]:
    """Why a domain has another number of inputs than there are sequences or were asked for; one sentence per reason."""
    chosen, enumerated = sequences(vocabulary, max_len, fixed=fixed, sample=sample)
    n, found = len(chosen), []
    if sample is not None and enumerated and sample > n:
        found.append(f"--sample {sample:,}: there are {n:,} sequences, and all are taken.")
    elif sample is not None and sample != n:
        share = -(-sample // len({len(x) for x in chosen}))
        found.append(
            f"--sample {sample:,}: {n:,} sequences are drawn, {share:,} of each length, or all where there are fewer."
        )
    if certified < n:
        found.append(f"On {n - certified:,} of {n:,} sequences the program defines no output; they are left out.")
    return found


def compile_checked(
    sop: Any,
    vocabulary: Sequence[Value],
    max_len: int,
    *,
    fixed: bool = False,
    causal: bool = False,
    sample: int | None = None,
) -> tuple[Compiled, Domain]:
    """The compiled program and its domain: all sequences of 2 to ``max_len`` tokens, or of ``max_len`` when fixed.

    Args:
        sample: how many of them to draw; all when omitted.

    Raises:
        ModelError: a program that Tracr cannot compile, whose output is constant, or that does not compute in the
            model what it computes in the interpreter; with the reason, where it is a known one.
    """
    rasp, _ = tracr_modules()
    if max_len > LONGEST_WIDTH and any(isinstance(part, rasp.SelectorWidth) for part in parts(sop)):
        raise ModelError(
            f"the program counts with a selector width, which Tracr makes exact up to {LONGEST_WIDTH} tokens (a width "
            f"of 10 comes out as 9), and --max-len is {max_len}; give --max-len {LONGEST_WIDTH} or less."
        )
    joined = next((part for part in parts(sop) if isinstance(part, rasp.SelectorAnd | rasp.SelectorOr)), None)
    if joined is not None:
        raise ModelError(
            f"{joined.name!r} joins two selectors by 'and' or 'or', which Tracr's compiler cannot; make one selector "
            f"of them, over a SequenceMap of what they compare."
        )
    turned = next((part for part in parts(sop) if isinstance(part, rasp.SelectorNot)), None)
    if turned is not None:
        raise ModelError(
            f"{turned.name!r} turns a selector around by 'not', which Tracr's compiler cannot; turn the predicate of "
            f"its Select around, such as Comparison.NEQ for EQ, or lambda k, q: not ... ."
        )
    inputs, enumerated = sequences(vocabulary, max_len, fixed=fixed, sample=sample)
    evaluate = interpreter(sop, causal)
    try:
        outputs = [tuple(evaluate(list(x))) for x in inputs]
    except (Exception, SystemExit) as error:  # of the lambdas in a user's program
        raise ModelError(
            f"the program fails in Tracr's interpreter: {type(error).__name__}: {one_line(error, LONGEST_QUOTE)}."
        ) from error
    other = next((value for row in outputs for value in row if not isinstance(value, Hashable)), None)
    if other is not None:
        raise ModelError(
            f"the program gives {shown(other)}, a {type(other).__name__}; its values are texts, numbers, true or false."
        )
    _check_varies(outputs)
    if not any(
        isinstance(part, rasp.Map | rasp.SequenceMap | rasp.Aggregate | rasp.SelectorWidth) for part in parts(sop)
    ):
        raise ModelError(
            "a program that only copies its tokens compiles to no layer, so that there is no circuit to find; certify "
            "one that computes something, such as a Map of its tokens."
        )
    compiled = compile_rasp(sop, vocabulary, max_len, causal=causal)
    special = (compiled.tokens, compiled.bos, compiled.pad)
    domain = domain_of("fixed" if fixed else "variable", inputs, outputs, *special, enumerated=enumerated)
    check_port(compiled, domain.tokens)
    computed = dict(zip(inputs, outputs, strict=True))
    try:
        check_specification(compiled, domain, lambda x: computed[tuple(x)])
    except ModelError as difference:
        raise ModelError(f"{_why(sop, inputs, causal)} ({difference})") from difference
    return compiled, domain


def _check_varies(outputs: Sequence[tuple]) -> None:
    """Raises ModelError when no position's output ever differs between inputs."""
    seen: dict[int, set] = {}
    for row in outputs:
        for position, value in enumerate(row):
            if value is not None:
                seen.setdefault(position, set()).add(value)
    if not any(len(values) > 1 for values in seen.values()):
        what = "is undefined on every input" if not seen else "does not depend on the input"
        raise ModelError(f"the program's output {what}, so no edge can be told to matter; certify another program.")


def _why(sop: Any, inputs: Sequence[tuple], causal: bool) -> str:
    """The known reason for which the model does not do what the interpreter does."""
    rasp, _ = tracr_modules()

    def values(part: Any) -> Iterator[tuple[Value, list[Value]]]:
        for x in inputs:
            yield from ((value, list(x)) for value in interpreter(part, causal)(list(x)) if value is not None)

    for part in parts(sop):
        if isinstance(part, rasp.LinearSequenceMap) or not isinstance(part, rasp.Map | rasp.SequenceMap):
            continue
        inner = part.inner if isinstance(part, rasp.Map) else None
        if inner is not None and rasp.is_numerical(inner):
            for value, x in values(inner):
                if value and (value < 0 or abs(1 / value - round(1 / value)) > 1e-9):
                    return (
                        f"the map {part.name!r} reads the number {value:g} on {x}, and Tracr compiles maps of averages "
                        f"for 0, 1, 1/2, 1/3, ... only; compare averages with 0, or count with a selector width."
                    )
        elif rasp.is_numerical(part):
            for value, x in values(part):
                if value < 0:
                    return (
                        f"the numerical map {part.name!r} gives {value:g} on {x}, and the model clips negative numbers "
                        f"to 0; add a constant to it, or make it categorical."
                    )
    for part in parts(sop):
        if isinstance(part, rasp.SOp) and _undefined_query(part, sop, inputs, causal):
            return (
                f"a selector asks with {part.name!r}, which is undefined on some input, and selects nothing there; "
                f"ask with something that is defined everywhere, such as the tokens."
            )
    return "the compiled model does not compute what Tracr's interpreter of the program does; change the program."


def _undefined_query(part: Any, sop: Any, inputs: Sequence[tuple], causal: bool) -> bool:
    rasp, _ = tracr_modules()
    asks = any(isinstance(other, rasp.Select) and other.queries is part for other in parts(sop))
    return asks and any(None in interpreter(part, causal)(list(x)) for x in inputs)


def parts(sop: Any) -> Iterator[Any]:
    """Every expression that a program is made of, itself first, each once."""
    waiting, seen = [sop], set()
    while waiting:
        part = waiting.pop()
        if id(part) not in seen:
            seen.add(id(part))
            yield part
            waiting += part.children
