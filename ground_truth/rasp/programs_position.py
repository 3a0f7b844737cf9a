"""Programs about which token stands where: neighbours, ends, shifts and pointers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .program import Value, program


def at(rasp: Any, position: Any, sop: Any) -> Any:
    """The value of ``sop`` at the position that each token asks for."""
    return rasp.Aggregate(rasp.Select(rasp.indices, position, rasp.Comparison.EQ), sop)


def beside(rasp: Any, offset: int) -> Any:
    """The token ``offset`` places to the right; undefined beyond the end."""
    there = rasp.Select(rasp.indices, rasp.indices, lambda k, q: k == q + offset)
    return rasp.Aggregate(there, rasp.tokens)


def inside(
    function: Callable[[Value, Value, Value], Value],
) -> Callable[[Sequence[Value]], list[Value]]:
    """A function of a token and its two neighbours, undefined at the ends."""
    return lambda x: [
        function(*x[i - 1 : i + 2]) if 0 < i < len(x) - 1 else None  # type: ignore[arg-type]
        for i in range(len(x))
    ]


@program("abc", 5, lambda x: list(x), causal=True)
def identity(rasp, lib):
    """The token itself: the control, of two edges."""
    return rasp.Map(lambda x: x, rasp.tokens).named("identity")


@program("abcd", 5, lambda x: [None, *x[:-1]], causal=True)
def shift1(rasp, lib):
    """The token before; undefined at the first position."""
    return lib.shift_by(1, rasp.tokens)


@program("abc", 5, lambda x: [None, None, *x[:-2]], causal=True)
def shift2(rasp, lib):
    """The token two before; undefined at the first two positions."""
    return lib.shift_by(2, rasp.tokens)


@program("abc", 5, lambda x: [*x[1:], None])
def next_token(rasp, lib):
    """The token after; undefined at the last position."""
    return beside(rasp, 1).named("next_token")


@program("abc", 5, lambda x: [x[0]] * len(x))
def first_token(rasp, lib):
    """The first token, at every position."""
    first = rasp.Select(rasp.indices, rasp.indices, lambda k, q: k == 0)
    return rasp.Aggregate(first, rasp.tokens).named("first_token")


@program("abc", 5, lambda x: [x[-1]] * len(x))
def last_token(rasp, lib):
    """The last token, at every position."""
    return at(rasp, (lib.make_length() - 1).named("last"), rasp.tokens).named("last_token")


@program("abc", 5, lambda x: [*x[1:], x[0]])
def rotate(rasp, lib):
    """The sequence turned by one place: the last position holds the first token."""
    length = lib.make_length()
    after = rasp.SequenceMap(lambda n, i: (i + 1) % n if n else 0, length, rasp.indices).named("after")
    return at(rasp, after, rasp.tokens).named("rotate")


@program("abc", 5, lambda x: [token == opposite for token, opposite in zip(x, x[::-1], strict=True)])
def mirror(rasp, lib):
    """Whether the token equals the one at the opposite place."""
    opposite = (lib.make_length().named("length") - rasp.indices - 1).named("opposite")
    return rasp.SequenceMap(lambda a, b: a == b, rasp.tokens, at(rasp, opposite, rasp.tokens)).named("mirror")


def _followed(x: Sequence[Value], times: int) -> list[Value]:
    def follow(i: int, left: int) -> Value:
        return x[i] if left == 0 else follow(x[i], left - 1) if x[i] < len(x) else None

    return [follow(i, times) for i in range(len(x))]


@program((0, 1, 2, 3), 4, lambda x: _followed(x, 1))
def pointer(rasp, lib):
    """The token at the position that the token names, x[x[i]]; undefined where there is no such position."""
    return at(rasp, rasp.tokens, rasp.tokens).named("pointer")


@program((0, 1, 2, 3), 4, lambda x: _followed(x, 2))
def pointer_twice(rasp, lib):
    """x[x[x[i]]]: what one head finds is what the next one looks for."""
    once = at(rasp, rasp.tokens, rasp.tokens).named("once")
    return at(rasp, once, rasp.tokens).named("pointer_twice")


@program((0, 1, 2, 3), 4, lambda x: _followed(x, 3))
def pointer_thrice(rasp, lib):
    """x[x[x[x[i]]]]: a chain of three heads."""
    once = at(rasp, rasp.tokens, rasp.tokens).named("once")
    twice = at(rasp, once, rasp.tokens).named("twice")
    return at(rasp, twice, rasp.tokens).named("pointer_thrice")


@program("abc", 5, lambda x: [None, *(pair == ("a", "b") for pair in zip(x, x[1:], strict=False))], causal=True)
def detect_ab(rasp, lib):
    """Whether the last two tokens are a, b; undefined at the first position."""
    return lib.detect_pattern(rasp.tokens, "ab")


@program("abc", 5, lambda x: [None, *("_" if b == a else b for a, b in zip(x, x[1:], strict=False))], causal=True)
def remove_consec_dups(rasp, lib):
    """Each token, or _ where it repeats the one before; undefined at the first position."""
    before = lib.shift_by(1, rasp.tokens).named("before")
    return rasp.SequenceMap(lambda b, t: "_" if b == t else t, before, rasp.tokens).named("remove_consec_dups")


@program((1, 2, 3), 5, inside(lambda a, b, c: b > a and b > c))
def peak(rasp, lib):
    """Whether the token is greater than both of its neighbours, which two heads of one layer fetch."""
    left = rasp.SequenceMap(lambda a, b: b > a, beside(rasp, -1).named("left"), rasp.tokens).named("above_left")
    right = rasp.SequenceMap(lambda c, b: b > c, beside(rasp, 1).named("right"), rasp.tokens).named("above_right")
    return (left & right).named("peak")


@program("abc", 5, inside(lambda a, b, c: a == c))
def equal_neighbours(rasp, lib):
    """Whether the two neighbours are equal."""
    left, right = beside(rasp, -1).named("left"), beside(rasp, 1).named("right")
    return rasp.SequenceMap(lambda a, c: a == c, left, right).named("equal_neighbours")


@program((0, 1), 6, inside(lambda a, b, c: a + b + c))
def window_sum(rasp, lib):
    """The sum of the token and its two neighbours."""
    left, right = beside(rasp, -1).named("left"), beside(rasp, 1).named("right")
    outer = rasp.SequenceMap(lambda a, c: (a, c), left, right).named("outer")
    return rasp.SequenceMap(lambda ac, b: sum(ac) + b, outer, rasp.tokens).named("window_sum")
