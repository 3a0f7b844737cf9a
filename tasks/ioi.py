"""Indirect object identification (Wang et al. 2022, arXiv 2211.00593): who of two people is given the object.

The subject S is named twice and the indirect object IO once; the next token is IO. Fifteen templates of our own have
the token lengths of the paper's, each with either name first. Prompts go to splits by pairs of names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .draw import Draw
from .family import Family, split_of, usable
from .names import NAMES
from .prompt import Prompt, Text, fill
from .tokenizer import Tokenizer

PLACES = "store garden restaurant school hospital office house station".split()
OBJECTS = "ring kiss bone basketball computer necklace drink snack".split()
_LISTS = ((NAMES, 5, "names"), (PLACES, 1, "places"), (OBJECTS, 1, "objects"))
# {X} and {Y}: the two names in either order; {S2}: the subject again. The answer follows the last word.
TEMPLATES = [
    "Later, {X} and {Y} walked to the {place}. {S2} passed a {object} to",
    "Later, {X} and {Y} had a quick lunch at the {place}, where {S2} handed a {object} to",
    "Later, {X} and {Y} did some work at the {place}. {S2} then gave a {object} to",
    "Later, {X} and {Y} did some work at the {place}, but at last {S2} gave a {object} to",
    "Later, {X} and {Y} had a long talk, and {S2} explained everything to",
    "After {X} and {Y} came to the {place}, {S2} handed a {object} to",
    "On the day {X} and {Y} found a {object} at the {place}, {S2} gave it to",
    "While {X} and {Y} were still at work in the {place} today, {S2} passed a {object} to",
    "While {X} and {Y} were waiting at the {place}, {S2} passed a {object} to",
    "Today {X} and {Y} had to visit the {place}. {S2} gave a {object} to",
    "Early today, {X} and {Y} drove to the {place}, and {S2} handed the {object} to",
    "After a while {X} and {Y} reached the {place}, where {S2} gave a {object} to",
    "When {X} and {Y} had a long talk, {S2} said a word to",
    "When {X} and {Y} found a {object} at the {place}, {S2} handed it to",
    "Today, {X} and {Y} drove to the {place}. {S2} passed the {object} to",
]
# The templates of the test split under `fresh`. Edge Pruning, too, is tested on templates that are not searched on.
HELD_OUT = (3, 11)

VARIANTS = {
    "abc": "all three names replaced by three others (Wang et al.; ACDC)",
    "third-name": "the second subject replaced by a third name (EAP-IG)",
    "fresh": "all three names replaced as in abc; the test split has templates of its own (Edge Pruning)",
    "flip": "the second subject replaced by the indirect object, so that the answer flips (MIB)",
}


def prompts(tokenizer: Tokenizer, variant: str, split: str, draw: Draw) -> Iterator[Prompt | None]:
    names, places, objects = (tokenizer.words(*listed) for listed in _LISTS)
    words = {"X": names[0], "Y": names[1], "S2": names[0], "place": places[0], "object": objects[0]}
    templates = usable(TEMPLATES, tokenizer, **words)
    if variant == "fresh":
        templates = [one for one in templates if (one[0] in HELD_OUT) == (split == "test")]
    while True:
        number, template = draw.one(templates)
        order = draw.one((("IO", "S1"), ("S1", "IO")))
        scene = {"place": draw.one(places), "object": draw.one(objects)}
        io, s, *others = draw.some(names, 5)
        if split_of(" ".join(sorted((io, s)))) != split:
            yield None
            continue
        other = {
            "abc": others,
            "third-name": (io, s, others[0]),
            "fresh": others,
            "flip": (io, s, io),
        }[variant]
        yield Prompt(
            clean=_written(template, order, (io, s, s), scene),
            counterfactual=_written(template, order, other, scene),
            answers=(f" {io}",),
            wrong=(f" {s}",),
            split=split,
            template=2 * number + (order[0] == "S1"),
            then=(f" {s}",) if variant == "flip" else (),
        )


def _written(template: str, order: tuple[str, str], people: Sequence[str], scene: Mapping[str, str]) -> Text:
    """A template filled with people: the indirect object, the subject, and the person named last."""
    named = dict(zip(("IO", "S1", "S2"), people, strict=True))
    renamed = template.replace("{X}", f"{{{order[0]}}}").replace("{Y}", f"{{{order[1]}}}")
    return fill(renamed, **named, **scene)


FAMILY = Family(
    name="ioi",
    description="who of two people is given the object",
    paper="Wang et al. 2022, arXiv 2211.00593",
    variants=VARIANTS,
    objective="logit-difference",
    prompts=prompts,
    positions={"IO": ("IO", 0), "S1": ("S1", 0), "S1+1": ("S1", 1), "S2": ("S2", 0)},
    models="mini, gpt2, gpt2-medium, gpt2-xl, smollm2",
)
