"""A verdict rule in words: which levels of which choices decide whether a circuit would be called faithful."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...suite.scoring.sensitivity.card_model import CircuitVerdict, SettingValue, VerdictRule
from ..page.table import listed

Levels = tuple[str, ...]


def rule_in_words(circuit: CircuitVerdict) -> str:
    """A sentence without its full stop: in which settings the circuit is faithful, and how many the rule tells right.

    Whichever is said in fewer words comes first: where it is faithful, or where it is not.
    """
    rule = circuit.rule
    assert rule is not None
    if not rule.factors:
        return (
            "No levels of one or two choices tell in which settings it is faithful better than the same answer for all"
        )
    there = list(dict.fromkeys(tuple(entry.levels[name] for name in rule.factors) for entry in circuit.values))
    yes, no = (_terms(rule.factors, there, [levels for levels in there if (levels in rule.faithful) is side])
               for side in (True, False))  # fmt: skip
    if len(no) < len(yes):
        missed = rule.outside - rule.reached_outside
        text = f"Unfaithful in {_of(missed, rule.outside, _with(no))}, and faithful in "
        text += _of(rule.reached_inside, rule.inside, "")
        chosen = [levels for levels in there if levels not in rule.faithful]
    else:
        text = f"Faithful in {_of(rule.reached_inside, rule.inside, _with(yes))}, and in "
        text += _of(rule.reached_outside, rule.outside, "")
        chosen = list(rule.faithful)
    if only := _only_under(circuit.values, rule, chosen):
        text += f"; {only}"
    if rule.predicted < len(circuit.values):
        text += f"; this tells {rule.predicted} of the {len(circuit.values)} settings right"
    return text


def _of(n: int, of: int, where: str) -> str:
    """``all 16 settings with direction denoising``, ``3 of the 20 settings with ...``; the others without ``where``."""
    what = f"settings {where}" if where else "others"
    if n == of:
        return f"all {of} {what}" if where or of > 1 else "the other"
    if where:
        return f"{n or 'none'} of the {of} {what}"
    return f"{n or 'none'} of the other {of}"


Term = tuple[tuple[str, tuple[str, ...]], ...]
"""Choices, each with the levels that it may have: settings with one of these of every choice."""


def _with(terms: Sequence[Term]) -> str:
    """``with ablation patch and component edge, or with ablation zero``."""
    return ", or ".join(
        "with " + " and ".join(f"{factor} {' or '.join(levels)}" for factor, levels in term) for term in terms
    )


def _terms(factors: Levels, there: Sequence[Levels], chosen: Sequence[Levels]) -> list[Term]:
    """The chosen combinations of levels, of those that are there, in as few terms as either order of choices gives."""
    if len(factors) == 1:
        return [((factors[0], tuple(level for (level,) in chosen)),)] if chosen else []
    return min((_by(factors, there, chosen, first) for first in (0, 1)), key=len)


def _by(factors: Levels, there: Sequence[Levels], chosen: Sequence[Levels], first: int) -> list[Term]:
    """Levels of the first choice that go with the same levels of the second, together."""
    second = 1 - first
    together: dict[tuple[str, ...], list[str]] = {}
    for level in dict.fromkeys(levels[first] for levels in chosen):
        with_it, all_of_it = ([each[second] for each in some if each[first] == level] for some in (chosen, there))
        key = () if len(with_it) == len(all_of_it) else tuple(with_it)
        together.setdefault(key, []).append(level)
    return [
        ((factors[first], tuple(levels)), *([(factors[second], others)] if others else []))
        for others, levels in together.items()
    ]


def _only_under(values: Sequence[SettingValue], rule: VerdictRule, chosen: Iterable[Levels]) -> str:
    """Which of the levels that are named exist under one level of another choice alone: ``direction denoising has a
    meaning under ablation patch alone``; empty where each is crossed with all."""
    found = []
    for place, factor in enumerate(rule.factors):
        for level in dict.fromkeys(levels[place] for levels in chosen):
            here = [entry.levels for entry in values if entry.levels[factor] == level]
            for other in values[0].levels:
                if other in rule.factors or other == factor:
                    continue
                with_it = {levels[other] for levels in here}
                if len(with_it) == 1 < len({entry.levels[other] for entry in values}):
                    found.append(f"{factor} {level} has a meaning under {other} {with_it.pop()} alone")
    return listed(found) if found else ""
