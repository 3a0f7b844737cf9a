"""Country of a capital (Hanna et al. 2024, EAP-IG, arXiv 2403.17806).

The answer is the country's first token. Prompts go to splits by (capital, template).
"""

from __future__ import annotations

from collections.abc import Iterator

from .draw import Draw
from .family import Family, required, split_of, usable
from .prompt import Prompt, fill
from .tokenizer import Tokenizer

COUNTRIES = {
    "Paris": "France", "Berlin": "Germany", "Rome": "Italy", "Madrid": "Spain", "Tokyo": "Japan", "London": "England",
    "Moscow": "Russia", "Cairo": "Egypt", "Athens": "Greece", "Vienna": "Austria", "Oslo": "Norway",
    "Stockholm": "Sweden", "Warsaw": "Poland", "Lisbon": "Portugal", "Dublin": "Ireland", "Ottawa": "Canada",
    "Delhi": "India", "Beijing": "China", "Baghdad": "Iraq", "Tehran": "Iran", "Lima": "Peru", "Havana": "Cuba",
    "Brussels": "Belgium", "Helsinki": "Finland", "Prague": "Czech", "Budapest": "Hungary", "Bucharest": "Romania",
    "Sofia": "Bulgaria", "Kiev": "Ukraine", "Ankara": "Turkey", "Damascus": "Syria", "Beirut": "Lebanon",
    "Jakarta": "Indonesia", "Manila": "Philippines", "Bangkok": "Thailand", "Hanoi": "Vietnam", "Seoul": "Korea",
    "Kabul": "Afghanistan", "Islamabad": "Pakistan", "Kathmandu": "Nepal", "Nairobi": "Kenya", "Tripoli": "Libya",
    "Tunis": "Tunisia", "Algiers": "Algeria", "Santiago": "Chile", "Bogota": "Colombia", "Caracas": "Venezuela",
    "Quito": "Ecuador", "Copenhagen": "Denmark", "Amsterdam": "Netherlands", "Bern": "Switzerland",
    "Canberra": "Australia", "Wellington": "New", "Zagreb": "Croatia", "Belgrade": "Serbia", "Tbilisi": "Georgia",
    "Yerevan": "Armenia", "Kampala": "Uganda", "Harare": "Zimbabwe", "Doha": "Qatar",
}  # fmt: skip
# The first is the paper's template.
TEMPLATES = [
    " {capital}, the capital of",
    " {capital} is the capital of",
    " The city of {capital}, which is the capital of",
    " I was in {capital}, the capital of",
]

VARIANTS = {"capital": "another capital of as many tokens"}


def prompts(tokenizer: Tokenizer, variant: str, split: str, draw: Draw) -> Iterator[Prompt]:
    by_length: dict[int, list[str]] = {}
    for capital, country in COUNTRIES.items():
        if tokenizer.one(f" {country}") is not None and tokenizer.knows(f" {capital}"):
            by_length.setdefault(len(tokenizer(f" {capital}")), []).append(capital)
    capitals = [capital for same in by_length.values() if len(same) > 1 for capital in same]
    tokenizer.asked("capitals", len(capitals), len(COUNTRIES))
    templates = usable(
        TEMPLATES, tokenizer, capital=required(capitals, "two capitals of as many tokens with countries")[0]
    )
    for (number, template), capital in draw.shuffled([(one, c) for one in templates for c in capitals]):
        same = by_length[len(tokenizer(f" {capital}"))]
        for other in draw.shuffled([c for c in same if c != capital])[:8]:
            right, wrong = f" {COUNTRIES[capital]}", f" {COUNTRIES[other]}"
            yield Prompt(
                clean=fill(template, capital=capital),
                counterfactual=fill(template, capital=other),
                answers=(right,),
                wrong=(wrong,),
                split=split_of(f"{capital} {number}"),
                template=number,
                then=(wrong,),
            )


FAMILY = Family(
    name="country-capital",
    description="which country a city is the capital of",
    paper="Hanna et al. 2024, arXiv 2403.17806",
    variants=VARIANTS,
    objective="logit-difference",
    prompts=prompts,
    positions={"capital": ("capital", 0)},
    models="mini, gpt2, gpt2-medium, gpt2-xl, smollm2",
    papers_templates=(0,),
)
