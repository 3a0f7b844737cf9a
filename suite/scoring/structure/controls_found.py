"""What controls find of a cell's circuit, as values that a store keeps; a number that is not defined is None."""

from __future__ import annotations

from typing import Literal, get_args

from ...json_model import Kept, Number

BLOCKS = 512
"""In a complement of at most this many edges, the search for the worst subset changes each edge alone; in a larger one,
all edges out of a node together."""

ROUNDS = 10
"""The most rounds of that search."""

Null = Literal["reset-weights", "permuted-labels", "nonsense"]
NULLS: tuple[Null, ...] = get_args(Null)


class NullFound(Kept):
    """What the method finds on a null, where there is nothing to find; or why the null has no meaning.

    faithfulness: that of the circuit found on the null, judged on the null. beyond: how much more faithful the method's
    circuit on the task itself is. Both have 95 % intervals over held-out prompts. jaccard: the index of the two
    circuits, without edges of score zero. chance: the index of two random circuits. auroc: the area of the null's
    scores against the certified circuit.
    """

    undefined: str | None = None
    faithfulness: Number = None
    low: Number = None
    high: Number = None
    beyond: Number = None
    beyond_low: Number = None
    beyond_high: Number = None
    jaccard: Number = None
    chance: Number = None
    auroc: Number = None


class ComplementFound(Kept):
    """The circuit's faithfulness when only parts of its complement are cut, or why these cuts have no meaning.

    All are on held-out prompts. whole: the faithfulness with all of the complement cut. random: the mean over random
    halves, with the 2.5 % and 97.5 % quantiles over them. worst: the faithfulness with the worst subset found, which
    has ``edges`` of the complement's ``of`` edges. low, high: the 95 % interval of ``worst`` over prompts. searched:
    ``worst`` on the prompts of the search. evaluated: how many subsets were tried.
    """

    undefined: str | None = None
    whole: Number = None
    random: Number = None
    random_low: Number = None
    random_high: Number = None
    worst: Number = None
    low: Number = None
    high: Number = None
    searched: Number = None
    edges: int = 0
    of: int = 0
    evaluated: int = 0


class ExactFound(Kept):
    """The method's scores against exact patching of edges drawn by chance, or why the comparison has no meaning.

    rank: Spearman's correlation of absolute scores. explained: 1 - sum (score - effect)^2 / sum effect^2, which is 1
    for scores that are the effects and may be far below 0 for scores in another unit. 95 % intervals over edges.
    """

    undefined: str | None = None
    edges: int = 0
    rank: Number = None
    rank_low: Number = None
    rank_high: Number = None
    explained: Number = None
    explained_low: Number = None
    explained_high: Number = None


class ControlsFound(Kept):
    """All controls of a cell's circuit of ``size`` edges, under the cell's own ablation and objective."""

    size: int
    nulls: dict[str, NullFound] = {}
    complement: ComplementFound | None = None
    exact: ExactFound | None = None
