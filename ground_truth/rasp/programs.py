"""The RASP programs. The first of them are here, the others in files by subject."""

from __future__ import annotations

from collections.abc import Sequence

from .program import PROGRAMS, Program, Value, program

__all__ = ["PROGRAMS", "Program", "Value"]


@program("wxyz", 5, lambda x: [x[: i + 1].count("x") / (i + 1) for i in range(len(x))])
def xproportion(rasp, lib):
    """The fraction of x among the tokens so far."""
    return lib.make_frac_prevs(rasp.tokens == "x")


@program((1, 2, 3), 5, lambda x: list(x[::-1]))
def reverse(rasp, lib):
    """The sequence backwards."""
    opposite = lib.make_length().named("length") - rasp.indices - 1
    mirrored = rasp.Select(rasp.indices, opposite.named("opposite"), rasp.Comparison.EQ)
    return rasp.Aggregate(mirrored, rasp.tokens).named("reverse")


@program("abc", 5, lambda x: [x.count(token) for token in x])
def hist(rasp, lib):
    """How often each token occurs."""
    return lib.make_hist()


@program("abc", 5, lambda x: [x.count("a")] * len(x))
def count_a(rasp, lib):
    """How many tokens are a, at every position."""
    return lib.make_count(rasp.tokens, "a")


@program((1, 2, 3, 4), 5, lambda x: sorted(x))
def sort(rasp, lib):
    """The tokens in increasing order."""
    return lib.make_sort(rasp.tokens, rasp.tokens, max_seq_len=5, min_key=1)


@program("abc", 5, lambda x: sorted(x, key=lambda token: -x.count(token)))
def sort_freq(rasp, lib):
    """The tokens by decreasing frequency; those of equal frequency in the order of the input."""
    return lib.make_sort_freq(max_seq_len=5)


def _pair_balance(x: Sequence[Value]) -> list[Value]:
    return [(x[: i + 1].count("(") - x[: i + 1].count(")")) / (i + 1) for i in range(len(x))]


@program("()x", 5, _pair_balance, causal=True)
def pair_balance(rasp, lib):
    """Opening minus closing parentheses, as a fraction of the tokens so far."""
    return lib.make_pair_balance(rasp.tokens, "(", ")")


def _balanced(x: Sequence[Value]) -> list[Value]:
    depths = [x[: i + 1].count("(") - x[: i + 1].count(")") for i in range(len(x))]
    return [min(depths) >= 0 and depths[-1] == 0] * len(x)


@program("()", 6, _balanced)
def dyck1(rasp, lib):
    """Whether the parentheses are balanced, at every position."""
    balance = lib.make_pair_balance(rasp.tokens, "(", ")").named("balance")
    negative = rasp.numerical(rasp.Map(lambda x: x, balance < 0)).named("negative")
    everywhere = rasp.Select(rasp.indices, rasp.indices, rasp.Comparison.TRUE)
    ever_negative = rasp.numerical(rasp.Aggregate(everywhere, negative, default=0)).named("ever_negative")
    last = rasp.Select(rasp.indices, lib.make_length() - 1, rasp.Comparison.EQ)
    ends_at_zero = rasp.Aggregate(last, (balance == 0).named("zero")).named("ends_at_zero")
    return (ends_at_zero & (~ever_negative).named("never_negative")).named("dyck1")


def _both_balanced(x: Sequence[Value]) -> list[Value]:
    round_ones = [token if token in "()" else "" for token in x]
    braces = [{"{": "(", "}": ")"}.get(token, "") for token in x]
    return [_balanced(round_ones)[0] and _balanced(braces)[0]] * len(x)


@program("(){}", 4, _both_balanced)
def shuffle_dyck2(rasp, lib):
    """Whether parentheses and braces are both balanced, each kind by itself, at every position."""
    balances = [lib.make_pair_balance(rasp.tokens, *pair).named(f"balance_{pair}") for pair in ("()", "{}")]
    negative = (balances[0] < 0) | (balances[1] < 0)
    negative = rasp.numerical(rasp.Map(lambda x: x, negative)).named("negative")
    everywhere = rasp.Select(rasp.indices, rasp.indices, rasp.Comparison.TRUE)
    ever_negative = rasp.numerical(rasp.Aggregate(everywhere, negative, default=0)).named("ever_negative")
    last = rasp.Select(rasp.indices, lib.make_length() - 1, rasp.Comparison.EQ)
    zero = ((balances[0] == 0) & (balances[1] == 0)).named("zero")
    ends_at_zero = rasp.Aggregate(last, zero).named("ends_at_zero")
    return (ends_at_zero & (~ever_negative).named("never_negative")).named("shuffle_dyck2")


