"""Programs that count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .program import Value, program


def n_before(rasp: Any, counts: Any) -> Any:
    """How many earlier tokens ``counts(earlier, this)``."""
    pair = rasp.SequenceMap(lambda token, i: (token, i), rasp.tokens, rasp.indices).named("pair")
    return rasp.SelectorWidth(rasp.Select(pair, pair, lambda k, q: counts(k[0], q[0]) and k[1] < q[1]))


def number_of(rasp: Any, sop: Any, value: Value) -> Any:
    """How often ``sop`` has a value in the sequence; every token asks, so that padding is not counted."""
    return rasp.SelectorWidth(rasp.Select(sop, rasp.tokens, lambda k, q: k is not None and k == value))


@program("abc", 5, lambda x: [len(x)] * len(x), domains=("variable",))
def length(rasp, lib):
    """The number of tokens, at every position."""
    return lib.make_length()


@program("abc", 5, lambda x: [x.count(token) == 1 for token in x])
def is_unique(rasp, lib):
    """Whether the token occurs once only."""
    return (lib.make_hist().named("hist") == 1).named("is_unique")


@program("abc", 5, lambda x: [token not in x[:i] for i, token in enumerate(x)], causal=True)
def first_occurrence(rasp, lib):
    """Whether the token has not come before."""
    return (n_before(rasp, lambda a, b: a == b).named("n_earlier") == 0).named("first_occurrence")


@program((1, 2, 3), 5, lambda x: [all(earlier < token for earlier in x[:i]) for i, token in enumerate(x)], causal=True)
def record(rasp, lib):
    """Whether the token is greater than all before it."""
    return (n_before(rasp, lambda a, b: a >= b).named("n_not_less") == 0).named("record")


@program("abc", 5, lambda x: [len(set(x))] * len(x))
def count_distinct(rasp, lib):
    """How many different tokens there are, at every position."""
    n_earlier = n_before(rasp, lambda a, b: a == b).named("n_earlier")
    # Padding is preceded by nothing that equals it, so the token is asked as well: padding is no token.
    first = rasp.SequenceMap(lambda n, token: n == 0, n_earlier, rasp.tokens).named("first")
    return number_of(rasp, first, True).named("count_distinct")


@program((1, 2, 3, 4), 4, lambda x: [len(set(x)) == len(x)] * len(x))
def all_distinct(rasp, lib):
    """Whether no token occurs twice, at every position."""
    again = (n_before(rasp, lambda a, b: a == b).named("n_earlier") > 0).named("again")
    return (number_of(rasp, again, True).named("n_again") == 0).named("all_distinct")


@program("abc", 4, lambda x: [len(set(x)) == 1] * len(x))
def all_equal(rasp, lib):
    """Whether all tokens are the same, at every position: two heads of one layer count."""
    return rasp.SequenceMap(lambda a, n: a == n, lib.make_hist(), lib.make_length()).named("all_equal")


@program((0, 1), 6, lambda x: [sum(x) % 2] * len(x))
def parity_ones(rasp, lib):
    """Whether the number of ones is odd, at every position."""
    return rasp.Map(lambda n: n % 2, lib.make_count(rasp.tokens, 1)).named("parity_ones")


@program((0, 1), 6, lambda x: [sum(x[: i + 1]) % 2 for i in range(len(x))], causal=True)
def prefix_parity(rasp, lib):
    """Whether the number of ones so far is odd."""
    return rasp.Map(lambda n: n % 2, lib.make_count(rasp.tokens, 1)).named("prefix_parity")


@program("abc", 5, lambda x: [(x.count("a") > x.count("b")) - (x.count("a") < x.count("b"))] * len(x))
def compare_ab(rasp, lib):
    """Whether a is more frequent than b (1), less (-1), or neither: two heads of one layer count."""
    a, b = lib.make_count(rasp.tokens, "a"), lib.make_count(rasp.tokens, "b")
    return rasp.SequenceMap(lambda a, b: (a > b) - (a < b), a, b).named("compare_ab")


@program("abc", 4, lambda x: [max("abc", key=x.count)] * len(x))
def most_frequent(rasp, lib):
    """The most frequent token, the first in the alphabet of several: three heads of one layer count."""
    a, b, c = (lib.make_count(rasp.tokens, token) for token in "abc")
    better = rasp.SequenceMap(lambda a, b: ("a", a) if a >= b else ("b", b), a, b).named("better")
    return rasp.SequenceMap(lambda best, c: best[0] if best[1] >= c else "c", better, c).named("most_frequent")


@program("abc", 5, lambda x: [x.count("a") / len(x)] * len(x))
def fraction_a(rasp, lib):
    """The fraction of tokens that are a, at every position."""
    everyone = rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.TRUE)
    return rasp.numerical(rasp.Aggregate(everyone, rasp.numerical(rasp.tokens == "a"), default=0)).named("fraction_a")


@program("abc", 5, lambda x: [x[: i + 1].count("a") > 0 for i in range(len(x))], causal=True)
def seen_a(rasp, lib):
    """Whether an a has come so far."""
    share = lib.make_frac_prevs((rasp.tokens == "a").named("is_a"))
    return (share > 0).named("seen_a")


def _bigrams(x: Sequence[Value]) -> list[tuple]:
    return list(zip(x, x[1:], strict=False))


@program("ab", 6, lambda x: [_bigrams(x).count(("a", "b"))] * len(x))
def count_ab(rasp, lib):
    """How often b follows a, at every position."""
    before = lib.shift_by(1, rasp.tokens).named("before")
    found = rasp.SequenceMap(lambda b, t: (b, t) == ("a", "b"), before, rasp.tokens).named("found")
    return number_of(rasp, found, True).named("count_ab")


@program("ab", 6, lambda x: [None, *(_bigrams(x).count(pair) for pair in _bigrams(x))])
def bigram_count(rasp, lib):
    """How often this token and the one before occur together; undefined at the first position."""
    before = lib.shift_by(1, rasp.tokens).named("before")
    pair = rasp.SequenceMap(lambda b, t: (b, t), before, rasp.tokens).named("pair")
    return rasp.SelectorWidth(rasp.Select(pair, pair, lambda k, q: None not in (k, q) and k == q)).named("bigram_count")
