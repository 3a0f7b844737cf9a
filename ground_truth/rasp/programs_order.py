"""Programs about order: sorting, ranks, and what can be read off a sorted sequence."""

from __future__ import annotations

from typing import Any

from .program import program
from .programs_counting import number_of
from .programs_position import at


def sorted_tokens(rasp: Any, lib: Any, max_len: int, *, keys: Any = None) -> Any:
    """The tokens by increasing key, which is the token itself when none is given."""
    keys = rasp.tokens if keys is None else keys
    return lib.make_sort(rasp.tokens, keys, max_seq_len=max_len, min_key=1)


@program((1, 2, 3, 4), 4, lambda x: [sum(other < token for other in x) for token in x])
def rank(rasp, lib):
    """How many tokens are less than this one."""
    return rasp.SelectorWidth(rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.LT)).named("rank")


@program((1, 2, 3, 4, 5), 4, lambda x: sorted(x) if len(set(x)) == len(x) else [None] * len(x))
def sort_unique(rasp, lib):
    """The tokens in increasing order; undefined where one occurs twice."""
    return lib.make_sort_unique(rasp.tokens, rasp.tokens)


@program((1, 2, 3), 5, lambda x: sorted(x, reverse=True))
def sort_descending(rasp, lib):
    """The tokens in decreasing order."""
    keys = rasp.Map(lambda x: 4 - x, rasp.tokens).named("keys")
    return sorted_tokens(rasp, lib, 5, keys=keys).named("sort_descending")


@program((1, 2, 3), 5, lambda x: [max(x)] * len(x))
def maximum(rasp, lib):
    """The greatest token, at every position: the last of the sorted ones."""
    last = (lib.make_length() - 1).named("last")
    return at(rasp, last, sorted_tokens(rasp, lib, 5)).named("maximum")


@program((1, 2, 3), 5, lambda x: [sorted(x)[(len(x) - 1) // 2]] * len(x))
def median(rasp, lib):
    """The lower median of the tokens, at every position: the middle of the sorted ones."""
    middle = rasp.Map(lambda n: (n - 1) // 2, lib.make_length()).named("middle")
    return at(rasp, middle, sorted_tokens(rasp, lib, 5)).named("median")


@program((1, 2, 3), 4, lambda x: [max(x) - min(x)] * len(x))
def spread(rasp, lib):
    """The greatest minus the smallest token: two heads of one layer read the ends of the sorted sequence."""
    ordered = sorted_tokens(rasp, lib, 4)
    first = rasp.Select(rasp.indices, rasp.indices, lambda k, q: k == 0)
    smallest = rasp.Aggregate(first, ordered).named("smallest")
    greatest = at(rasp, (lib.make_length() - 1).named("last"), ordered).named("greatest")
    return rasp.SequenceMap(lambda a, b: b - a, smallest, greatest).named("spread")


@program("abc", 4, lambda x: [sorted(x, key=lambda token: -x.count(token))[0]] * len(x))
def modal_token(rasp, lib):
    """The first of the most frequent tokens, at every position: seven layers deep."""
    first = rasp.Select(rasp.indices, rasp.indices, lambda k, q: k == 0)
    return rasp.Aggregate(first, lib.make_sort_freq(max_seq_len=4)).named("modal_token")


@program((1, 2, 3, 4), 4, lambda x: [all(a < b for a, b in zip(x, x[1:], strict=False))] * len(x))
def check_increasing(rasp, lib):
    """Whether every token is greater than the one before, at every position."""
    before = lib.shift_by(1, rasp.tokens).named("before")
    falls = rasp.SequenceMap(lambda b, t: b >= t, before, rasp.tokens).named("falls")
    return (number_of(rasp, falls, True).named("n_falls") == 0).named("check_increasing")


@program((0, 1), 6, lambda x: [all(a != b for a, b in zip(x, x[1:], strict=False))] * len(x))
def alternating(rasp, lib):
    """Whether no token equals the one before, at every position."""
    before = lib.shift_by(1, rasp.tokens).named("before")
    repeats = rasp.SequenceMap(lambda b, t: b == t, before, rasp.tokens).named("repeats")
    return (number_of(rasp, repeats, True).named("n_repeats") == 0).named("alternating")