def _detect_abc(x: Sequence[Value]) -> list[Value]:
    return [None if i < 2 else list(x[i - 2 : i + 1]) == ["a", "b", "c"] for i in range(len(x))]


@program("abc", 5, _detect_abc, causal=True)
def detect_abc(rasp, lib):
    """Whether the last three tokens are a, b, c; undefined at the first two positions."""
    return lib.detect_pattern(rasp.tokens, "abc")


@program("abc", 5, lambda x: [sum(x.count(token) <= 2 for token in x)] * len(x))
def count_less_freq2(rasp, lib):
    """How many tokens occur at most twice, at every position."""
    count = lib.make_hist().named("hist")
    # Tracr's own version selects every count up to 2, and so counts padding too, whose token occurs 0 times.
    rare = rasp.Select(count, count, lambda k, q: 1 <= k <= 2)
    return rasp.SelectorWidth(rare).named("count_less_freq2")


@program("ab", 5, lambda x: [list(x) == list(x[::-1])] * len(x))
def palindrome(rasp, lib):
    """Whether the sequence reads the same backwards, at every position."""
    backwards = reverse(rasp, lib)
    equal = rasp.SequenceMap(lambda a, b: a == b, rasp.tokens, backwards).named("equal")
    differing = rasp.Select(equal, equal, lambda k, q: k is False or k == 0)
    return (rasp.SelectorWidth(differing).named("n_differing") == 0).named("palindrome")


@program((1, 2, 3), 5, lambda x: [(b > a) - (b < a) for a, b in zip(x, x[1:], strict=False)] + [None])
def trend(rasp, lib):
    """The sign of the step to the next token; undefined at the last position."""
    after = rasp.Aggregate(rasp.Select(rasp.indices, rasp.indices, lambda k, q: k == q + 1), rasp.tokens).named("after")
    return rasp.SequenceMap(lambda b, a: (b > a) - (b < a), after, rasp.tokens).named("trend")


@program("ab", 5, lambda x: [2 * x.count("a") > len(x)] * len(x))
def majority_a(rasp, lib):
    """Whether more than half of the tokens are a, at every position."""
    count = lib.make_count(rasp.tokens, "a")
    return rasp.SequenceMap(lambda a, n: 2 * a > n, count, lib.make_length()).named("majority_a")


def _induction(x: Sequence[Value]) -> list[Value]:
    earlier = [[j for j in range(i) if x[j] == x[i]] for i in range(len(x))]
    return [x[found[-1] + 1] if found else None for found in earlier]


@program("abc", 6, _induction, causal=True)
def induction(rasp, lib):
    """The token that followed the latest earlier occurrence of this one; undefined where there is none.

    Each position knows what came before it; position j answers a query for a token when it is the r-th position that
    this token came before, and the query is for its r-th, the latest.
    """
    before = lib.shift_by(1, rasp.tokens).named("before")
    answer = rasp.SequenceMap(lambda token, i: (token, i), before, rasp.indices).named("answer")
    query = rasp.SequenceMap(lambda token, i: (token, i), rasp.tokens, rasp.indices).named("query")

    # Nothing, None, came before the first token: it matches nothing.
    def same(k, q):
        return None not in (k, q) and k == q

    def same_and_not_later(k, q):
        return None not in (k, q) and k[0] == q[0] and k[1] <= q[1]

    rank = rasp.SelectorWidth(rasp.Select(answer, answer, same_and_not_later)).named("rank")
    total = rasp.SelectorWidth(rasp.Select(answer, query, same_and_not_later)).named("total")
    ranked = rasp.SequenceMap(lambda token, r: (token, r), before, rank).named("ranked")
    wanted = rasp.SequenceMap(lambda token, r: (token, r), rasp.tokens, total).named("wanted")
    return rasp.Aggregate(rasp.Select(ranked, wanted, same), rasp.tokens).named("induction")


@program((1, 2, 3), 5, lambda x: [0 if token in x[:i] else token for i, token in enumerate(x)], causal=True)
def set_dups_to_0(rasp, lib):
    """Each token, or 0 where the same token came before."""
    pair = rasp.SequenceMap(lambda token, i: (token, i), rasp.tokens, rasp.indices).named("pair")
    earlier = rasp.Select(pair, pair, lambda k, q: k[0] == q[0] and k[1] < q[1])
    n_earlier = rasp.SelectorWidth(earlier).named("n_earlier")
    return rasp.SequenceMap(lambda token, n: 0 if n else token, rasp.tokens, n_earlier).named("set_dups_to_0")


from . import programs_counting, programs_order, programs_position  # noqa: E402, F401  (they register themselves)
