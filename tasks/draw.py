"""Random choices that are the same in every process and Python version. Python promises this of ``random()`` alone."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

from ..suite.errors import TaskUnaskable

T = TypeVar("T")


def fingerprint(*key: object) -> int:
    """A whole number below 2**64 that depends on the printed form of ``key`` and on nothing else."""
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()[:8], "big")


class Draw:
    """A stream of random choices, which depends on ``key`` alone.

    >>> Draw("ioi", 0).below(1000) == Draw("ioi", 0).below(1000)
    True
    """

    def __init__(self, *key: object) -> None:
        self._generator = random.Random(fingerprint(*key))

    def below(self, n: int) -> int:
        """A whole number from 0 to n - 1."""
        return int(self._generator.random() * n)

    def one(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in random order."""
        keys = [self._generator.random() for _ in items]
        return [items[i] for i in sorted(range(len(items)), key=keys.__getitem__)]

    def some(self, items: Sequence[T], n: int) -> list[T]:
        """``n`` different items, in random order; the items must be distinct.

        Raises:
            TaskUnaskable: there are fewer than ``n``.
        """
        if len(items) < n:
            raise TaskUnaskable(f"the task draws {n} different words, and this model's tokenizer has {len(items)}.")
        chosen: dict[int, None] = {}
        while len(chosen) < n:
            chosen[self.below(len(items))] = None
        return [items[i] for i in chosen]
