"""Successor (Lan et al. 2023, arXiv 2311.04131; Gould et al. 2023): the next member of a well-known order.

The orders are number words, months, days and letters. Prompts go to splits by (run, template).
"""

from __future__ import annotations

from collections.abc import Iterator

from .draw import Draw
from .family import Family, required, split_of, usable
from .prompt import Prompt, fill
from .tokenizer import Tokenizer

ORDERS = {
    "number": (
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen nineteen twenty"
    ).split(),
    "month": "January February March April May June July August September October November December".split(),
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split(),
    "letter": list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
}
TEMPLATES = [
    " {first} {second} {third}",
    " {first}, {second}, {third},",
    "The list goes on: {first}, {second}, {third},",
    "First {first}, then {second}, then {third}, then",
]
_RUN = 3

VARIANTS = {
    "shift": "another run of the same order, so that the answer is another",
    "random": "members of the same order in no order (Lan et al.)",
}


def prompts(tokenizer: Tokenizer, variant: str, split: str, draw: Draw) -> Iterator[Prompt | None]:
    orders = {name: tokenizer.words(order, what=f"{name}s") for name, order in ORDERS.items()}
    # In an order that lacks a member, the member after a gap would be wrong.
    whole = [order for name, order in orders.items() if len(order) == len(ORDERS[name])]
    first, second, third, *_ = required(whole, "order")[0]
    templates = usable(TEMPLATES, tokenizer, first=first, second=second, third=third)
    while True:
        order = draw.one(whole)
        number, template = draw.one(templates)
        start, other = draw.some(range(len(order) - _RUN), 2)
        run = order[start : start + _RUN]
        shown = order[other : other + _RUN]
        if split_of(f"{run[0]} {number}") != split:
            yield None
            continue
        if variant == "random":
            shown = draw.some(order, _RUN)
            if order.index(shown[1]) == order.index(shown[0]) + 1 or order.index(shown[2]) == order.index(shown[1]) + 1:
                continue
        wrong = order[other + _RUN]
        yield Prompt(
            clean=_written(template, run),
            counterfactual=_written(template, shown),
            answers=(f" {order[start + _RUN]}",),
            wrong=(f" {wrong}",),
            split=split,
            template=number,
            then=(f" {wrong}",) if variant == "shift" else (),
        )


def _written(template: str, run: list[str]):
    return fill(template, **dict(zip(("first", "second", "third"), run, strict=True)))


FAMILY = Family(
    name="successor",
    description="the next member of an order: numbers, months, days, letters",
    paper="Lan et al. 2023, arXiv 2311.04131",
    variants=VARIANTS,
    objective="logit-difference",
    prompts=prompts,
    positions={"first": ("first", 0), "second": ("second", 0), "third": ("third", 0)},
    models="mini, gpt2, smollm2",
)
