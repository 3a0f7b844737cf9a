"""Docstring (Heimersheim and Janiak 2023; ACDC): the next parameter that a docstring documents.

The prompt is a Python function whose docstring documents the first two of three parameters; the next token is the name
of the third. The numbers of other parameters before and after these, and the lengths of the descriptions, change from
prompt to prompt. Wrong answers are all other names, those of the counterfactual included. Prompts go to splits by
(second name, third name).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .draw import Draw
from .family import Family, split_of, usable
from .prompt import Prompt, Text, fill
from .tokenizer import Tokenizer

VARIABLES = (
    "file line text name key value path size user group state order code port host node list index data load count "
    "start end mode option config message table field model label score limit level source target output input total "
    "image color shape width height title page note result event task time date rate cost price weight"
).split()
DESCRIPTIONS = (
    "old new big small good first last main local final open extra real simple common fast long full empty single "
    "thing part view case set form use call change step place side way group copy link point place"
).split()
# The prompt ends where the third name follows.
TEMPLATES = [
    'def f(self,{before} {A}, {B}, {C}{after}):\n    """{about}\n'
    "    :param {A2}:{one}\n    :param {B2}:{two}\n    :param",
]

VARIANTS = {"random": "the three names in the definition and the two in the docstring, each replaced by fresh ones"}


def prompts(tokenizer: Tokenizer, variant: str, split: str, draw: Draw) -> Iterator[Prompt | None]:
    variables = tokenizer.words(VARIABLES, 13, "variables")
    words = [word for word in tokenizer.words(DESCRIPTIONS, 10, "descriptions") if word not in set(variables)]
    fields = dict.fromkeys(("A", "B", "C", "A2", "B2"), variables[0])
    usable(TEMPLATES, tokenizer, before="", after="", about="", one="", two="", **fields)
    while True:
        n_before, n_after = 1 + draw.below(3), draw.below(3)
        names = draw.some(variables, 8 + n_before + n_after)
        (a, b, c), others, around = names[:3], names[3:8], names[8:]
        if split_of(f"{b} {c}") != split:
            yield None
            continue
        rest = {
            "before": "".join(f" {name}," for name in around[:n_before]),
            "after": "".join(f", {name}" for name in around[n_before:]),
            "about": _description(words, draw),
            "one": _description(words, draw),
            "two": _description(words, draw),
        }
        yield Prompt(
            clean=_written((a, b, c, a, b), rest),
            counterfactual=_written(others, rest),
            answers=(f" {c}",),
            wrong=tuple(f" {name}" for name in names if name != c),
            split=split,
            template=3 * (n_before - 1) + n_after,
        )


def _description(words: Sequence[str], draw: Draw) -> str:
    return "".join(f" {word}" for word in draw.some(words, 1 + draw.below(3)))


def _written(names: Sequence[str], rest: dict[str, str]) -> Text:
    return fill(TEMPLATES[0], **dict(zip(("A", "B", "C", "A2", "B2"), names, strict=True)), **rest)


FAMILY = Family(
    name="docstring",
    description="the next parameter that a docstring documents",
    paper="Heimersheim and Janiak 2023; Conmy et al. 2023, arXiv 2304.14997",
    variants=VARIANTS,
    objective="best-wrong-difference",
    prompts=prompts,
    positions={"A_def": ("A", 0), "B_def": ("B", 0), "C_def": ("C", 0), "A_doc": ("A2", 0), "B_doc": ("B2", 0)},
    models="attn-only-4l, mini-8",
)
