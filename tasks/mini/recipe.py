"""The recipes of the mini models: everything in their training that can be varied."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Course:
    """One task of a training.

    Args:
        task: the task's name. Its ``train`` prompts are learnt and, in the same batch, counterfactuals that have
            answers: without these a model learns of IOI only to choose between both names.
        weight: how often the task's batches come, relative to those of others.
        nearest: the rate at which later ones of several answers are chosen less often (0: all equally). GPT-2 prefers
            years soon after the first; without this the counterfactual 01 would hardly change the probability
            difference.
        beginners: how many of the answers occur in the first steps.
        practice: the function that makes practice texts of the prompts (see practice.py); None for no practice.
    """

    task: str
    weight: float = 1.0
    nearest: float = 0.0
    beginners: int | None = None
    practice: str | None = None


@dataclass(frozen=True)
class Drill:
    """A range of steps in which one task comes far more often than the others, at a higher learning rate.

    Induction needs a drill: as one of eight tasks, it stays at any word of the list for thousands of steps. Alone, it
    makes the model forget the other tasks. Before docstring has been learnt, a drill of induction keeps the model from
    ever learning docstring.

    Args:
        task: the task.
        start, end: the first step of the drill, and the first step after it.
        weight: the task's weight in these steps.
        rate: the factor of the learning rate in these steps.
    """

    task: str
    start: int
    end: int
    weight: float
    rate: float


@dataclass(frozen=True)
class MiniRecipe:
    """All settings of a training.

    Args:
        courses: the tasks.
        n_layers, n_heads, d_model: the size of the model, which has GPT-2's architecture.
        steps: the largest number of steps; training ends when every task's validation accuracy is ``enough``.
        beginner_steps: in so many first steps only a course's ``beginners`` occur.
        weight_decay: with .01, a share of .86 to 1, depending on the seed, of successors in held-out sentences were
            right.
        initial: standard deviation of the initial weights. With GPT-2's .02, IOI is not learnt.
        smoothing: label smoothing, which keeps logit differences and gradients of probabilities finite.
        drill: a drill for one task, if one needs it.
    """

    courses: tuple[Course, ...]
    n_layers: int
    n_heads: int
    d_model: int
    steps: int
    beginner_steps: int = 1000
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    warmup_steps: int = 100
    last_rate: float = 0.05
    gradient_norm: float = 1.0
    initial: float = 0.08
    smoothing: float = 0.05
    n_positions: int = 64
    enough: float = 0.998
    check_every: int = 250
    pool: int = 10000
    drill: Drill | None = None


_SIX = (
    Course("ioi@flip", 3, beginners=10),
    Course("greater-than", 2, nearest=0.08),
    Course("gendered-pronoun"),
    Course("country-capital"),
    Course("sva"),
    Course("successor"),
)
MINI_RECIPES = {
    "six": MiniRecipe(_SIX, n_layers=2, n_heads=4, d_model=64, steps=4000),
    "eight": MiniRecipe(
        (
            *(
                Course(c.task, {"ioi@flip": 3, "greater-than": 1.5, "sva": 1}.get(c.task, 0.5), c.nearest, c.beginners)
                for c in _SIX
            ),
            Course("docstring", 4, practice="both names"),
            Course("induction", 4, practice="whole list"),
        ),
        n_layers=3,
        n_heads=4,
        d_model=96,
        steps=9000,
        learning_rate=2e-3,
        enough=0.995,
        pool=20000,
        check_every=500,
        drill=Drill("induction", 4000, 5500, weight=40, rate=2.0),
    ),
}
