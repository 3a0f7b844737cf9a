"""What is certified under one ablation: sufficiency and uniqueness of what single cuts found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .cuts import CutTest
from .deletion import Deletion, deletion_orders

N_RANDOM_ORDERS = 4
N_RANDOM_ORDERS_WHERE_UNCLEAR = 60


@dataclass
class Claim:
    """What is certified under one ablation.

    necessary: edges whose cutting alone changes an output by more than the tolerance, with a witness each: the input,
    or the (clean, counterfactual) pair, that it changes most. sufficient: whether cutting all other edges changes no
    output; error_of_necessary: the change it makes. unique: whether every deletion order ended at the necessary set.
    core: in all of the ``minimal_circuits`` different circuits, of ``sizes`` edges, that ``orders`` deletion orders
    ended at. optional: in some of them, or necessary and yet in none (two edges whose absences cancel).
    largest_inert_effect: of cutting an edge outside the necessary set alone. smallest_core_effect: of cutting a core
    edge, alone or (where redundancy hides it) from a minimal circuit. largest_error_of_circuit: of any minimal
    circuit. n_pairs: rows tried, ``pairs``: how they were chosen. excluded_by_proof: structural edges whose read
    projection is constant, under patch. circuits: the minimal ones by name, where two edges were deleted at once.
    """

    core: list[str]
    optional: list[str]
    sufficient: bool
    unique: bool
    error_of_necessary: float
    necessary: list[str]
    minimal_circuits: int
    sizes: list[int]
    orders: int
    largest_inert_effect: float
    smallest_core_effect: float
    largest_error_of_circuit: float
    n_pairs: int
    pairs: str
    excluded_by_proof: int | None
    witnesses: dict[str, list[int]]
    circuits: list[list[str]] | None = None

    def as_json(self) -> dict[str, Any]:
        """The claim as a certificate holds it."""
        return {key: value for key, value in asdict(self).items() if key != "circuits" or value is not None}


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
        inert: edges that may be cut together without any effect, by proof.
        sample: so many rows are enough for deletion to begin with; it is repeated with further ones until the circuits
            that it ends at change no output of any row. (No edge of them can be cut on some rows, hence on all.)
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
        chosen = torch.cat([chosen, errors.argmax(1)]).unique()
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
        circuits=[graph.named(circuit) for circuit in minimal] if at_once > 1 else None,
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
