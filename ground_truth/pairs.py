"""Which (clean, counterfactual) pairs of a domain are tried: all where that is feasible, else a stratified sample."""

from __future__ import annotations

import numpy as np

EXHAUSTIVE = 4_096
SAMPLED = 1_024


def choose_pairs(classes: np.ndarray, seed: int, at_most: int = EXHAUSTIVE) -> tuple[np.ndarray, str]:
    """Pairs of different inputs, and how they were chosen, in words.

    Args:
        classes: int [N], the output class of each input.

    Returns:
        int [n_pairs, 2], clean and counterfactual index: all pairs when they are ``at_most`` so many, else SAMPLED of
        them, whose two output classes are drawn first, so that rare outputs are compared as often as common ones.
    """
    n = len(classes)
    if n * (n - 1) <= at_most:
        pairs = np.argwhere(~np.eye(n, dtype=bool))
        return pairs, "exhaustive"
    generator = np.random.default_rng(seed)
    members = [np.flatnonzero(classes == c) for c in range(classes.max() + 1)]
    chosen: set[tuple[int, int]] = set()
    while len(chosen) < SAMPLED:
        sides = generator.integers(len(members), size=2)
        clean, other = (int(members[side][generator.integers(len(members[side]))]) for side in sides)
        if clean != other:
            chosen.add((clean, other))
    return np.array(sorted(chosen)), "stratified by output class"


def all_pairs(n: int, seed: int, chunk: int = SAMPLED):
    """All pairs of n inputs in seeded random order, ``chunk`` at a time: int [<= chunk, 2]."""
    order = np.random.default_rng(seed).permutation(n * n)
    order = order[order // n != order % n]
    for start in range(0, len(order), chunk):
        part = order[start : start + chunk]
        yield np.stack([part // n, part % n], axis=1)
