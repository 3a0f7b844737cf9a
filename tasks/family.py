"""Tasks that are written as text, with named variants; a model's tokenizer makes a ``Task`` of one.

ioi                 the default counterfactual
ioi@flip            another counterfactual
ioi@flip+bos        the same, with the token that begins a text before each prompt
ioi@seed1           other prompts of the same kind and split, from another draw
greater-than@paper  only the templates that the paper has, for tasks that have more
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from ..suite.data import Data
from ..suite.errors import SpecError, TaskUnaskable, unknown
from .draw import Draw, fingerprint
from .pack import pack
from .prompt import Prompt
from .task import Task
from .tokenizer import Tokenizer

T = TypeVar("T")
_SPLITS = {"train": 200, "validation": 200, "test": 1000}  # rows at most
_BOS = "bos"
PAPER = "paper"
_SEED = re.compile(r"seed(\d+)")
_MISSES = 3000  # so many draws without a new prompt in succession end a split

# (tokenizer, variant, split, draw) to prompts: an endless stream, or each prompt once. None is a prompt of another
# split.
PromptMaker = Callable[[Tokenizer, str, str, Draw], Iterator[Prompt | None]]


def split_of(key: str) -> str:
    """The split of the prompts with this key: ``train`` for 8 of 10 keys, each of the others for 1 of 10.

    The mini models are trained on ``train``, training stops by ``validation``, and accuracies are reported on ``test``.
    So the three splits of a task are three different sets for them, too.
    """
    return ("validation", "test")[remainder] if (remainder := fingerprint("split", key) % 10) < 2 else "train"


@dataclass(frozen=True, eq=False)
class Family:
    """A task as text, in all its variants.

    Args:
        name: such as ``ioi``.
        description: what is asked, in one line.
        paper: the paper that the task comes from.
        variants: name -> description of the counterfactual; the first variant is the default.
        objective: the objective of a search that names no other.
        prompts: ``(tokenizer, variant, split, draw)`` to prompts, of this split or of all; None is skipped.
        positions: name -> (field, shift), the tokens that have a name in every prompt.
        models: which models do the task well enough, in words.
        papers_templates: the numbers of the paper's templates, when there are others; empty otherwise.
    """

    name: str
    description: str
    paper: str
    variants: Mapping[str, str]
    objective: str
    prompts: PromptMaker
    positions: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    models: str = "gpt2"
    papers_templates: tuple[int, ...] = ()

    @property
    def names(self) -> list[str]:
        """``ioi``, ``ioi@flip``, ...: the default variant has the family's own name."""
        first, *others = self.variants
        return [self.name, *(f"{self.name}@{variant}" for variant in others)]

    def task(self, options: str = "") -> TextTask:
        """The task of a variant: ``""``, ``flip``, ``bos``, ``flip+bos+seed1``. Raises SpecError for an unknown one."""
        asked = [option for option in options.split("+") if option]
        seeds = [option for option in asked if _SEED.fullmatch(option)]
        switches = [PAPER, _BOS] if self.papers_templates else [_BOS]
        variant = [option for option in asked if option not in (*switches, *seeds)] or [next(iter(self.variants))]
        if len(variant) > 1 or len(seeds) > 1 or variant[0] not in self.variants or len(set(asked)) < len(asked):
            hint = "Join several with '+'; seed1, seed2, ... draw other prompts."
            raise SpecError(unknown(f"variant of {self.name}", options, [*self.variants, *switches], hint))
        seed = int(_SEED.fullmatch(seeds[0])[1]) if seeds else 0
        return TextTask(self, variant[0], _BOS in asked, seed, PAPER in asked)


@dataclass(frozen=True)
class TextTask:
    """A variant of a family: a task that runs on every model whose tokenizer knows its words.

    Args:
        family: the family that this is a variant of.
        variant: the name of the counterfactual.
        bos: whether each prompt begins with the token that begins a text; this changes the hash.
        seed: the number of the draw of prompts.
        paper: whether prompts come from the paper's templates alone.
    """

    family: Family
    variant: str
    bos: bool = False
    seed: int = 0
    paper: bool = False
    model: None = None
    truth: None = None

    @property
    def name(self) -> str:
        first = next(iter(self.family.variants))
        options = [self.variant] * (self.variant != first) + [PAPER] * self.paper + [_BOS] * self.bos
        options += [f"seed{self.seed}"] * (self.seed > 0)
        return f"{self.family.name}@{'+'.join(options)}" if options else self.family.name

    @property
    def description(self) -> str:
        templates = "; the paper's templates" * self.paper
        return f"{self.family.description}; counterfactual: {self.family.variants[self.variant]}{templates}"

    @property
    def models(self) -> str:
        """Which models do the task well enough, in words."""
        return self.family.models

    @property
    def objective(self) -> str:
        return self.family.objective

    def on(self, tokenizer: Tokenizer) -> Task:
        """The task in a model's tokens."""
        splits = {split: partial(self._data, tokenizer, split) for split in _SPLITS}
        return Task(self.name, self.description, None, None, self.objective, splits)

    def vocabulary(self, tokenizer: Tokenizer) -> dict[str, tuple[int, int]]:
        """How many of its words the task can use with a tokenizer: kind of word -> (usable, of how many).

        Raises:
            TaskUnaskable, DataError: the tokenizer knows too few of them.
        """
        own = Tokenizer(tokenizer.source)
        next(iter(self.family.prompts(own, self.variant, "train", Draw(self.family.name))))
        return own.vocabulary

    def prompts(self, tokenizer: Tokenizer, split: str, n: int, seed: int = 0) -> list[Prompt]:
        """At most ``n`` different prompts of a split, drawn by the seed.

        Raises:
            TaskUnaskable: the tokenizer knows too few of the task's words to write a single one.
        """
        found: dict[tuple[str, str | None], Prompt] = {}
        misses = 0
        draw = Draw(self.family.name, self.variant, split, seed)
        for prompt in self.family.prompts(tokenizer, self.variant, split, draw):
            misses += 1
            if prompt is not None and prompt.split == split and self._has(prompt):
                both = (prompt.clean.text, prompt.counterfactual.text if prompt.counterfactual else None)
                misses = misses if both in found else 0
                found.setdefault(both, prompt)
            if len(found) == n or misses > _MISSES:
                break
        if not found:
            raise TaskUnaskable(
                f"the task {self.name} has no {split} prompt in this tokenizer's vocabulary; choose another model "
                f"({self.models})."
            )
        return list(found.values())

    def _has(self, prompt: Prompt) -> bool:
        """Whether the task has the template of a prompt."""
        return not self.paper or prompt.template in self.family.papers_templates

    def _data(self, tokenizer: Tokenizer, split: str) -> Data:
        prompts = self.prompts(tokenizer, split, _SPLITS[split], self.seed)
        return pack(prompts, tokenizer, self.family.positions, bos=self.bos)


def required(items: Sequence[T], what: str) -> Sequence[T]:
    """The items. Raises TaskUnaskable when the list is empty, because the tokenizer knows no ``what``."""
    if not items:
        raise TaskUnaskable(f"this model's tokenizer has no {what} in single tokens; choose another model.")
    return items


def usable(templates: Sequence[str], tokenizer: Tokenizer, **words: str) -> Sequence[tuple[int, str]]:
    """(number, template) of the templates whose words the tokenizer knows.

    Args:
        words: a known word for every field.

    Raises:
        TaskUnaskable: the tokenizer knows the words of no template.
    """
    known = [(i, template) for i, template in enumerate(templates) if tokenizer.knows(template.format(**words))]
    return required(known, "template of this task")
