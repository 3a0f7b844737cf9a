"""A sensitivity card in words: a paragraph for a paper. Every number in it is the card's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isnan

from ...suite.scoring.sensitivity.card_model import (
    AgainstRandom,
    CircuitComparison,
    CircuitVerdict,
    FactorShare,
    SensitivityCard,
    SettingValue,
    Verdicts,
)
from ..page.table import count, listed, number, percent, percent_with_interval
from ..page.table import with_interval as text_with_interval
from .rule import rule_in_words

PLURAL = {
    "component": "components",
    "embedding": "treatments of the embedding",
    "set": "sets to cut",
    "positions": "choices of positions",
    "reference": "reference points",
}

# What a circuit has where nothing outside of it is cut, by the component that is cut as one.
_KEEPS_ALL = {
    "edge": "every edge that could be cut",
    "node": "an edge of every node",
    "head-qkv": "an edge into every head's queries, keys and values",
}


def paragraph(card: SensitivityCard) -> str:
    """What to write in a paper about the circuits of the card; every number is the card's."""
    sentences = [_grid(card)]
    for circuit in card.circuits:
        sentences += _about(card, circuit)
    if card.comparison:
        sentences += _compared(card.comparison, card.prompts)
    return " ".join([*sentences, _methods(card)])


def in_short(card: Verdicts) -> list[str]:
    """A line or two per circuit: in how many settings the claim holds and in which, its range, and what moves it."""
    return [_short(card, circuit) for circuit in card.circuits]


def _short(card: Verdicts, circuit: CircuitVerdict) -> str:
    counts, values = circuit.counted, [entry.value for entry in circuit.values]
    name = "" if len(card.circuits) == 1 else f"{circuit.name}: "
    text = f"{name}faithful ({number(circuit.flips.threshold)} or more) {_held(counts.reached, counts.settings)}; "
    text += f"from {number(min(values))} to {number(max(values))}"
    if circuit.variance.beyond_noise and (leaders := main_choices(circuit.variance.factors, "shapley")):
        text += f", {_by_choice(leaders)}"
    return ". ".join([text, *([rule_in_words(circuit)] if circuit.rule else [])]).removesuffix(".") + "."


def _held(n: int, settings: int) -> str:
    """``in 16 of the 64 settings``."""
    return {settings: "in every setting", 0: "in no setting"}.get(n, f"in {n} of the {settings} settings")


def main_choices(factors: Iterable[FactorShare], kind: str) -> list[FactorShare]:
    """The choice with the largest share, and those behind it whose lead over them lies within the intervals."""
    ordered = sorted((part for part in factors if part.measured), key=lambda part: -part.interval(kind)[0])
    if not ordered:
        return []
    _, low, _ = ordered[0].interval(kind)
    return [ordered[0], *(part for part in ordered[1:] if part.interval(kind)[2] >= low)]


def _by_choice(leaders: Sequence[FactorShare]) -> str:
    """What the value varies by: ``mostly by the choice of objective``, or by two choices alike."""
    first, *alike = [part.factor for part in leaders]
    if not alike:
        return f"mostly by the choice of {first}"
    return f"by the choice of {first} about as much as by that of {listed(alike)}"


def _grid(card: SensitivityCard) -> str:
    levels, choices = card.settings.levels, card.settings.varying
    parts = [f"{len(levels[name])} {PLURAL.get(name, f'{name}s')} ({', '.join(levels[name])})" for name in choices]
    fixed = [f"{name} {levels[name][0]}" for name in levels if name not in choices]
    n, undefined = card.settings.n, sum(part.n for part in card.undefined)
    text = f"{_subjects(card)} {'was' if len(card.circuits) == 1 else 'were'} measured in {n} setting{'s' * (n > 1)}"
    text += f": {listed(parts)}" if parts else ""
    text += f"; {undefined} combinations have no meaning here and were left out" if undefined else ""
    text += f"; held fixed were {listed(fixed)}." if fixed else "."
    return text + (f" The prompts are of {card.task} ({card.task_description})." if card.task_description else "")


