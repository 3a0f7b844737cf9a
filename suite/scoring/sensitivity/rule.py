"""Which choices decide whether a circuit would be called faithful: on which side its value is, not how far it moves.

The variance of the values may be due to one choice, and the verdict to another: a value that moves from -4 to 0 never
comes near the threshold. A rule says of each combination of levels of at most two choices what most of its settings
say. That which is right in the most settings is the answer; of several, the one with the fewest choices, then with the
fewest combinations, then of the first choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from .card_model import SettingValue, VerdictRule

_MOST_CHOICES = 2


def verdict_rule(values: Sequence[SettingValue], threshold: float) -> VerdictRule | None:
    """The rule that tells best in which settings the value reaches the threshold; None where all settings agree.

    A rule without choices says the same of every setting: no rule of at most two choices is right more often then.
    """
    reached = [entry.value >= threshold for entry in values]
    if len(set(reached)) < 2:
        return None
    factors = [name for name in values[0].levels if len({entry.levels[name] for entry in values}) > 1]
    rules = [
        _rule(values, reached, chosen) for n in range(_MOST_CHOICES + 1) for chosen in combinations(factors, n)
    ]  # those of fewer choices first, which a tie leaves there
    return min(rules, key=lambda rule: (-rule.predicted, len(rule.factors), len(rule.faithful)))


def _rule(values: Sequence[SettingValue], reached: Sequence[bool], factors: tuple[str, ...]) -> VerdictRule:
    """The rule over these choices: what most settings of each combination say, and no where as many say yes."""
    groups: dict[tuple[str, ...], list[bool]] = {}
    for entry, yes in zip(values, reached, strict=True):
        groups.setdefault(tuple(entry.levels[name] for name in factors), []).append(yes)
    faithful = tuple(levels for levels, verdicts in groups.items() if 2 * sum(verdicts) > len(verdicts))
    inside = [yes for levels in faithful for yes in groups[levels]]
    outside = len(values) - len(inside)
    reached_outside = sum(reached) - sum(inside)
    return VerdictRule(
        factors=factors,
        faithful=faithful,
        inside=len(inside),
        reached_inside=sum(inside),
        outside=outside,
        reached_outside=reached_outside,
        predicted=sum(inside) + outside - reached_outside,
    )
