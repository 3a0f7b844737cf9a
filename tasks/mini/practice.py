"""Practice texts, from which more than the last token is learnt, for induction and docstring.

One answer per prompt hardly teaches these two tasks: both need heads that work together over layers, and no head helps
before the others have been learnt. So a training text asks the same several times: a list continues as it did the first
time, and a docstring's second name is learnt, too. Where a text contains a pair of words of another split, its second
word is not learnt.
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

# What is learnt from a prompt: a text, and for some of its characters the word that follows them.
Lesson = tuple[str, list[tuple[int, str]]]


def whole_list(prompt: Prompt) -> Lesson:
    """An induction prompt, continued by the rest of the list, each word of which is learnt."""
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
    """A docstring prompt, from which the docstring's second name is learnt as well as the third."""
    text, fields = prompt.clean.text, prompt.clean.fields
    a, b = (text[slice(*fields[name])] for name in ("A", "B"))
    learnt = [(len(text), prompt.answers[0])]
    if split_of(f"{a} {b}") == "train":
        learnt.append((fields["B2"][0] - 1, f" {b}"))
    return text, learnt


PRACTICE: dict[str, Callable[[Prompt], Lesson]] = {"whole list": whole_list, "both names": both_names}


@dataclass(frozen=True, eq=False)
class Practice:
    """A course's texts, of all lengths.

    Args:
        tokens: long [n, P], padded on the right.
        targets: long [n, P], the next token, or -1 where nothing is learnt.
    """

    tokens: Tensor
    targets: Tensor

    def batch(self, n: int, beginners: bool, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(tokens, targets) [n, P] of random rows."""
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
