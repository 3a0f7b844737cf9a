"""Greater-Than (Hanna et al. 2023, arXiv 2305.00586): a span of years ends after it began.

A year is two tokens, the century and the rest, and the next token is the rest of the final year. Right answers are all
later years of the century; wrong are the first year itself and all earlier ones. Prompts go to splits by year.

For tokenizers that split numbers into digits, the variant ``digit`` asks for the decade's digit. Larger digits are
right and smaller ones wrong; the same digit is neither, because the digit after it would decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from ..suite.errors import TaskUnaskable
from .draw import Draw
from .family import Family, required, split_of, usable
from .prompt import Prompt, Text, fill
from .tokenizer import Tokenizer

EVENTS = (
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
# The first is the paper's template; the others say the same in other words.
TEMPLATES = [
    "The {noun} lasted from the year {century}{year} to the year {end}",
    "The {noun} began in the year {century}{year} and ended in the year {end}",
    "The {noun} went on from {century}{year} to {end}",
]
_FIRST = "01"  # the counterfactual's year; the year of every prompt is later
DIGITS = [f"{year:02}" for year in range(100)]

VARIANTS = {
    "01": "the year's last two digits replaced by 01 (Hanna et al.; ACDC; EAP-IG)",
    "random-year": "the year replaced by one of another century (Edge Pruning)",
    "digit": "the year's last two digits replaced by 01; the next digit is asked for, where each digit is a token",
}


@lru_cache
def years(tokenizer: Tokenizer, century: int) -> list[str]:
    """The last two digits of all years but the first and last that are two tokens, century and rest."""
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


def splits_digits(tokenizer: Tokenizer) -> bool:
    """Whether each digit of a year is a token."""
    (year,) = tokenizer.tokens([" 1732"])
    digits = [str(digit) for digit in range(10)]
    return year.spans[-4:] == ((1, 2), (2, 3), (3, 4), (4, 5)) and all(tokenizer.one(digit) for digit in digits)


def by_digit(tokenizer: Tokenizer, split: str, draw: Draw) -> Iterator[Prompt | None]:
    """Prompts that end before the decade's digit."""
    nouns = tokenizer.words(EVENTS, 1, "nouns")
    if not splits_digits(tokenizer):
        raise TaskUnaskable(
            "this model's tokenizer does not split a year into digits; ask greater-than without @digit."
        )
    pool = [(str(century), rest) for century in CENTURIES for rest in DIGITS if "0" < rest[0] < "9" and rest[1] != "0"]
    tokenizer.asked("years", len(pool), len(pool))
    templates = usable(TEMPLATES, tokenizer, noun=nouns[0], century="17", year="32", end="17")
    while True:
        number, template = draw.one(templates)
        noun, (century, rest) = draw.one(nouns), draw.one(pool)
        if split_of(century + rest) != split:
            yield None
            continue
        digits = [str(digit) for digit in range(10)]
        yield Prompt(
            clean=_written(template, noun, century, rest),
            counterfactual=_written(template, noun, century, _FIRST),
            answers=tuple(digit for digit in digits if digit > rest[0]),
            wrong=tuple(digit for digit in digits if digit < rest[0]),
            split=split,
            template=number,
            then=tuple(digits[1:]),
        )


def prompts(tokenizer: Tokenizer, variant: str, split: str, draw: Draw) -> Iterator[Prompt | None]:
    if variant == "digit":
        yield from by_digit(tokenizer, split, draw)
        return
    pool = [(str(century), rest) for century in CENTURIES for rest in years(tokenizer, century) if rest > _FIRST]
    nouns = tokenizer.words(EVENTS, 1, "nouns")
    tokenizer.asked("years", len(pool), len(CENTURIES) * (len(DIGITS) - 2))
    if not pool and splits_digits(tokenizer):
        raise TaskUnaskable("this model's tokenizer splits years into digits; ask greater-than@digit instead.")
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
    models="mini, gpt2, gpt2-medium, gpt2-xl",
    papers_templates=(0,),
)
