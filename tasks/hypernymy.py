"""Hypernymy (Hanna et al. 2024, EAP-IG, arXiv 2403.17806): the kind that a list of things belongs to.

A kind may have several names, all of which are right answers. The word lists are our own. Prompts go to splits by
(thing, template).
"""

from __future__ import annotations

from collections.abc import Iterator

from .draw import Draw
from .family import Family, required, split_of, usable
from .prompt import Prompt, fill
from .tokenizer import Tokenizer

# Names of a kind -> things of that kind.
HYPERNYMS = {
    "animals creatures": "dogs cats horses cows pigs sheep wolves bears lions tigers elephants monkeys deer rabbits",
    "fruits fruit": "apples oranges bananas grapes lemons peaches cherries strawberries pears plums",
    "vegetables": "carrots onions potatoes tomatoes cabbage beans peas mushrooms spinach lettuce",
    "insects bugs": "ants bees flies mosquitoes beetles spiders wasps moths butterflies",
    "birds": "eagles crows pigeons ducks geese owls hawks parrots chickens",
    "tools": "hammers saws drills axes shovels knives screws",
    "vehicles": "cars trucks buses trains boats motorcycles bicycles vans",
    "instruments": "guitars drums pianos flutes violins trumpets",
    "countries nations": "France Germany Italy Spain Japan Russia China India Brazil Mexico Canada Egypt",
    "cities": "London Paris Berlin Rome Madrid Tokyo Chicago Boston Moscow Vienna Houston",
    "sports games": "football tennis basketball baseball hockey soccer golf rugby cricket boxing",
    "colors": "red blue green yellow purple orange pink brown white",
    "metals": "iron gold silver copper steel lead zinc nickel aluminum",
    "drinks beverages": "tea coffee beer wine milk juice soda vodka whiskey",
    "clothes clothing garments": "shirts coats jackets trousers skirts dresses socks hats shoes sweaters",
    "weapons arms": "guns rifles swords bombs missiles grenades tanks knives",
    "languages": "English French German Spanish Italian Chinese Japanese Arabic Russian Latin",
    "diseases illnesses": "cancer malaria measles flu diabetes tuberculosis influenza",
    "gems stones": "diamonds rubies emeralds pearls sapphires",
    "relatives": "uncles aunts cousins brothers sisters parents grandparents",
    "furniture": "tables chairs desks beds couches shelves",
}
# A comma or a word comes first, so that a space precedes the thing. The first is the paper's template.
TEMPLATES = [", {thing} and other", " They had {thing} and other", " There was talk of {thing}, and of other"]

VARIANTS = {"kind": "a thing of another kind and of as many tokens"}


def prompts(tokenizer: Tokenizer, variant: str, split: str, draw: Draw) -> Iterator[Prompt]:
    names = {kind: tuple(f" {name}" for name in tokenizer.words(kind.split())) for kind in HYPERNYMS}
    things = [(thing, kind) for kind, listed in HYPERNYMS.items() if names[kind] for thing in listed.split()]
    tokenizer.asked("kinds", sum(map(bool, names.values())), len(HYPERNYMS))
    length = {thing: len(tokenizer(f" {thing}")) for thing, _ in things}
    # A thing of two kinds, or a thing that is also the name of a kind, would be ambiguous.
    things = [(thing, kind) for thing, kind in things if sum(thing == other for other, _ in things) == 1]
    templates = usable(TEMPLATES, tokenizer, thing=required(things, "kind of things")[0][0])
    for (number, template), (thing, kind) in draw.shuffled([(t, pair) for t in templates for pair in things]):
        others = [(other, its) for other, its in things if its != kind and length[other] == length[thing]]
        for other, its in draw.shuffled(others)[:4]:
            yield Prompt(
                clean=fill(template, thing=thing),
                counterfactual=fill(template, thing=other),
                answers=names[kind],
                wrong=names[its],
                split=split_of(f"{thing} {number}"),
                template=number,
                then=names[its],
            )


FAMILY = Family(
    name="hypernymy",
    description="the kind that a thing belongs to",
    paper="Hanna et al. 2024, arXiv 2403.17806",
    variants=VARIANTS,
    objective="probability-difference",
    prompts=prompts,
    positions={"thing": ("thing", 0)},
    models="gpt2, gpt2-medium, gpt2-xl, smollm2",
    papers_templates=(0,),
)
