"""The tasks of MIB's circuit track (Mueller et al. 2025, arXiv 2504.13151), with its splits and counterfactuals.

Only rows are kept whose clean and counterfactual prompts have equally many tokens and whose answers are one token each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from . import hub
from .draw import Draw
from .family import Family
from .prompt import Prompt, Text
from .tokenizer import Tokenizer


@dataclass(frozen=True)
class MibSet:
    """One data set: its name on the hub, its config, its counterfactual columns (the default first), able models."""

    repository: str
    config: str | None
    columns: tuple[str, ...]
    models: str
    description: str


PARTS = {
    "ioi": MibSet(
        "mib-bench/ioi", None, ("s2_io_flip", "s1_io_flip", "abc", "random_names"),
        "gpt2, Qwen2.5-0.5B, gemma-2-2b, Llama-3.1-8B", "who of two people is given the object",
    ),
    "mcqa": MibSet(
        "mib-bench/copycolors_mcqa", "4_answer_choices", ("symbol", "answerPosition"),
        "Qwen2.5-0.5B, gemma-2-2b, Llama-3.1-8B", "the letter of the color that a thing was said to have",
    ),
    "arithmetic-addition": MibSet(
        "mib-bench/arithmetic_addition", None, ("random",), "Llama-3.1-8B", "the sum of two numbers"
    ),
    "arithmetic-subtraction": MibSet(
        "mib-bench/arithmetic_subtraction", None, ("random",), "Llama-3.1-8B", "the difference of two numbers"
    ),
    "arc-easy": MibSet(
        "mib-bench/arc_easy", None, ("symbol",), "gemma-2-2b, Llama-3.1-8B", "the letter of an answer, easy questions"
    ),
    "arc-challenge": MibSet(
        "mib-bench/arc_challenge", None, ("symbol",), "Llama-3.1-8B", "the letter of an answer, hard questions"
    ),
}  # fmt: skip


def prompts(part: MibSet, name: str, tokenizer: Tokenizer, variant: str, split: str, draw: Draw) -> Iterator[Prompt]:
    column = f"{variant.replace('-', '_')}_counterfactual"
    rows = list(hub.rows(f"mib-{name}", part.repository, part.config, split, ("prompt", column)))
    for row in draw.shuffled(rows):
        other = row.get(column)
        if other is None or other.get("prompt") is None:
            continue
        clean, counterfactual = tokenizer.tokens([row["prompt"], other["prompt"]])
        # MIB scores the clean prompt's answer against the counterfactual's; in IOI, against the subject.
        right, wrong = answer(row), row["metadata"]["subject"] if name == "ioi" else answer(other)
        texts = [_after(row["prompt"], text) for text in (right, wrong)]
        one_each = all(tokenizer.one(text) is not None for text in texts) and texts[0] != texts[1]
        if len(clean.ids) == len(counterfactual.ids) and one_each:
            yield Prompt(
                clean=Text(row["prompt"]),
                counterfactual=Text(other["prompt"]),
                answers=(texts[0],),
                wrong=(texts[1],),
                split=split,
                template=0,
            )


def answer(row: Mapping[str, Any]) -> str:
    """The right answer of a row or of its counterfactual, which is a label or one of the choices."""
    if row.get("choices") is None:
        return str(row["label"])
    choices = row["choices"]
    return str((choices["label"] if isinstance(choices, Mapping) else choices)[row["answerKey"]])


def _after(prompt: str, word: str) -> str:
    """The word as it continues the prompt: with a leading space, unless the prompt ends with a space."""
    return word if prompt[-1:].isspace() else f" {word.strip()}"


def family(name: str) -> Family:
    """The task of a part."""
    part = PARTS[name]
    variants = {column.replace("_", "-"): f"MIB's {column}_counterfactual" for column in part.columns}
    return Family(
        name=f"mib/{name}",
        description=part.description,
        paper="Mueller et al. 2025, arXiv 2504.13151",
        variants=variants,
        objective="logit-difference",
        prompts=partial(prompts, part, name),
        models=part.models,
    )


FAMILIES = [family(name) for name in PARTS]
