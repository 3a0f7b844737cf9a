"""Which settings of an analysis were tried, and how much each counts.

A setting is one level of each factor (the ablation is ``zero``, the component is ``edge``). Levels of a factor weigh
the same unless said otherwise, and a setting's weight is the product of its levels': a factor counts as much with two
levels as with nine. Near copies of one level still pull towards it, which ``level_weights`` is for. When combinations
are missing, the levels that are there share the weight, factor by factor in the order of the factors. An ablation thus
weighs as much as every other one, whether it can be run in one direction or in two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import prod

import numpy as np

from ...errors import SpecError, unknown

LevelWeights = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, eq=False)
class Design:
    """Settings as rows.

    Args:
        factors: names, [K].
        levels: for each factor the names of its levels, in order of first appearance.
        codes: int [D, K], which level of each factor a setting has. Every row differs from the others.
        weights: float [D], adding up to 1.
        level_weights: the weights that were given, by factor and level.
    """

    factors: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    codes: np.ndarray
    weights: np.ndarray
    level_weights: LevelWeights

    @classmethod
    def of(
        cls, factors: Sequence[str], settings: Sequence[Sequence[str]], level_weights: LevelWeights | None = None
    ) -> Design:
        """The design of ``settings``, each the names of its levels in the order of ``factors``.

        Args:
            level_weights: by factor and level, 0 or more; levels not named weigh 1, and only the ratios within a factor
                matter.

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
        level_weights = level_weights or {}
        weights = _weights(codes, _checked(tuple(factors), levels, level_weights))
        return cls(tuple(factors), levels, codes, weights, level_weights)

    @cached_property
    def complete(self) -> bool:
        """Whether every combination of levels is there: only then are factors independent, and Sobol's shares add up.

        Product weights on a full factorial make the factors independent whatever the weights are.
        """
        return len(self.codes) == prod(len(names) for names in self.levels)

    @cached_property
    def varying(self) -> tuple[int, ...]:
        """Positions of the factors with more than one level. The others explain no variance."""
        return tuple(k for k, names in enumerate(self.levels) if len(names) > 1)

    @cached_property
    def subsets(self) -> tuple[tuple[int, ...], ...]:
        """All subsets of the factors that vary, by size: the first is the empty one, the last has all of them."""
        return tuple(u for size in range(len(self.varying) + 1) for u in combinations(self.varying, size))

    @cached_property
    def members(self) -> tuple[np.ndarray, ...]:
        """For each of ``subsets`` the groups of settings that share its levels: float [D, n_groups].

        An entry is the weight of the setting if it is in the group, else 0. Groups whose weight is 0 are left out,
        because they have no mean.
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
        """The weight of each level, by factor. Levels weigh differently when combinations are missing."""
        return {
            factor: {
                name: float(self.weights[self.codes[:, k] == code].sum()) for code, name in enumerate(self.levels[k])
            }
            for k, factor in enumerate(self.factors)
        }

    def complete_part(self) -> np.ndarray:
        """The settings, bool [D], that are left as a complete factorial when levels are dropped.

        The level that lacks the most combinations is dropped first. On a complete grid all settings are kept. If no
        factor keeps two levels, there is nothing to compare.
        """
        kept = np.ones(len(self.codes), dtype=bool)
        while True:
            present = [np.unique(column[kept]) for column in self.codes.T]
            full = prod(len(codes) for codes in present)
            if kept.sum() == full:
                return kept
            # For each level, the share of its combinations that are there.
            filled = {
                (k, code): (kept & (self.codes[:, k] == code)).sum() * len(present[k]) / full
                for k in range(len(self.factors))
                for code in present[k]
                if len(present[k]) > 1
            }
            # On a tie, the last level of the last factor is dropped.
            k, code = min(filled, key=lambda place: (round(filled[place], 9), -place[0], -place[1]))
            kept &= self.codes[:, k] != code

    def select(self, settings: np.ndarray) -> Design:
        """The design of the settings that a bool [D] keeps, weighed anew by the same weights of levels."""
        kept = self.codes[np.flatnonzero(settings)]
        rows = [[self.levels[k][code] for k, code in enumerate(row)] for row in kept.tolist()]
        weights = {
            factor: {name: weight for name, weight in given.items() if name in {row[k] for row in rows}}
            for k, factor in enumerate(self.factors)
            if (given := self.level_weights.get(factor))
        }
        return Design.of(self.factors, rows, weights)


def _checked(factors: tuple[str, ...], levels: tuple[tuple[str, ...], ...], given: LevelWeights) -> list[np.ndarray]:
    """The weight of each level of each factor, as given or 1."""
    for factor, of_levels in given.items():
        if factor not in factors:
            raise SpecError(unknown("factor", factor, factors))
        for level, weight in of_levels.items():
            if level not in levels[factors.index(factor)]:
                raise SpecError(unknown(f"level of {factor}", level, levels[factors.index(factor)]))
            if not 0 <= weight < float("inf"):
                raise SpecError(f"the weight of {factor} {level} is {weight}; a weight is 0 or more, and finite.")
    return [
        np.array([given.get(factor, {}).get(name, 1.0) for name in names])
        for factor, names in zip(factors, levels, strict=True)
    ]


def _weights(codes: np.ndarray, of_levels: list[np.ndarray]) -> np.ndarray:
    """The weight of each setting [D]: factor by factor, a level's share among the levels that are there."""
    weights = np.ones(len(codes))
    for k, of_level in enumerate(of_levels):
        _, before = np.unique(codes[:, :k], axis=0, return_inverse=True)
        there = np.zeros((before.max() + 1, len(of_level)))
        there[before.ravel(), codes[:, k]] = of_level[codes[:, k]]
        total = there.sum(1)[before.ravel()]
        weights *= of_level[codes[:, k]] / np.where(total > 0, total, 1.0)
    if not weights.sum() > 0:
        raise SpecError("every setting has weight 0; give some level of each factor a weight above 0.")
    return weights / weights.sum()
