"""A family: what a worker is given at a time, one cell or several that differ in the seed only.

Methods that train masks train those of several seeds together. Each cell is a record of its own, with its share of the
cost and the scores that it has alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from . import names
from .cell import Cell

Family = tuple[Cell, ...]


def families(cells: Iterable[Cell]) -> tuple[Family, ...]:
    """The cells in families, in the order of each family's first cell."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        together = names.method(cell.sources.method).runs_together(names.ablation(cell.ablation))
        found.setdefault(cell.without_seed() if together else cell.key, []).append(cell)
    return tuple(tuple(family) for family in found.values())
