"""Minimal circuits by greedy deletion: edges are removed in a given order as long as no output changes."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

from .cuts import CutTest


def deletion_orders(edges: Tensor, n_random: int, seed: int) -> list[Tensor]:
    """Orders in which to try deleting edges [W, R]: from the inputs on, from the logits back, seeded random ones."""
    where = edges.nonzero()
    backward = where[:, 1].mul(len(edges)).add(where[:, 0]).argsort(descending=True)
    generator = np.random.default_rng(seed)
    random = [torch.from_numpy(generator.permutation(len(where))) for _ in range(n_random)]
    return [torch.arange(len(where)), backward, *random]


class Deletion:
    """Greedy deletion, repeated until no single edge and, with ``at_once=2``, no two edges can be removed.

    Args:
        test: the outputs that may not change.
        possible: bool [W, R], the circuit to start from.
        tolerance: the largest change of an output that counts as none.
        inert: edges that may be cut together without effect while all others of ``possible`` are kept, by proof;
            circuits that cut no other need no test.
        effects: [n_possible, N], of cutting each edge of ``possible`` alone on each row of the test.
    """

    def __init__(
        self,
        test: CutTest,
        possible: Tensor,
        tolerance: float,
        *,
        effects: Tensor,
        inert: Tensor | None = None,
        at_once: int = 1,
    ) -> None:
        self.test, self.possible, self.tolerance, self.at_once = test, possible, tolerance, at_once
        self.varying = None if inert is None else possible & ~inert
        # Most deletions that fail do so on the few rows where single cuts have the largest effects, tried first.
        self.probe = test.on(effects.argmax(1).unique())
        self._known: dict[bytes, bool] = {}

    def fits(self, circuits: Tensor) -> Tensor:
        """Which circuits [C, W, R] leave all outputs as they are: bool [C]. Each is tested once and remembered."""
        keys = [circuit.numpy().tobytes() for circuit in circuits]
        new = {key: i for i, key in enumerate(keys) if key not in self._known}
        if new:
            self._known |= dict(zip(new, self._test(circuits[list(new.values())]).tolist(), strict=True))
        return torch.tensor([self._known[key] for key in keys])

    def _test(self, circuits: Tensor) -> Tensor:
        if self.varying is None:
            fits = torch.zeros(len(circuits), dtype=torch.bool)
        else:
            fits = ~(self.varying & ~circuits).flatten(1).any(1)
        undecided = (~fits).nonzero().flatten()
        for test in (self.probe, self.test):
            if len(undecided):
                undecided = undecided[test.error(circuits[undecided]) <= self.tolerance]
        fits[undecided] = True
        return fits

    def minimal_circuits(self, orders: list[Tensor]) -> Tensor:
        """The circuit that each order ends at: bool [n_orders, W, R]."""
        circuits = self._without_single(self.possible.repeat(len(orders), 1, 1), orders)
        while self.at_once == 2:
            smaller = torch.stack([self._without_pair(c, o) for c, o in zip(circuits, orders, strict=True)])
            if torch.equal(smaller, circuits):
                break
            circuits = self._without_single(smaller, orders)
        return circuits

    def _without_pair(self, circuit: Tensor, order: Tensor) -> Tensor:
        """The circuit [W, R] without the first two edges, in the order of deletion, that can be removed together."""
        kept = [(w, r) for w, r in self.possible.nonzero()[order].tolist() if circuit[w, r]]
        pairs = list(itertools.combinations(kept, 2))
        tried = circuit.repeat(len(pairs), 1, 1)
        for mask, pair in zip(tried, pairs, strict=True):
            for w, r in pair:
                mask[w, r] = False
        fits = self.fits(tried).nonzero().flatten() if pairs else []
        return tried[fits[0]] if len(fits) else circuit

    def _without_single(self, circuits: Tensor, orders: list[Tensor]) -> Tensor:
        """The circuits [n_orders, W, R] without the edges that can be removed one by one, each in its own order."""
        where, circuits = self.possible.nonzero(), circuits.clone()
        active = list(range(len(orders)))
        while active:
            before = circuits.clone()
            for step in range(len(where)):
                cells = where[torch.stack([orders[order][step] for order in active])]
                tried = circuits[active]
                tried[torch.arange(len(active)), cells[:, 0], cells[:, 1]] = False
                changed = (tried != circuits[active]).flatten(1).any(1)
                if changed.any():
                    taken = changed.nonzero().flatten()[self.fits(tried[changed])]
                    circuits[torch.tensor(active)[taken]] = tried[taken]
            active = [order for order in active if bool((circuits[order] != before[order]).any())]
        return circuits
