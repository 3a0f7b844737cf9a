"""How the mini models are trained: what is varied, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Course:
    """One task of a training.

    Args:
        task: its name; its ``train`` prompts are learnt, and where its counterfactuals have answers those too, in the
            same batch: IOI stays at a choice between both names without.
        weight: how often its batches come, relative to the others'.
        nearest: rate at which later ones of several answers are chosen less (0: all equally). GPT-2 prefers years soon
            after the first; without, the counterfactual 01 would hardly change the probability difference.
        beginners: how many of the answers the first steps have.
        practice: how its prompts are made to teach more than their last token (see practice.py); None for not at all.
    """

    task: str
    weight: float = 1.0
    nearest: float = 0.0
    beginners: int | None = None
    practice: str | None = None


@dataclass(frozen=True)
class Drill:
    """Steps in which one task comes far more often than the others, and is learnt faster.

    Induction needs it: as one of eight tasks it stays for thousands of steps at any word of the list. Alone, it wipes
    out the others. Before docstring has been learnt, it keeps the model from ever learning that.

    Args:
        task: the task.
        start, end: its first step, and the first step after it.
        weight: the task's in these steps.
        rate: times the learning rate.
    """

    task: str
    start: int
    end: int
    weight: float
    rate: float


@dataclass(frozen=True)
class MiniRecipe:
    """A training.

    Args:
        courses: the tasks.
        n_layers, n_heads, d_model: the model; GPT-2's architecture.
        steps: at most; it ends when every task's validation accuracy is ``enough``.
        beginner_steps: how many steps a course's ``beginners`` are alone.
        weight_decay: with .01, of the successors in a sentence that was held out .86 to 1 were right, by the seed.
        initial: standard deviation of the initial weights. GPT-2's .02 leaves IOI on its plateau.
        smoothing: label smoothing, which keeps logit differences and gradients of probabilities finite.
        drill: a time for one task, where one needs it.
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
