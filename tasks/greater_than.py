"""Greater-Than (Hanna et al. 2023, arXiv 2305.00586): a span of years ends after it began.

A year is two tokens, the century and the rest, so that the next token is compared with the one before. Right are all
later years of the century, wrong the year itself and all earlier ones. A split is of years.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from .draw import Draw
from .family import Family, required, split_of, usable
from .prompt import Prompt, Text, fill
from .tokenizer import Tokenizer

NOUNS = (
    "war battle siege conflict rebellion revolt uprising revolution riot strike protest crisis famine drought flood "
    "plague epidemic outbreak blockade embargo boycott occupation invasion conquest campaign crusade expedition voyage "
    "journey pilgrimage tour trip trek exile migration exodus reign rule regime dynasty empire monarchy presidency "
    "government coalition alliance partnership friendship feud rivalry romance marriage engagement relationship affair "
    "divorce dispute debate quarrel argument discussion conference summit congress convention council festival "
    "celebration ceremony tournament competition contest race season career internship employment contract lease trial "
    "lawsuit investigation inquiry audit review survey study experiment project program construction excavation "
    "restoration renovation expansion boom recession depression slump decline recovery growth tradition "
    "practice fashion trend movement mission quest hunt search chase pursuit rescue training education ban truce "
    "ceasefire peace"
).split()
CENTURIES = range(11, 18)
# The first is the paper's form; the others say the same in other words.
TEMPLATES = [
    "The {noun} lasted from the year {century}{year} to the year {end}",
    "The {noun} began in the year {century}{year} and ended in the year {end}",
    "The {noun} went on from {century}{year} to {end}",
]
_FIRST = "01"  # what the counterfactual has; every prompt's year is later
DIGITS = [f"{year:02}" for year in range(100)]

VARIANTS = {
    "01": "the year's last two digits replaced by 01 (Hanna et al.; ACDC; EAP-IG)",
    "random-year": "the year replaced by one of another century (Edge Pruning)",
}


@lru_cache
def years(tokenizer: Tokenizer, century: int) -> list[str]:
    """The last two digits of the years that are two tokens, century and rest; the first and last of them left out."""
    texts = [f" {century}{rest}" for rest in DIGITS]
    first = len(f" {century}")
    found = [
        rest
        for rest, tokens in zip(DIGITS, tokenizer.tokens(texts), strict=True)
        if len(tokens.ids) == 2
        and tokens.spans[0][1] == tokens.spans[1][0] == first
        and tokenizer.one(rest) is not None
    ]
    return found[1:-1]


def prompts(tokenizer: Tokenizer, variant: str, split: str, draw: Draw) -> Iterator[Prompt | None]:
    pool = [(str(century), rest) for century in CENTURIES for rest in years(tokenizer, century) if rest > _FIRST]
    nouns = tokenizer.words(NOUNS, 1)
    century, rest = required(pool, "year from 1100 to 1799 as two tokens, century and rest,")[0]
    templates = usable(TEMPLATES, tokenizer, noun=nouns[0], century=century, year=rest, end=century)
    while True:
        number, template = draw.one(templates)
        noun, (century, rest) = draw.one(nouns), draw.one(pool)
        if split_of(century + rest) != split:
            yield None
            continue
        if variant == "01":
            other = (century, _FIRST)
        else:
            other = draw.one([(c, y) for c, y in pool if c != century])
        later = DIGITS[int(rest) + 1 :]
        yield Prompt(
            clean=_written(template, noun, century, rest),
            counterfactual=_written(template, noun, *other),
            answers=tuple(later),
            wrong=tuple(DIGITS[: int(rest) + 1]),
            split=split,
            template=number,
            then=tuple(DIGITS[int(other[1]) + 1 :]),
        )


def _written(template: str, noun: str, century: str, rest: str) -> Text:
    return fill(template, noun=noun, century=century, year=rest, end=century)


FAMILY = Family(
    name="greater-than",
    description="a span of years ends after it began",
    paper="Hanna et al. 2023, arXiv 2305.00586",
    variants=VARIANTS,
    objective="probability-difference",
    prompts=prompts,
    positions={"noun": ("noun", 0), "XX1": ("century", 0), "YY": ("year", 0)},
    models="gpt2, gpt2-medium, gpt2-xl, mini",
)
