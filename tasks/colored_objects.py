"""Colored objects (Merullo et al. 2024, arXiv 2310.08744): the color of one of three things on a table.

GPT-2 small fails on this task; the paper uses GPT-2 medium. Word lists and templates are our own. Wrong answers are the
colors of the other two things. Prompts go to splits by (thing, color).
"""

from __future__ import annotations

from collections.abc import Iterator

from .draw import Draw
from .family import Family, split_of, usable
from .prompt import Prompt, fill
from .tokenizer import Tokenizer

COLORS = "red blue green yellow purple orange pink brown black white gray".split()
THINGS = "cup book pen plate phone bag box ball bottle key lamp toy shirt hat card coin spoon bowl mug notebook".split()
TEMPLATES = [
    "Q: There is a {c1} {t1}, a {c2} {t2}, and a {c3} {t3} on the table. What color is the {asked}?\nA:",
    "Q: Somebody put a {c1} {t1}, a {c2} {t2}, and a {c3} {t3} on a desk. What color does the {asked} have?\nA:",
]

VARIANTS = {"asked": "another of the three things asked for, so that the answer is another"}


def prompts(tokenizer: Tokenizer, variant: str, split: str, draw: Draw) -> Iterator[Prompt | None]:
    colors, things = tokenizer.words(COLORS, 3, "colors"), tokenizer.words(THINGS, 3, "things")
    words = {f"c{i}": colors[i] for i in (1, 2, 3)} | {f"t{i}": things[i] for i in (1, 2, 3)}
    templates = usable(TEMPLATES, tokenizer, asked=things[1], **words)
    while True:
        number, template = draw.one(templates)
        its_colors, its_things = draw.some(colors, 3), draw.some(things, 3)
        asked, other = draw.some(range(3), 2)
        if split_of(f"{its_things[asked]} {its_colors[asked]}") != split:
            yield None
            continue
        shown = {f"c{i}": color for i, color in enumerate(its_colors, 1)}
        shown |= {f"t{i}": thing for i, thing in enumerate(its_things, 1)}
        yield Prompt(
            clean=fill(template, asked=its_things[asked], **shown),
            counterfactual=fill(template, asked=its_things[other], **shown),
            answers=(f" {its_colors[asked]}",),
            wrong=tuple(f" {color}" for color in its_colors if color != its_colors[asked]),
            split=split,
            template=number,
            then=(f" {its_colors[other]}",),
        )


FAMILY = Family(
    name="colored-objects",
    description="the color of one of three things",
    paper="Merullo et al. 2024, arXiv 2310.08744",
    variants=VARIANTS,
    objective="logit-difference",
    prompts=prompts,
    positions={f"{kind}{i}": (f"{kind}{i}", 0) for i in (1, 2, 3) for kind in ("c", "t")} | {"asked": ("asked", 0)},
    models="gpt2-medium, gpt2-xl",
)
