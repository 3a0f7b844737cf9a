"""The stability card: its paragraph in words, and its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...suite.errors import DataError
from ..draw.style import FORMATS, render
from ..page.table import count, number, percent
from .stability_figure import stability_figure


def paragraph(card: Mapping[str, Any]) -> str:
    """What the card says, to be pasted into a paper."""
    sentences = [
        f"Circuits of {card['size']} of the {count(card['n_edges'])} edges of {card['model']} on {card['task']} "
        f"({card['ablation']} ablation, {card['objective']}, {card['prompts']} prompts)."
    ]
    for entry in card["methods"]:
        for what, found in entry["over"].items():
            if "undefined" not in found:
                sentences.append(_of_change(entry, what, found, card))
        sentences += _of_prompts(entry)
    sentences += [_of_pair(each) for each in card["comparisons"]]
    return " ".join(sentences)


def _of_change(entry: Mapping[str, Any], what: str, found: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    at = next(point for point in found["points"] if point["size"] == card["size"])
    bootstrap = what in ("prompts", "templates")
    of = f"{card['resamples']} bootstrap resamples of {what}" if bootstrap else f"runs that differ in their {what}"
    ends = (
        f" (95 % interval {number(at['low'])} to {number(at['high'])})" if at["low"] is not None and bootstrap else ""
    )
    text = (
        f"{entry['method']}: over {of} two circuits have a Jaccard index of {number(at['jaccard'])}{ends}, "
        f"where random ones have {number(at['chance'])}; {at['always']} edges are in 95 % of circuits or more and "
        f"{at['sometimes']} in some and not in others"
    )
    if found.get("precision_of_always") is not None:
        text += f"; of the edges that are always in, {number(found['precision_of_always'])} are true"
        text += f", of the circuit's own {number(entry['precision'])}"
    return text + "."


def _of_prompts(entry: Mapping[str, Any]) -> list[str]:
    found = entry["prompt_by_prompt"]
    if "undefined" in found:
        return [f"Its faithfulness is undefined: {found['undefined']}."]
    share = found["quantiles"]
    return [
        f"Its faithfulness is {number(found['faithfulness'])}; prompt by prompt the median is {number(share['0.5'])}, "
        f"nine of ten prompts lie between {number(share['0.05'])} and {number(share['0.95'])}, and "
        f"{percent(found['below_half'])} of {found['prompts']} are below one half."
    ]


def _of_pair(each: Mapping[str, Any]) -> str:
    first, second = each["first"], each["second"]
    if each["low"] <= 0 <= each["high"]:
        return f"Whether {first} or {second} is the more stable cannot be told ({_interval(each)})."
    if each["difference"] < 0:
        first, second = second, first
    return f"{first} is more stable than {second} (difference {_interval(each)})."


def _interval(each: Mapping[str, Any]) -> str:
    difference, low, high = (number(each[name], sign=True) for name in ("difference", "low", "high"))
    return f"{difference}, 95 % interval {low} to {high}"


def write(card: Mapping[str, Any], out: Path) -> None:
    """``card.json`` and the figure in each format. Raises DataError where they cannot be written."""
    figure = stability_figure(card)
    try:
        (out / "card.json").write_text(json.dumps(card, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        for file_format in FORMATS:
            (out / f"card.{file_format}").write_bytes(render(figure, file_format))
    except OSError as error:
        raise DataError(f"cannot write {error.filename or out}: {error.strerror}.") from None
