"""The prompts of a training, in batches of one task and, without practice, of one length, so that nothing is padded."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..draw import fingerprint
from ..pack import padded
from ..prompt import Prompt
from ..tokenizer import Tokenizer
from .practice import PRACTICE, Practice, practise
from .recipe import Course, MiniRecipe
from .report import ROWS


@dataclass(frozen=True, eq=False)
class Lessons:
    """A course's prompts of one length.

    Args:
        tokens: long [n, P].
        answers: long [n, A], padded with -1.
        twin: long [n], the row of each prompt's counterfactual, or the prompt's own row when it has none.
        easy: bool [n], whether the first steps of the training have the prompt.
        nearest: that of the course.
    """

    tokens: Tensor
    answers: Tensor
    twin: Tensor
    easy: Tensor
    nearest: float

    def batch(self, n: int, beginners: bool, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(tokens, targets) [n, P]: random rows, and in the second half of the batch their twins.

        The target at a row's last token is one of its answers, chosen at random. Other targets are -1, where nothing is
        learnt.
        """
        rows = self.easy.nonzero().flatten() if beginners and bool(self.easy.any()) else torch.arange(len(self.easy))
        chosen = rows[torch.randint(len(rows), (n // 2,), generator=generator)]
        chosen = torch.cat([chosen, self.twin[chosen]])
        answers = self.answers[chosen]
        preference = torch.exp(-self.nearest * torch.arange(answers.shape[1]))
        targets = torch.full_like(self.tokens[chosen], -1)
        targets[:, -1:] = answers.gather(1, torch.multinomial(preference * (answers >= 0), 1, generator=generator))
        return self.tokens[chosen], targets


@dataclass(frozen=True, eq=False)
class Class:
    """All lessons of a course, and the probability of each length, float [n_lengths]."""

    course: Course
    lessons: tuple[Lessons | Practice, ...]
    shares: Tensor


def prepare_lessons(course: Course, recipe: MiniRecipe, tokenizer: Tokenizer, seed: int) -> Class:
    """Writes a course's training prompts. Those without practice are grouped by length."""
    from ... import tasks

    task = tasks.load(course.task)
    prompts = task.prompts(tokenizer, "train", recipe.pool, seed)
    if course.practice:
        practised = practise([PRACTICE[course.practice](prompt) for prompt in prompts], tokenizer)
        return Class(course, (practised,), torch.ones(1))
    held_out = {p.clean.text for split in ("validation", "test") for p in task.prompts(tokenizer, split, ROWS)}
    tokens = tokenizer.tokens([prompt.clean.text for prompt in prompts])
    by_length: dict[int, list[int]] = {}
    for row, its in enumerate(tokens):
        by_length.setdefault(len(its.ids), []).append(row)
    of_length = [[prompts[row] for row in rows] for _, rows in sorted(by_length.items())]
    lessons = [_lessons(course, tokenizer, its, held_out) for its in of_length]
    return Class(course, tuple(lessons), torch.tensor([float(len(part.tokens)) for part in lessons]))


def _lessons(course: Course, tokenizer: Tokenizer, prompts: list[Prompt], held_out: set[str]) -> Lessons:
    """Prompts of one length, followed by the counterfactuals that have an answer and are not held out."""
    taught = [i for i, prompt in enumerate(prompts) if prompt.then and prompt.counterfactual.text not in held_out]
    texts = [prompt.clean.text for prompt in prompts] + [prompts[i].counterfactual.text for i in taught]
    answers = [prompt.answers for prompt in prompts] + [prompts[i].then for i in taught]
    n = len(prompts)
    twin = torch.arange(len(texts))
    for row, i in enumerate(taught, n):
        twin[i], twin[row] = row, i
    return Lessons(
        tokens=torch.tensor([tokens.ids for tokens in tokenizer.tokens(texts)]),
        answers=padded([[tokenizer.one(word) for word in row] for row in answers], -1),
        twin=twin,
        easy=_easy(course, tokenizer, prompts, len(texts), twin),
        nearest=course.nearest,
    )


def _easy(course: Course, tokenizer: Tokenizer, prompts: list[Prompt], n_rows: int, twin: Tensor) -> Tensor:
    """Which rows have right and wrong answers that are all among the first answers of the vocabulary: bool [n_rows]."""
    if course.beginners is None:
        return torch.ones(n_rows, dtype=torch.bool)
    seen = sorted({tokenizer.one(word) for prompt in prompts for word in prompt.answers})
    first = set(seen[: course.beginners])
    easy = [all(tokenizer.one(word) in first for word in prompt.answers + prompt.wrong) for prompt in prompts]
    return torch.tensor([easy[row] if row < len(prompts) else easy[int(twin[row])] for row in range(n_rows)])


def generator(seed: int, step: int) -> torch.Generator:
    """The random generator of one step. Steps share no state, so training can continue from any of them."""
    return torch.Generator().manual_seed(fingerprint("mini", seed, step) % 2**63)
