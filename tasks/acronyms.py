"""Acronyms (Garcia-Carrasco et al. 2024, arXiv 2405.04156): the last letter of a three-letter acronym.

"The Central Data Office (CD" continues with "O". Each word begins with its capital. Each letter of the acronym is a
token of its own; where the vocabulary would join them, they are tokenized apart. The answer continues the acronym, so
it has no leading space. Prompts go to splits by the three letters.
"""

from __future__ import annotations

from collections.abc import Iterator

from .draw import Draw
from .family import Family, split_of, usable
from .prompt import Prompt, fill
from .tokenizer import BOUNDARY, Tokenizer

WORDS = (
    "Army Action Access Board Budget Building Business Center Control Council Community Data Defense Design Energy "
    "Economy Education Family Field Finance Force Group Growth Government Health History House Industry Image Index "
    "Justice Journal Job Land Law Library Market Media Mission Nature Network News Office Order Object Police Power "
    "Project Quality Question Queen Research Review Report School Science Service Trade Training Team Union Unit "
    "University Village Vision Value Water Welfare Work Youth Year"
).split()
_SLOTS = ("W1", "W2", "W3")
TEMPLATES = [f"The {{W1}} {{W2}} {{W3}} ({BOUNDARY}{{C1}}{BOUNDARY}{{C2}}{BOUNDARY}"]

VARIANTS = {
    "third": "the third word replaced, so that the answer is another",
    "first": "the first word replaced, the acronym's letters left",
    "second": "the second word replaced, the acronym's letters left",
}


def prompts(tokenizer: Tokenizer, variant: str, split: str, draw: Draw) -> Iterator[Prompt | None]:
    words = [word for word in tokenizer.words(WORDS, 4, "words") if tokenizer.one(word[0]) is not None]
    template = usable(TEMPLATES, tokenizer, W1=words[0], W2=words[1], W3=words[2], C1="A", C2="B")[0][1]
    slot = {"first": 0, "second": 1, "third": 2}[variant]
    while True:
        chosen = draw.some(words, 3)
        other = draw.one(words)
        letters = "".join(word[0] for word in chosen)
        if other[0] in letters or len(set(letters)) < 3 or split_of(letters) != split:
            yield None
            continue
        shown = [*chosen[:slot], other, *chosen[slot + 1 :]]
        marks = {"C1": letters[0], "C2": letters[1]}
        wrong = other[0]
        yield Prompt(
            clean=fill(template, **dict(zip(_SLOTS, chosen, strict=True)), **marks),
            counterfactual=fill(template, **dict(zip(_SLOTS, shown, strict=True)), **marks),
            answers=(letters[2],),
            wrong=(wrong,),
            split=split,
            template=0,
            then=(wrong,) if variant == "third" else (),
        )


FAMILY = Family(
    name="acronyms",
    description="the last letter of a three-letter acronym",
    paper="Garcia-Carrasco et al. 2024, arXiv 2405.04156",
    variants=VARIANTS,
    objective="logit-difference",
    prompts=prompts,
    positions={slot: (slot, 0) for slot in (*_SLOTS, "C1", "C2")},
    models="gpt2, smollm2",
)
