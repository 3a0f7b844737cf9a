"""One prompt of a task as text, and templates to write prompts with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from string import Formatter


@dataclass(frozen=True)
class Text:
    """A text, and the place of each filled field in it: name -> (first character, one after the last)."""

    text: str
    fields: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Prompt:
    """A prompt and its counterfactual.

    Args:
        clean, counterfactual: texts with equally many tokens; the counterfactual is None for tasks without one.
        answers, wrong: right and wrong next tokens: text with its leading space, or a token id.
        split: the split of the prompt, chosen by ``split_of`` of something that no two splits share; None when the task
            assigns no splits.
        template: the number of the template.
        then: the right next tokens of the counterfactual, for tasks whose counterfactual has an answer.
    """

    clean: Text
    counterfactual: Text | None
    answers: tuple[str | int, ...]
    wrong: tuple[str | int, ...]
    split: str | None
    template: int
    then: tuple[str | int, ...] = ()


@lru_cache
def _parts(template: str) -> tuple[tuple[str, str | None], ...]:
    """(literal text, the field after it or None) of each part of a template."""
    return tuple((literal, name) for literal, name, _, _ in Formatter().parse(template))


def fill(template: str, **words: str) -> Text:
    """The template with its fields filled in.

    >>> fill("Then {A} left.", A="Mary")
    Text(text='Then Mary left.', fields={'A': (5, 9)})
    """
    text, fields = "", {}
    for literal, name in _parts(template):
        text += literal
        if name is not None:
            fields[name] = (len(text), len(text) + len(words[name]))
            text += words[name]
    return Text(text, fields)