def _subjects(card: SensitivityCard) -> str:
    """The circuits, by what found them where their files say it, and else by the names of the files."""
    circuits = card.circuits
    where = f"for {card.task} in {card.model}"
    if len(circuits) == 1:
        (circuit,) = circuits
        if circuit.search:
            return f"The circuit {where} that {_found_by(circuit, card)}"
        called = "" if circuit.name == "circuit" else f' "{circuit.name}"'  # a file called circuit.json
        return f"The circuit{called} {where}"
    named = [
        f'"{circuit.name}"' + (f" (which {_found_by(circuit, card)})" if circuit.search else "") for circuit in circuits
    ]
    return f"The circuits {listed(named)} {where}"


def _found_by(circuit: CircuitVerdict, card: SensitivityCard) -> str:
    """``eap-ig found under patch by logit-difference on the train prompts of ioi``."""
    search = circuit.search
    assert search is not None
    text = f"{search.method} found"
    text += f" under {search.ablation}" if search.ablation else ""
    text += f" by {search.objective}" if search.objective else ""
    if search.task:
        text += f" on the {f'{search.split} ' if search.split else ''}prompts of {search.task}"
    return text


def _about(card: SensitivityCard, circuit: CircuitVerdict) -> Iterable[str]:
    """Sentences about one circuit."""
    counts, flips = circuit.counted, circuit.flips
    worst, best = (pick(circuit.values, key=lambda entry: entry.value) for pick in (min, max))
    of = f"{count(circuit.edges)} of {count(card.n_edges)} edges"
    name = f'"{circuit.name}"' if len(card.circuits) > 1 else "the circuit"
    prompts = f"{card.prompts} prompt{'s' * (card.prompts > 1)}"
    yield (
        f"On {prompts} of the split {card.split} the faithfulness of {name} ({of}; 1 is the full model, 0 the "
        f"reference point) was {number(counts.mean)} on average over the settings, {faithfulness_text(worst)} at worst "
        f"({worst.setting}) and {faithfulness_text(best)} at best ({best.setting})."
    )
    if circuit.nothing_cut:
        yield nothing_cut(circuit)
    if counts.below_zero or counts.above_one:
        yield (
            f"It was below 0 in {counts.below_zero} and above 1 in {counts.above_one} of the settings, by more than a "
            f"millionth."
        )
    text = f"A faithfulness of {flips.threshold:g} was reached {_held(counts.reached, counts.settings)}"
    if card.prompts > 1:
        text += f" (surely in {counts.surely}, surely not in {counts.surely_not})"
    if card.settings.level_weights:
        text += f"; with levels weighed as stated below in {percent(flips.hold)} of the settings"
    yield f"{text}."
    if circuit.rule:
        yield f"{rule_in_words(circuit)}."
    yield from _about_variance(circuit, card.prompts)
    if circuit.random:
        yield _about_random(circuit, circuit.random, card.prompts)


def _about_random(circuit: CircuitVerdict, against: AgainstRandom, prompts: int) -> str:
    counts = circuit.counted_above_random
    assert counts is not None
    sure = f" (surely in {counts.surely})" if prompts > 1 else ""
    return (
        f"It was {above_random(against.n, against.above.threshold)} connected circuits of its size "
        f"{_held(counts.reached, counts.settings)}{sure}."
    )


def above_random(n: int, threshold: float) -> str:
    """What is said of a circuit whose percentile among ``n`` random ones reaches the threshold."""
    return f"above all {n} random" if threshold >= 1 else f"above {percent(threshold)} of {n} random"


def nothing_cut(circuit: CircuitVerdict) -> str:
    """A sentence on the settings in which the circuit is the whole model, so that they test nothing."""
    entries = [entry for entry in circuit.values if entry.nothing_cut]
    settings = {(entry.levels["set"], entry.levels["component"]) for entry in entries}
    reasons = [_KEEPS_ALL[component] for which, component in sorted(settings) if which == "complement"]
    reasons += ["no edge that could be cut"] * any(which == "circuit" for which, _ in settings)
    values = " or ".join(sorted({f"{round(entry.value, 2) + 0.0:g}" for entry in entries}))
    n = circuit.nothing_cut
    return (
        f"In {n} of the {len(circuit.values)} settings nothing is cut, because the circuit has {listed(reasons)}; "
        f"there faithfulness is {values} by construction."
    )


