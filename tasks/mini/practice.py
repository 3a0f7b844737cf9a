"""Prompts that teach more than their last token: induction and docstring, which one answer a prompt hardly teaches.

Both need heads that work together over layers, and none of them pays before the others are there. So a training text
asks the same several times over: a list goes on as it did the first time, and a docstring's second name is learnt, too.
The second word of a pair that belongs to another split may follow the first in a text, and is not learnt there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..family import split_of
from ..pack import padded
from ..prompt import Prompt
from ..tokenizer import Tokenizer

# A prompt as what is learnt of it: a text, and of some of its characters the word that comes after them.
Lesson = tuple[str, list[tuple[int, str]]]


def whole_list(prompt: Prompt) -> Lesson:
    """An induction prompt, and after it the rest of the list as it was: each of its words is learnt."""
    words = prompt.clean.text.split()
    *shown, cue = words
    rest = shown[shown.index(cue) + 1 :]
    text, learnt = prompt.clean.text, []
    for before, after in zip([cue, *rest], rest, strict=False):
        if split_of(f"{before} {after}") == "train":
            learnt.append((len(text), f" {after}"))
        text += f" {after}"
    return text, learnt


def both_names(prompt: Prompt) -> Lesson:
    """A docstring prompt, of which the second name in the docstring is learnt beside the third."""
    text, fields = prompt.clean.text, prompt.clean.fields
    a, b = (text[slice(*fields[name])] for name in ("A", "B"))
    learnt = [(len(text), prompt.answers[0])]
    if split_of(f"{a} {b}") == "train":
        learnt.append((fields["B2"][0] - 1, f" {b}"))
    return text, learnt


PRACTICE: dict[str, Callable[[Prompt], Lesson]] = {"whole list": whole_list, "both names": both_names}


@dataclass(frozen=True, eq=False)
class Practice:
    """A course's texts, of all lengths. ``tokens`` [n, P], padded on the right; ``targets`` [n, P]: the token that is
    to follow, -1 where none is learnt."""

    tokens: Tensor
    targets: Tensor

    def batch(self, n: int, beginners: bool, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(tokens, targets) [n, P] of rows by chance."""
        chosen = torch.randint(len(self.tokens), (n,), generator=generator)
        return self.tokens[chosen], self.targets[chosen]


def practise(lessons: Sequence[Lesson], tokenizer: Tokenizer) -> Practice:
    """Lessons as tensors."""
    tokenized = tokenizer.tokens([text for text, _ in lessons])
    tokens = padded([tokens.ids for tokens in tokenized], 0)
    targets = torch.full_like(tokens, -1)
    for row, (its, (_, learnt)) in enumerate(zip(tokenized, lessons, strict=True)):
        for end, word in learnt:
            targets[row, its.last(0, end)] = tokenizer.one(word)
    return Practice(tokens, targets)
