"""PARArel (Elazar et al. 2021, arXiv 2102.01017; DiscoGP): the object of a fact, in several wordings.

Wordings that end with the object become prompts. The answer is the object's first token; wrong answers are the first
tokens of all other objects of the relation. There is no counterfactual. DiscoGP keeps only the facts that its model
knows; here all are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from . import hub
from .draw import Draw
from .family import Family, split_of
from .prompt import Prompt, Text
from .tokenizer import Tokenizer

_REPOSITORY = "coastalcph/pararel_patterns"
# The relations of DiscoGP, by their Wikidata numbers.
RELATIONS = {
    "P19": "born in",
    "P20": "died in",
    "P30": "continent",
    "P36": "capital",
    "P37": "official language",
    "P103": "native language",
    "P127": "owned by",
    "P136": "genre",
    "P138": "named after",
    "P140": "religion",
    "P159": "headquarters",
    "P176": "manufacturer",
    "P264": "record label",
    "P279": "kind of",
    "P364": "original language",
    "P407": "language of a work",
    "P413": "position in a team",
    "P449": "broadcaster",
    "P495": "country of origin",
    "P740": "founded in",
    "P1376": "capital of",
}
_MASK = re.compile(r"\s*\[(?:MASK|Y)\]\s*\.?\s*$")

VARIANTS = {"none": "none (zero, mean and resample ablations only)"}


def prompts(relation: str, tokenizer: Tokenizer, variant: str, split: str, draw: Draw) -> Iterator[Prompt]:
    found = [
        (_MASK.sub("", row["query"]).rstrip(), row["subject"], row["object"].strip())
        for row in hub.rows("pararel", _REPOSITORY, None, "train", ("relation", "query", "subject", "object"))
        if row["relation"].removesuffix(".jsonl") == relation
    ]
    first = {thing: tokenizer(f" {thing}")[0] for thing in {thing for _, _, thing in found}}
    for query, subject, thing in draw.shuffled([row for row in found if "[" not in row[0]]):
        yield Prompt(
            clean=Text(query),
            counterfactual=None,
            answers=(first[thing],),
            wrong=tuple(sorted(set(first.values()) - {first[thing]})),
            split=split_of(subject),
            template=0,
        )


def family(relation: str) -> Family:
    """The task of a relation."""
    return Family(
        name=f"pararel/{relation}",
        description=f"the object of a fact: {RELATIONS[relation]}",
        paper="Elazar et al. 2021, arXiv 2102.01017",
        variants=VARIANTS,
        objective="cross-entropy",
        prompts=partial(prompts, relation),
        models="any",
    )


FAMILIES = [family(relation) for relation in RELATIONS]
