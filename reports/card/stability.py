"""The stability card: its paragraph in words, and its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...suite.errors import DataError
from ..draw.style import FORMATS, render
from .stability_figure import stability_figure


def paragraph(card: Mapping[str, Any]) -> str:
    """What the card says, to be pasted into a paper."""
    sentences = [
        f"Circuits of {card['size']} of the {card['n_edges']:,} edges of {card['model']} on {card['task']} "
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
    ends = f" (95 % interval {at['low']:.2f} to {at['high']:.2f})" if at["low"] is not None and bootstrap else ""
    text = (
        f"{entry['method']}: over {of} two circuits have a Jaccard index of {at['jaccard']:.2f}{ends}, "
        f"where random ones have {at['chance']:.2f}; {at['always']} edges are in 95 % of circuits or more and "
        f"{at['sometimes']} in some and not in others"
    )
    if found.get("precision_of_always") is not None:
        text += f"; of the edges that are always in, {found['precision_of_always']:.2f} are true"
        text += f", of the circuit's own {entry['precision']:.2f}"
    return text + "."


def _of_prompts(entry: Mapping[str, Any]) -> list[str]:
    found = entry["prompt_by_prompt"]
    if "undefined" in found:
        return [f"Its faithfulness is undefined: {found['undefined']}."]
    share = found["quantiles"]
    return [
        f"Its faithfulness is {found['faithfulness']:.2f}; prompt by prompt the median is {share['0.5']:.2f}, nine of "
        f"ten prompts lie between {share['0.05']:.2f} and {share['0.95']:.2f}, and "
        f"{100 * found['below_half']:.0f} % of {found['prompts']} are below one half."
    ]


def _of_pair(each: Mapping[str, Any]) -> str:
    first, second = each["first"], each["second"]
    if each["low"] <= 0 <= each["high"]:
        return f"Whether {first} or {second} is the more stable cannot be told ({_interval(each)})."
    if each["difference"] < 0:
        first, second = second, first
    return f"{first} is more stable than {second} (difference {_interval(each)})."


def _interval(each: Mapping[str, Any]) -> str:
    return f"{each['difference']:+.2f}, 95 % interval {each['low']:+.2f} to {each['high']:+.2f}"


def write(card: Mapping[str, Any], out: Path) -> None:
    """``card.json`` and the figure in each format. Raises DataError where they cannot be written."""
    figure = stability_figure(card)
    try:
        (out / "card.json").write_text(json.dumps(card, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        for file_format in FORMATS:
            (out / f"card.{file_format}").write_bytes(render(figure, file_format))
    except OSError as error:
        raise DataError(f"cannot write {error.filename or out}: {error.strerror}.") from None
