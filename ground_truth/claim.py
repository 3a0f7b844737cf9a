"""What is certified under one ablation: sufficiency and uniqueness of what single cuts found."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .certificate import Claim
from .cuts import CutTest
from .deletion import Deletion, deletion_orders

N_RANDOM_ORDERS = 4
N_RANDOM_ORDERS_WHERE_UNCLEAR = 60


def claim(
    test: CutTest,
    possible: Tensor,
    effects: Tensor,
    rows: np.ndarray,
    how: str,
    tolerance: float,
    seed: int,
    at_once: int,
    *,
    inert: Tensor | None = None,
    sample: int | None = None,
) -> Claim:
    """Sufficiency and uniqueness of what single cuts found.

    Args:
        effects: [n_structural, N], of cutting each structural edge alone, in index order.
        rows: int [N, 1 or 2], the inputs that each row of the test consists of; ``how`` they were chosen.
        inert: edges that may be cut together without any effect while all other edges are kept, by proof.
        sample: so many rows are enough for deletion to begin with; it is repeated with further ones until the circuits
            that it ends at change no output of any row. (No edge of them can be cut on some rows, hence on all.)

    Raises:
        ModelError: with ``sample``, an effect so near to the tolerance that rounding decides what is sufficient.
    """
    best = effects.max(1)
    strongest = best.values
    graph = test.graph
    where, needed = possible.nonzero(), strongest > tolerance
    necessary = torch.zeros_like(possible)
    necessary[tuple(where[needed].T)] = True
    error_of_necessary = float(test.error(necessary[None])[0])

    chosen = torch.arange(test.data.n) if sample is None else _spread(effects, sample, seed)
    while True:
        on = test if sample is None else test.on(chosen)
        search = Deletion(on, possible, tolerance, effects=effects[:, chosen], inert=inert, at_once=at_once)
        orders = deletion_orders(possible, N_RANDOM_ORDERS, seed)
        circuits = search.minimal_circuits(orders)
        if bool((circuits != necessary).any()):  # not the clear case: look for more circuits
            more = deletion_orders(possible, N_RANDOM_ORDERS_WHERE_UNCLEAR, seed)[len(orders) :]
            circuits = torch.cat([circuits, search.minimal_circuits(more)])
            orders = orders + more
        errors = None if sample is None else test.effects(circuits.unique(dim=0))
        if errors is None or bool((errors <= tolerance).all()):
            break
        chosen = test.more_rows(chosen, errors, tolerance)
    minimal = circuits.unique(dim=0)
    core = minimal.all(0)
    optional = (minimal.any(0) | necessary) & ~core
    return Claim(
        core=graph.named(core),
        optional=graph.named(optional),
        sufficient=error_of_necessary <= tolerance,
        unique=bool((minimal == necessary).all()),
        error_of_necessary=error_of_necessary,
        necessary=graph.named(necessary),
        minimal_circuits=len(minimal),
        sizes=sorted(int(circuit.sum()) for circuit in minimal),
        orders=len(orders),
        largest_inert_effect=float(strongest[~needed].max()) if bool((~needed).any()) else 0.0,
        smallest_core_effect=_smallest_core_effect(test, core, minimal, where, strongest),
        largest_error_of_circuit=float(test.error(minimal).max()),
        n_pairs=test.data.n,
        pairs=how,
        excluded_by_proof=None,
        witnesses={
            name: rows[int(best.indices[i])].tolist()
            for i, name in zip(needed.nonzero().flatten(), graph.named(necessary), strict=True)
        },
        **({"circuits": [graph.named(circuit) for circuit in minimal]} if at_once > 1 else {}),
    )


def _smallest_core_effect(test: CutTest, core: Tensor, minimal: Tensor, where: Tensor, effects: Tensor) -> float:
    smallest = float("inf")
    for i, (w, r) in enumerate(where.tolist()):
        if core[w, r]:
            without = minimal.clone()
            without[:, w, r] = False
            smallest = min(smallest, max(float(effects[i]), float(test.error(without).max())))
    return smallest


def _spread(effects: Tensor, n: int, seed: int) -> Tensor:
    """Rows on which each single cut [C, N] moves most, and n random ones."""
    random = np.random.default_rng(seed).permutation(effects.shape[1])[:n]
    return torch.cat([effects.argmax(1), torch.from_numpy(random)]).unique()
