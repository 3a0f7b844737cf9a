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
        found.setdefault(_family_key(cell), []).append(cell)
    return tuple(tuple(family) for family in found.values())


def share(cells: Iterable[Cell], shard: tuple[int, int]) -> tuple[Cell, ...]:
    """The I-th of N shares of the cells, I from 1: chosen by key, so that N machines need not know of each other, and
    families stay together."""
    number, of = shard
    return tuple(cell for cell in cells if int(_family_key(cell), 16) % of == number - 1)


def _family_key(cell: Cell) -> str:
    together = names.method(cell.sources.method).runs_together(names.ablation(cell.ablation))
    return cell.without_seed() if together else cell.key
