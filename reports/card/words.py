"""A sensitivity card in words: a paragraph for a paper. Every number in it is the card's."""

from __future__ import annotations

from collections.abc import Iterable
from math import isnan

from ...suite.scoring.sensitivity.card_model import (
    CircuitComparison,
    CircuitVerdict,
    FactorShare,
    SensitivityCard,
    SettingValue,
    Verdicts,
)
from ..page.table import count, listed, number, percent, percent_with_interval
from ..page.table import with_interval as text_with_interval

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
        sentences += _compared(card.comparison)
    return " ".join([*sentences, _methods(card)])


def in_short(card: Verdicts) -> list[str]:
    """One line per circuit: whether the claim holds in every setting, its range, and what decides it."""
    return [_short(card, circuit) for circuit in card.circuits]


def _short(card: Verdicts, circuit: CircuitVerdict) -> str:
    flips, values = circuit.flips, [entry.value for entry in circuit.values]
    name = "" if len(card.circuits) == 1 else f"{circuit.name}: "
    held = {1.0: "in every setting", 0.0: "in no setting"}.get(flips.hold, f"in {percent(flips.hold)} of")
    held += f" the {len(values)} settings" * held.endswith(" of")
    text = f"{name}faithful ({number(flips.threshold)} or more) {held}; from {number(min(values))} to "
    text += number(max(values))
    found = circuit.exact
    if circuit.variance.beyond_noise and found.factors:
        first = max(found.factors, key=lambda part: part.total)
        text += f", mostly by the choice of {first.factor}"
    return f"{text}."


def _grid(card: SensitivityCard) -> str:
    levels, choices = card.settings.levels, card.settings.varying
    names = [f'"{circuit.name}"' for circuit in card.circuits]
    parts = [f"{len(levels[name])} {PLURAL.get(name, f'{name}s')} ({', '.join(levels[name])})" for name in choices]
    fixed = [f"{name} {levels[name][0]}" for name in levels if name not in choices]
    n, undefined = card.settings.n, sum(part.n for part in card.undefined)
    called = "" if names == ['"circuit"'] else f" {listed(names)}"  # a file called circuit.json
    text = f"The circuit{'s' * (len(names) > 1)}{called} for {card.task} in {card.model} "
    text += f"{'was' if len(names) == 1 else 'were'} measured in {n} setting{'s' * (n > 1)}"
    text += f": {listed(parts)}" if parts else ""
    text += f"; {undefined} combinations have no meaning here and were left out" if undefined else ""
    return f"{text}; held fixed were {listed(fixed)}." if fixed else f"{text}."


def _about(card: SensitivityCard, circuit: CircuitVerdict) -> Iterable[str]:
    """Sentences about one circuit."""
    spread, flips = circuit.spread, circuit.flips
    worst, best = (pick(circuit.values, key=lambda entry: entry.value) for pick in (min, max))
    name, of = f'"{circuit.name}"', f"{count(circuit.edges)} of {count(card.n_edges)} edges"
    yield (
        f"On {card.prompts} prompts the faithfulness of {name} ({of}; 1 is the full model, 0 the reference "
        f"point) was {number(spread.mean)} on average over the settings, {faithfulness_text(worst)} at worst "
        f"({worst.setting}) and {faithfulness_text(best)} at best ({best.setting})."
    )
    if circuit.nothing_cut:
        yield nothing_cut(circuit)
    if spread.negative or spread.above_one:
        yield (
            f"It was below 0 in {percent(spread.negative)} and above 1 in {percent(spread.above_one)} of the settings."
        )
    yield (
        f"A faithfulness of {flips.threshold:g} was reached in {percent(flips.hold)} of the settings (surely in "
        f"{percent(flips.surely)}, surely not in {percent(flips.surely_not)}; entropy of the verdict "
        f"{number(flips.entropy)} bits)."
    )
    yield from _about_variance(circuit)
    against = circuit.random
    if against:
        yield (
            f"It was above 95 % of {against.n} random connected circuits of its size in "
            f"{percent(against.above.hold)} of the settings (surely in {percent(against.above.surely)})."
        )


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


def _about_variance(circuit: CircuitVerdict) -> Iterable[str]:
    if not circuit.variance.beyond_noise:
        yield "The settings do not differ by more than the noise of the prompts."
        return
    found, sources = circuit.exact, circuit.sources
    if found.beyond_noise and found.factors:
        first, *others = sorted(found.factors, key=lambda part: -part.total)
        text = "Of the variance over settings"
        if circuit.variance_of_complete_part:
            text += f" (the {found.n_settings} of them that make a complete factorial, without {_dropped(circuit)})"
        text += f", the choice of {first.factor} explains {variance_share(first, 'first')} alone and "
        text += f"{variance_share(first, 'total')} with its interactions"
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


def _dropped(circuit: CircuitVerdict) -> str:
    """The levels that the complete part leaves out."""
    kept = circuit.exact.levels
    dropped = [
        f"{factor} {level}"
        for factor, levels in circuit.variance.levels.items()
        for level in levels
        if level not in kept[factor]
    ]
    return listed(dropped)


def _compared(found: CircuitComparison) -> Iterable[str]:
    yield (
        f"Between two settings the order of two circuits reversed in {percent(found.reversals_raw_rate)} of "
        f"{count(found.setting_pairs)} cases; with both differences beyond their own 95 % interval in "
        f"{percent(found.reversals_significant_rate)}, beyond simultaneous intervals in "
        f"{percent(found.reversals_simultaneous_rate)}."
    )
    best = [f"{name} in {percent(weight)}" for name, weight in found.best.items()]
    concordance = found.kendall_w
    text = f"Best was {listed(best)} of the settings"
    yield f"{text} (Kendall's W {number(concordance)})." if concordance == concordance else f"{text}."


def _methods(card: SensitivityCard) -> str:
    given = [
        f"{factor} {level} {weight:g}"
        for factor, levels in card.settings.level_weights.items()
        for level, weight in levels.items()
    ]
    weights = (
        f"Levels of a choice weigh 1 each, but for {listed(given)}" if given else "Levels of a choice weigh the same"
    )
    return (
        f"{weights}. Shares of variance are Sobol indices from an exact functional ANOVA, after subtracting the "
        f"sampling noise; brackets are 95 % bootstrap intervals over {card.resampled}, with the activations on cut "
        f"edges as they are."
    )


def faithfulness_text(entry: SettingValue) -> str:
    """The value of a setting: ``0.57 [0.55, 0.59]``."""
    return text_with_interval(*entry.interval)


def variance_share(part: FactorShare, kind: str) -> str:
    """A share of the variance: ``82 % [81 %, 84 %]``."""
    return percent_with_interval(*part.interval(kind))
