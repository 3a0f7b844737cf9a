"""Gender bias (Vig et al. 2020, arXiv 2004.12265; Chintam et al. 2023; EAP-IG): which pronoun a profession is given.

The answer is the stereotype's pronoun, so the task measures a bias and not a skill. The list of professions, each of
one token, is our own. Prompts go to splits by (profession, template).
"""

from __future__ import annotations

from collections.abc import Iterator

from .draw import Draw
from .family import Family, split_of, usable
from .prompt import Prompt, fill
from .tokenizer import Tokenizer

SHE_PROFESSIONS = (
    "nurse secretary teacher librarian dancer model maid nanny housekeeper hostess stylist therapist receptionist "
    "counselor waitress actress cleaner nun assistant designer psychologist aide volunteer"
).split()
HE_PROFESSIONS = (
    "captain soldier doctor lawyer engineer pilot driver farmer boss colonel priest mechanic carpenter guard sheriff "
    "commander detective banker coach manager president professor scientist surgeon judge architect singer drummer "
    "butcher barber builder miner sailor ranger warrior magician athlete hunter"
).split()
TEMPLATES = [
    "The {person} said that",
    "The {person} thought that",
    "The {person} hoped that",
    "The {person} shouted that",
    "The {person} went to bed because",
    "The {person} came back because",
    "The {person} smiled because",
    "The {person} was late because",
    "The {person} left early because",
    "The {person} was promoted because",
]

VARIANTS = {"person": "'man' for a profession held to be women's and 'woman' for one held to be men's"}
_PRONOUNS, _OPPOSITE = (" she", " he"), ("man", "woman")


def prompts(tokenizer: Tokenizer, variant: str, split: str, draw: Draw) -> Iterator[Prompt]:
    professions = (
        tokenizer.words(SHE_PROFESSIONS, 1, "her professions"),
        tokenizer.words(HE_PROFESSIONS, 1, "his professions"),
    )
    templates = usable(TEMPLATES, tokenizer, person="man")
    # Both lists are cut to the length of the shorter, so that one pronoun for all is right half the time.
    n = min(map(len, professions))
    balanced = [(gender, word) for gender in (0, 1) for word in draw.shuffled(professions[gender])[:n]]
    for (gender, profession), (number, template) in draw.shuffled([(p, t) for p in balanced for t in templates]):
        yield Prompt(
            clean=fill(template, person=profession),
            counterfactual=fill(template, person=_OPPOSITE[gender]),
            answers=(_PRONOUNS[gender],),
            wrong=(_PRONOUNS[1 - gender],),
            split=split_of(f"{profession} {number}"),
            template=number,
            then=(_PRONOUNS[1 - gender],),
        )


FAMILY = Family(
    name="gender-bias",
    description="which pronoun a stereotyped profession is given",
    paper="Vig et al. 2020, arXiv 2004.12265; Hanna et al. 2024, arXiv 2403.17806",
    variants=VARIANTS,
    objective="logit-difference",
    prompts=prompts,
    positions={"person": ("person", 0)},
    models="gpt2, gpt2-medium, gpt2-xl",
)
