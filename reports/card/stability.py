"""The stability card: its paragraph in words."""

from __future__ import annotations

from ...suite.scoring.structure.stability_card import (
    CircuitChange,
    MethodStability,
    PairOfMethods,
    PromptByPrompt,
    StabilityCard,
)
from ..page.table import count, number, percent


def stability_paragraph(card: StabilityCard) -> str:
    """What the card says, to be pasted into a paper."""
    sentences = [
        f"Circuits of {card.size} of the {count(card.n_edges)} edges of {card.model} on {card.task} "
        f"({card.ablation} ablation, {card.objective}, {card.prompts} prompts)."
    ]
    for entry in card.methods:
        for what, change in entry.over.items():
            if change.undefined is None:
                sentences.append(_of_change(entry, what, change, card))
        sentences.append(_of_prompts(entry.prompt_by_prompt))
    sentences += [_of_pair(each) for each in card.comparisons]
    return " ".join(sentences)


def _of_change(entry: MethodStability, what: str, change: CircuitChange, card: StabilityCard) -> str:
    at = change.at(card.size)
    bootstrap = what in ("prompts", "templates")
    of = f"{card.resamples} bootstrap resamples of {what}" if bootstrap else f"runs that differ in their {what}"
    ends = f" (95 % interval {number(at.low)} to {number(at.high)})" if at.low is not None and bootstrap else ""
    text = (
        f"{entry.method}: over {of} two circuits have a Jaccard index of {number(at.jaccard)}{ends}, "
        f"where random ones have {number(at.chance)}; {at.always} edges are in 95 % of circuits or more and "
        f"{at.sometimes} in some and not in others"
    )
    if change.precision_of_always is not None:
        text += f"; of the edges that are always in, {number(change.precision_of_always)} are true"
        text += f", of the circuit's own {number(entry.precision)}"
    return text + "."


def _of_prompts(found: PromptByPrompt) -> str:
    if found.undefined is not None:
        return f"Its faithfulness is undefined: {found.undefined}."
    share = found.quantiles
    of = {"test": "test prompts", "train": "prompts of the search"}[found.split]
    return (
        f"Cutting all other edges leaves a faithfulness of {number(found.faithfulness)} (1: all of the behaviour, 0: "
        f"what the wholly cut graph keeps); by prompt, on {count(found.prompts)} {of}, the median is "
        f"{number(share['0.5'])}, nine of ten lie between {number(share['0.05'])} and {number(share['0.95'])}, and "
        f"{percent(found.below_half)} are below one half."
    )


def _of_pair(each: PairOfMethods) -> str:
    first, second = each.first, each.second
    if each.low <= 0 <= each.high:
        return f"Whether {first} or {second} is the more stable cannot be told ({_interval(each)})."
    if each.difference < 0:
        first, second = second, first
    return f"{first} is more stable than {second} (difference {_interval(each)})."


def _interval(each: PairOfMethods) -> str:
    difference, low, high = (number(value, sign=True) for value in (each.difference, each.low, each.high))
    return f"{difference}, 95 % interval {low} to {high}"
