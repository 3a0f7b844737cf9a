"""The prompts of a training as batches: one task each, and one length, so that nothing is padded, unless practised."""

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
    """A course's prompts of one length. ``tokens`` [n, P]; ``answers`` [n, A], -1 padded; ``twin`` [n]: row of the
    counterfactual, or the row itself; ``easy`` [n]: whether beginners have it; ``nearest``: as the course's."""

    tokens: Tensor
    answers: Tensor
    twin: Tensor
    easy: Tensor
    nearest: float

    def batch(self, n: int, beginners: bool, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(tokens, targets) [n, P]: half the rows by chance, half their twins. One answer of each, by chance, is to
        follow its last token; elsewhere targets are -1, and nothing is learnt."""
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
    """All lessons of a course, and how likely each length is: float [n_lengths]."""

    course: Course
    lessons: tuple[Lessons | Practice, ...]
    shares: Tensor


def prepare_lessons(course: Course, recipe: MiniRecipe, tokenizer: Tokenizer, seed: int) -> Class:
    """Writes a course's training prompts and groups them by length, but for those that are practised."""
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
    """Prompts of one length, and after them those counterfactuals that have an answer and are no held-out prompt."""
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
    """Rows of which the right and the wrong answer are both among the first words of the vocabulary's answers."""
    if course.beginners is None:
        return torch.ones(n_rows, dtype=torch.bool)
    seen = sorted({tokenizer.one(word) for prompt in prompts for word in prompt.answers})
    first = set(seen[: course.beginners])
    easy = [all(tokenizer.one(word) in first for word in prompt.answers + prompt.wrong) for prompt in prompts]
    return torch.tensor([easy[row] if row < len(prompts) else easy[int(twin[row])] for row in range(n_rows)])


def generator(seed: int, step: int) -> torch.Generator:
    """Chance of one step: no state is carried from step to step, so a training can go on from any of them."""
    return torch.Generator().manual_seed(fingerprint("mini", seed, step) % 2**63)
