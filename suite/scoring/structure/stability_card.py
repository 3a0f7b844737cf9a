"""What a stability card holds, as values that are read by attribute. ``card.json`` is a ``StabilityCard``.

Scripts rely on the names of its fields. A number that is not defined is None.
"""

from __future__ import annotations

from typing import Literal

from ...json_model import File, Kept, Number, Values


class AtSize(Kept):
    """How alike the circuits of one size are (``stability.Stability``).

    always, sometimes: how many edges are in 95 % of the circuits at least, and in more than 5 % and less than 95 %.
    """

    size: int
    jaccard: Number
    low: Number
    high: Number
    lowest: Number
    chance: Number
    with_whole: Number
    rank: Number
    always: int
    sometimes: int
    rank_low: Number = None
    rank_high: Number = None


class CircuitChange(Kept):
    """What one kind of change does to a method's circuits, or why the change has no meaning here.

    points: the numbers by size. inclusion: edge -> the share of the circuits of the card's size that have it.
    auroc_of_inclusion, precision_of_always: how well that share, and the edges in 95 % of the circuits at least,
    recover the certified circuit.
    """

    undefined: str | None = None
    points: tuple[AtSize, ...] = ()
    inclusion: dict[str, float] = {}
    auroc_of_inclusion: Number = None
    precision_of_always: Number = None

    def at(self, size: int) -> AtSize:
        """The point of one of the sizes."""
        return next(point for point in self.points if point.size == size)


class PromptByPrompt(Kept):
    """A circuit's faithfulness and the quantiles of it over prompts (``0.05`` to ``0.95``), or why it is undefined.

    split: which of the task's prompts these are. A task without test prompts has those of the search.
    """

    undefined: str | None = None
    faithfulness: Number = None
    quantiles: dict[str, float] = {}
    below_half: Number = None
    prompts: int = 0
    split: Literal["test", "train"] = "train"


class MethodStability(Kept):
    """All numbers of one method; ``auroc`` and ``precision`` are its own circuit's, when a certified one is known."""

    method: str
    parameters: Values
    over: dict[str, CircuitChange]
    auroc: Number = None
    precision: Number = None
    prompt_by_prompt: PromptByPrompt


class PairOfMethods(Kept):
    """The difference of two methods' Jaccard index over prompts at the card's size, with its 95 % interval."""

    first: str
    second: str
    difference: float
    low: float
    high: float


class StabilityCard(File):
    """The content of ``card.json``: what was changed, on what, what stayed, and a paragraph for a paper."""

    format: Literal[1] = 1
    version: str
    task: str
    model: str
    model_hash: str
    data_hash: str
    prompts: int
    n_edges: int
    ablation: str
    objective: str
    resamples: int
    runs: int
    seed: int
    over: tuple[str, ...]
    size: int
    methods: tuple[MethodStability, ...]
    comparisons: tuple[PairOfMethods, ...]
    paragraph: str = ""

    model_config = {"protected_namespaces": ()}
