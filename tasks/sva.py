"""Subject-verb agreement (Linzen et al. 2016; Newman et al. 2021; EAP-IG): the verb agrees with the first noun.

The words are our own. Up to two prepositional phrases stand between noun and verb; their nouns suggest the wrong
number. Prompts go to splits by (subject, noun of the first phrase).
"""

from __future__ import annotations

from collections.abc import Iterator

from .draw import Draw
from .family import Family, split_of, usable
from .prompt import Prompt, fill
from .tokenizer import Tokenizer

# singular, plural
NOUN_FORMS = [
    (word, word + "s")
    for word in (
        "key boy girl friend teacher doctor car book dog cat bird tree picture letter table window door chair "
        "student lawyer driver author manager officer painting building report cabinet"
    ).split()
]
VERB_FORMS = [
    ("is", "are"), ("was", "were"), ("has", "have"), ("does", "do"), ("goes", "go"), ("makes", "make"),
    ("seems", "seem"), ("looks", "look"), ("comes", "come"), ("stands", "stand"), ("needs", "need"), ("gets", "get"),
    ("takes", "take"), ("gives", "give"), ("shows", "show"), ("moves", "move"), ("runs", "run"), ("falls", "fall"),
    ("stays", "stay"), ("appears", "appear"), ("belongs", "belong"), ("remains", "remain"), ("tells", "tell"),
    ("knows", "know"), ("likes", "like"), ("wants", "want"), ("helps", "help"), ("says", "say"),
]  # fmt: skip
PREPOSITIONS = "near behind beside by".split()
TEMPLATES = [
    "The {subject}",
    "The {subject} {prep1} the {noun1}",
    "The {subject} {prep1} the {noun1} {prep2} the {noun2}",
]

VARIANTS = {"number": "the subject in the other number, so that the answer flips"}


def prompts(tokenizer: Tokenizer, variant: str, split: str, draw: Draw) -> Iterator[Prompt | None]:
    tokenizer.words([noun for pair in NOUN_FORMS for noun in pair], 6, "nouns")
    nouns = [pair for pair in NOUN_FORMS if len(tokenizer.words(pair)) == 2]
    verbs = [pair for pair in VERB_FORMS if len(tokenizer.words(pair)) == 2]
    prepositions = tokenizer.words(PREPOSITIONS, 1, "prepositions")
    by_number = [tuple(f" {pair[number]}" for pair in verbs) for number in (0, 1)]
    first, prep = nouns[0][0], prepositions[0]
    templates = usable(TEMPLATES, tokenizer, subject=first, prep1=prep, noun1=first, prep2=prep, noun2=first)
    while True:
        # Most prompts have one phrase or two, because there are only few different prompts without a phrase.
        number, template = draw.one([*templates, *templates[1:], *templates[1:]])
        subject, *between = draw.some(nouns, 3)
        if split_of(f"{subject[0]} {between[0][0] if number else ''}") != split:
            yield None
            continue
        plural, *others = (draw.below(2) for _ in range(3))
        rest = {"prep1": draw.one(prepositions), "prep2": draw.one(prepositions)}
        rest |= {f"noun{i}": noun[other] for i, (noun, other) in enumerate(zip(between, others, strict=True), 1)}
        yield Prompt(
            clean=fill(template, subject=subject[plural], **rest),
            counterfactual=fill(template, subject=subject[1 - plural], **rest),
            answers=by_number[plural],
            wrong=by_number[1 - plural],
            split=split,
            template=number,
            then=by_number[1 - plural],
        )


FAMILY = Family(
    name="sva",
    description="the verb agrees with the subject, not with the nouns between",
    paper="Newman et al. 2021, arXiv 2104.08247; Hanna et al. 2024, arXiv 2403.17806",
    variants=VARIANTS,
    objective="probability-difference",
    prompts=prompts,
    positions={"subject": ("subject", 0)},
    models="mini, gpt2, gpt2-medium, gpt2-xl, smollm2",
)
