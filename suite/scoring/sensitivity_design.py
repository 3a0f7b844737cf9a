"""Which settings of an analysis were tried, and how much each counts.

A setting is one level of each factor (the ablation is ``zero``, the component is ``edge``). The weight of a setting is
the product of its levels' weights. Levels of a factor weigh the same unless said otherwise: then a factor counts as
much with two levels as with nine, but near copies of one level still pull towards it, which ``level_weights`` is for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import prod

import numpy as np

from ..errors import SpecError, unknown

LevelWeights = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, eq=False)
class Design:
    """Settings as rows.

    Args:
        factors: names, [K].
        levels: for each factor the names of its levels, in order of first appearance.
        codes: int [D, K], which level of each factor a setting has. Every row differs from the others.
        weights: float [D], adding up to 1.
    """

    factors: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    codes: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(
        cls, factors: Sequence[str], settings: Sequence[Sequence[str]], level_weights: LevelWeights | None = None
    ) -> Design:
        """The design of ``settings``, each the names of its levels in the order of ``factors``.

        Args:
            level_weights: by factor and level, 0 or more; factors and levels not named weigh 1 (before they are
                divided by the sum over the settings).

        Raises:
            SpecError: no settings, a setting twice, weights of unknown factors or levels, negative ones or none left.
        """
        if not settings:
            raise SpecError("a sensitivity analysis needs one setting at least; none was given.")
        columns = list(zip(*settings, strict=True)) if factors else []
        levels = tuple(tuple(dict.fromkeys(column)) for column in columns)
        codes = np.array(
            [[levels[k].index(level) for k, level in enumerate(setting)] for setting in settings], dtype=int
        ).reshape(len(settings), len(factors))
        if len(np.unique(codes, axis=0)) < len(settings):
            raise SpecError("a setting is there twice; give each combination of levels once.")
        weights = _weights(tuple(factors), levels, codes, level_weights or {})
        return cls(tuple(factors), levels, codes, weights)

    @cached_property
    def complete(self) -> bool:
        """Whether every combination of levels is there: only then are factors independent, and Sobol's shares add up.

        Product weights on a full factorial make the factors independent whatever the weights are.
        """
        return len(self.codes) == prod(len(names) for names in self.levels)

    @cached_property
    def varying(self) -> tuple[int, ...]:
        """Positions of the factors with more than one level: the others explain nothing."""
        return tuple(k for k, names in enumerate(self.levels) if len(names) > 1)

    @cached_property
    def subsets(self) -> tuple[tuple[int, ...], ...]:
        """Of the factors that vary, smaller ones first: the empty one is the first, all of them the last."""
        return tuple(u for size in range(len(self.varying) + 1) for u in combinations(self.varying, size))

    @cached_property
    def members(self) -> tuple[np.ndarray, ...]:
        """For each of ``subsets``, which settings share its levels: their weights, float [D, n_groups], else 0.

        Groups that weigh nothing are left out: they have no mean.
        """
        found = []
        for subset in self.subsets:
            _, group = np.unique(self.codes[:, subset], axis=0, return_inverse=True)
            member = np.zeros((len(self.codes), group.max() + 1))
            member[np.arange(len(group)), group.ravel()] = self.weights
            found.append(member[:, member.sum(0) > 0])
        return tuple(found)

    @property
    def marginals(self) -> dict[str, dict[str, float]]:
        """What each level of each factor weighs, by factor: where combinations are missing it is not even."""
        return {
            factor: {
                name: float(self.weights[self.codes[:, k] == code].sum()) for code, name in enumerate(self.levels[k])
            }
            for k, factor in enumerate(self.factors)
        }

    def select(self, settings: np.ndarray) -> Design:
        """The design of the settings that a bool [D] keeps, weighing in proportion as they did."""
        kept = np.flatnonzero(settings)
        rows = [[self.levels[k][code] for k, code in enumerate(self.codes[d])] for d in kept]
        smaller = Design.of(self.factors, rows)
        return Design(smaller.factors, smaller.levels, smaller.codes, self.weights[kept] / self.weights[kept].sum())


def _weights(
    factors: tuple[str, ...], levels: tuple[tuple[str, ...], ...], codes: np.ndarray, given: LevelWeights
) -> np.ndarray:
    for factor, of_levels in given.items():
        if factor not in factors:
            raise SpecError(unknown("factor", factor, factors))
        for level, weight in of_levels.items():
            if level not in levels[factors.index(factor)]:
                raise SpecError(unknown(f"level of {factor}", level, levels[factors.index(factor)]))
            if not 0 <= weight < float("inf"):
                raise SpecError(f"the weight of {factor} {level} is {weight}; a weight is 0 or more, and finite.")
    weights = np.ones(len(codes))
    for k, factor in enumerate(factors):
        of_levels = np.array([given.get(factor, {}).get(name, 1.0) for name in levels[k]])
        weights *= of_levels[codes[:, k]]
    if not weights.sum() > 0:
        raise SpecError("every setting has weight 0; give some level of each factor a weight above 0.")
    return weights / weights.sum()
