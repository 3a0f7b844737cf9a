"""Gendered pronoun (Mathwin 2023; Edge Pruning, arXiv 2406.16778): a tag question refers to a name.

The templates are our own. Prompts go to splits by (name, template).
"""

from __future__ import annotations

from collections.abc import Iterator

from .draw import Draw
from .family import Family, split_of, usable
from .names import HE_NAMES, SHE_NAMES
from .prompt import Prompt, fill
from .tokenizer import Tokenizer

# The counterfactual `that-person` replaces the first two tokens, "So" and the name.
TEMPLATES = [
    "{so} {name} is a good friend to all of us, isn't",
    "{so} {name} is quite tired after a long day, isn't",
    "{so} {name} was late for work again, wasn't",
    "{so} {name} was happy to see us, wasn't",
    "{so} {name} will come home soon, won't",
    "{so} {name} would give us a ring, wouldn't",
    "{so} {name} can run a long way, can't",
    "{so} {name} could not see us, could",
    "{so} {name} does a lot of work, doesn't",
    "{so} {name} drinks a lot of tea, doesn't",
    "{so} {name} did well at school, didn't",
    "{so} {name} had a good day at the office, didn't",
    "{so} {name} has been to the hospital, hasn't",
    "{so} {name} has a new house, hasn't",
]

VARIANTS = {
    "opposite": "a name of the other pronoun",
    "that-person": "'That person' for 'So' and the name (Mathwin)",
}
_PRONOUNS = (" she", " he")


def prompts(tokenizer: Tokenizer, variant: str, split: str, draw: Draw) -> Iterator[Prompt | None]:
    names = (tokenizer.words(SHE_NAMES, 1, "her names"), tokenizer.words(HE_NAMES, 1, "his names"))
    templates = usable(TEMPLATES, tokenizer, so="So", name=names[0][0])
    if variant == "that-person":
        templates = usable(TEMPLATES, tokenizer, so="That", name="person")
    while True:
        number, template = draw.one(templates)
        gender = draw.below(2)
        name, other = draw.one(names[gender]), draw.one(names[1 - gender])
        if split_of(f"{name} {number}") != split:
            yield None
            continue
        opposite = variant == "opposite"
        replaced = {"so": "So", "name": other} if opposite else {"so": "That", "name": "person"}
        yield Prompt(
            clean=fill(template, so="So", name=name),
            counterfactual=fill(template, **replaced),
            answers=(_PRONOUNS[gender],),
            wrong=(_PRONOUNS[1 - gender],),
            split=split,
            template=number,
            then=(_PRONOUNS[1 - gender],) if opposite else (),
        )


FAMILY = Family(
    name="gendered-pronoun",
    description="the tag question takes up a name by he or she",
    paper="Mathwin 2023; Bhaskar et al. 2024, arXiv 2406.16778",
    variants=VARIANTS,
    objective="logit-difference",
    prompts=prompts,
    positions={"name": ("name", 0)},
    models="mini, gpt2, smollm2",
)