def _about_variance(circuit: CircuitVerdict, prompts: int) -> Iterable[str]:
    if prompts == 1:
        yield "Of one prompt it is not known whether the settings differ by more than the noise of the prompts."
        return
    if not circuit.variance.beyond_noise:
        yield "The settings do not differ by more than the noise of the prompts."
        return
    found, sources = circuit.exact, circuit.sources
    if found.beyond_noise and (leaders := main_choices(found.factors, "total")):
        first, *alike = leaders
        others = [part for part in found.factors if part.measured and part not in leaders]
        text = "Of the variance of the faithfulness over "
        if circuit.variance_of_complete_part:
            text += f"{found.n_settings} of the {circuit.variance.n_settings} settings, which make a complete "
            text += f"factorial (left out are {left_out(circuit)})"
        else:
            text += "the settings"
        text += f", the choice of {first.factor} explains {_alone_and_together(first)}"
        if alike:
            text += f"; about as much as that of {listed([f'{p.factor}, {_alone_and_together(p)}' for p in alike])}"
        yield text + (f"; the others at most {percent(max(part.total for part in others))}." if others else ".")
    if circuit.variance_of_complete_part:
        largest = sorted(circuit.variance.factors, key=lambda part: -part.shapley)[:2]
        described = [f"{part.factor} ({variance_share(part, 'shapley')})" for part in largest]
        yield f"Over all settings the largest Shapley effects are those of {listed(described)}."
    if sources is not None and not isnan(sources.fsi):
        yield (
            f"Of the variance of a single prompt's score, {percent(sources.fsi)} [{percent(sources.fsi_low)}, "
            f"{percent(sources.fsi_high)}] is due to the analyst's choices, the rest to the prompts and to how each "
            f"reacts to the choices."
        )


def _alone_and_together(part: FactorShare) -> str:
    return f"{variance_share(part, 'first')} alone and {variance_share(part, 'total')} with its interactions"


def left_out(circuit: CircuitVerdict) -> str:
    """The settings that the complete part lacks: ``the 16 with direction denoising and 12 more with reference none``.

    Levels that are left out together are counted one after the other, each setting once.
    """
    kept, counted, parts = circuit.exact.levels, set(), []
    for factor, levels in circuit.variance.levels.items():
        for level in levels:
            new = {entry.setting for entry in circuit.values if entry.levels[factor] == level} - counted
            if level not in kept[factor] and new:
                parts.append(f"{f'{len(new)} more' if parts else f'the {len(new)}'} with {factor} {level}")
                counted |= new
    return listed(parts)


def _compared(found: CircuitComparison, prompts: int) -> Iterable[str]:
    text = (
        f"Between two settings the order of two circuits reversed in {percent(found.reversals_raw_rate)} of "
        f"{count(found.setting_pairs)} cases"
    )
    if prompts > 1:
        text += (
            f"; with both differences beyond their own 95 % interval in {percent(found.reversals_significant_rate)}, "
            f"beyond simultaneous intervals in {percent(found.reversals_simultaneous_rate)}"
        )
    yield f"{text}."
    best = [f"{name} in {n}" for name, n in found.counted_best.items()]
    concordance = found.kendall_w
    text = f"Best, alone or tied, was {listed(best)} of the settings"
    yield f"{text} (Kendall's W {number(concordance)})." if concordance == concordance else f"{text}."


def _methods(card: SensitivityCard) -> str:
    given = [
        f"{factor} {level} {weight:g}"
        for factor, levels in card.settings.level_weights.items()
        for level, weight in levels.items()
    ]
    weights = f"weigh 1 each, but for {listed(given)}" if given else "weigh the same"
    if card.prompts == 1:
        return "Numbers of settings and the average count each setting once. A single prompt has no intervals."
    return (
        f"Numbers of settings and the average count each setting once. Shares of variance are Sobol indices from an "
        f"exact functional ANOVA, after subtracting the sampling noise; in it the levels of a choice {weights}. "
        f"Brackets are 95 % bootstrap intervals over {card.resampled}, with the activations on cut edges as they are."
    )


def faithfulness_text(entry: SettingValue) -> str:
    """The value of a setting: ``0.57 [0.55, 0.59]``."""
    return text_with_interval(*entry.interval)


def variance_share(part: FactorShare, kind: str) -> str:
    """A share of the variance: ``82 % [81 %, 84 %]``."""
    return percent_with_interval(*part.interval(kind))
