"""Induction (Olsson et al. 2022, arXiv 2209.11895; the task of ACDC): repeat the word that followed a word before.

A prompt is a list of different words, and then one of them again; the next token is the word that followed it in the
list. The beginning and the length of the list change from prompt to prompt, so that no absolute position gives the
answer. Prompts go to splits by (word, word that follows it).
"""

from __future__ import annotations

from collections.abc import Iterator

from .draw import Draw
from .family import Family, split_of, usable
from .greater_than import EVENTS
from .prompt import Prompt, Text
from .tokenizer import Tokenizer

TEMPLATES = [" {word}"]
_SHORTEST, _LONGEST = 6, 12  # words in the list

VARIANTS = {
    "cue": "another word of the list asked for at the end, so that the answer is another",
    "fresh": "the word's first mention replaced by one that is not in the list",
}


def prompts(tokenizer: Tokenizer, variant: str, split: str, draw: Draw) -> Iterator[Prompt | None]:
    words = tokenizer.words(EVENTS, _LONGEST + 1, "nouns")
    usable(TEMPLATES, tokenizer, word=words[0])
    while True:
        n = _SHORTEST + draw.below(_LONGEST - _SHORTEST + 1)
        *shown, fresh = draw.some(words, n + 1)
        asked, other = draw.some(range(n - 1), 2)
        right, wrong = f" {shown[asked + 1]}", f" {shown[other + 1]}"
        if split_of(f"{shown[asked]}{right}") != split:
            yield None
            continue
        if variant == "cue":
            counterfactual = _written(shown, asked, shown[other])
        else:
            counterfactual = _written([*shown[:asked], fresh, *shown[asked + 1 :]], asked, shown[asked])
        yield Prompt(
            clean=_written(shown, asked, shown[asked]),
            counterfactual=counterfactual,
            answers=(right,),
            wrong=(wrong,),
            split=split,
            template=n - _SHORTEST,
            then=(wrong,) if variant == "cue" else (),
        )


def _written(shown: list[str], asked: int, cue: str) -> Text:
    text, fields = "", {}
    for i, word in enumerate(shown):
        if i == asked:
            fields["first"] = (len(text) + 1, len(text) + 1 + len(word))
        text += f" {word}"
    return Text(f"{text} {cue}", fields)


FAMILY = Family(
    name="induction",
    description="a word comes again: what followed it the first time follows again",
    paper="Olsson et al. 2022, arXiv 2209.11895; Conmy et al. 2023, arXiv 2304.14997",
    variants=VARIANTS,
    objective="logit-difference",
    prompts=prompts,
    positions={"first": ("first", 0), "first+1": ("first", 1)},
    models="gpt2",
)
