"""The truth about a model, computed: which edges its output depends on, over a whole domain, under one ablation.

For each ablation: the necessary set (edges whose cutting alone changes some output), whether it is sufficient (all
other edges cut at once change none), whether it is unique (greedy deletion in many orders ends at the same set), and
where it is not, what all minimal circuits that were found share (``core``) and what some of them need (``optional``).
A circuit is minimal when no single edge of it can be cut; with ``at_once=2``, when no two can be, either.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..suite.ablation import Ablation
from ..suite.data import Data
from ..suite.errors import ModelError
from ..suite.model.transformer import Transformer
from .cuts import CutTest, single_cuts
from .deletion import Deletion, deletion_orders
from .pairs import all_pairs, choose_pairs
from .rasp.domain import Domain
from .structure import constant, structural

ABLATIONS = ("patch", "resample", "zero", "mean", "mean-positional", "noise")
TOLERANCE = 0.02  # largest change of a raw output that counts as none
N_DRAWS = 3  # of noise, for every input
N_RANDOM_ORDERS = 4
N_RANDOM_ORDERS_WHERE_UNCLEAR = 60


def certify(
    model: Transformer,
    domain: Domain,
    *,
    ablations: Sequence[str] = ABLATIONS,
    tolerance: float = TOLERANCE,
    seed: int = 0,
    at_once: int = 1,
    on_ablation: Callable[[str], None] = lambda ablation: None,
) -> dict[str, Any]:
    """Certificates of a model's circuit over a domain.

    Args:
        model: any dtype; float64 is computed in.
        domain: the inputs, and where outputs are compared.
        ablations: ``resample`` is the relation of ``patch``, any other input of the domain, and has its certificate.
        seed: of sampled pairs and random orders.
        at_once: how many edges deletion may take together, 1 or 2. Two that cancel each other go only together.
        on_ablation: told the name of each ablation before its turn.

    Returns:
        ``n_edges``, ``n_structural``, ``structural``, ``tolerance``, ``graph``, and under ``ablations`` an entry
        each, as described at ``Claim``.

    Raises:
        ModelError: outputs that are the same on every input, or that no input reaches.
    """
    model = copy.deepcopy(model).double()
    if domain.n_outputs < 2:
        raise ModelError(
            "the program's output is the same on every input of the domain, so no edge can be told to matter."
        )
    inputs, mask = torch.from_numpy(domain.tokens), torch.from_numpy(domain.read)
    possible = structural(model)
    if not possible.any():
        raise ModelError("no path of edges leads from the inputs to the outputs of this model.")
    claims: dict[str, dict] = {}
    for name in ablations:
        on_ablation(name)
        if name in ("patch", "resample"):
            twin = {"patch": "resample", "resample": "patch"}[name]
            claims[name] = claims.get(twin) or _claim_patch(model, domain, possible, tolerance, seed, at_once)
        else:
            ablation = Ablation.parse(name)
            draws = N_DRAWS if ablation.stochastic else 1
            test = CutTest(
                model, Data(inputs.repeat(draws, 1), None, mask.repeat(draws, 1), reference=inputs), ablation
            )
            effects = test.effects(single_cuts(possible))
            rows = np.tile(np.arange(len(domain))[:, None], (draws, 1))
            how = "every input" + (f", {draws} draws each" if draws > 1 else "")
            claims[name] = _claim(test, possible, effects, rows, how, tolerance, seed, at_once).as_json()
    return {
        "n_edges": model.graph.n_edges,
        "n_structural": int(possible.sum()),
        "structural": model.graph.named(possible),
        "tolerance": tolerance,
        "graph": asdict(model.graph) | {"hash": model.graph.hash},
        "ablations": claims,
    }


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


def _claim_patch(
    model: Transformer, domain: Domain, possible: Tensor, tolerance: float, seed: int, at_once: int
) -> dict:
    """Patching: constant edges are excluded by proof, every other edge is included by a pair that witnesses it."""

    inputs, read = torch.from_numpy(domain.tokens), torch.from_numpy(domain.read)

    def test_on(pairs: np.ndarray) -> CutTest:
        clean, other = torch.from_numpy(pairs.T.copy())
        return CutTest(model, Data(inputs[clean], inputs[other], read[clean]), Ablation.parse("patch"))

    pairs, how = choose_pairs(domain.classes, seed)
    inert, cuts = constant(model, inputs) & possible, single_cuts(possible)
    test = test_on(pairs)
    effects = test.effects(cuts)
    unseen = ((effects.amax(1) <= tolerance) & ~inert[possible]).nonzero().flatten()
    if len(unseen) and how != "exhaustive":
        pairs = np.concatenate([pairs, _further_witnesses(test_on, cuts[unseen], len(inputs), tolerance, seed)])
        test = test_on(pairs)
        effects = test.effects(cuts)
    claim = _claim(test, possible, effects, pairs, how, tolerance, seed, at_once, inert=inert)
    claim.excluded_by_proof = int(inert.sum())
    return claim.as_json()


def _further_witnesses(
    test_on: Callable[[np.ndarray], CutTest], cuts: Tensor, n_inputs: int, tolerance: float, seed: int
) -> np.ndarray:
    """A pair for each cut [C, W, R] that has one, from all pairs of inputs: int [<= C, 2]."""
    found = []
    for pairs in all_pairs(n_inputs, seed):
        best = test_on(pairs).effects(cuts).max(1)
        seen = best.values > tolerance
        found += pairs[best.indices[seen].numpy()].tolist()
        cuts = cuts[~seen]
        if not len(cuts):
            break
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def _claim(
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
) -> Claim:
    """Sufficiency and uniqueness of what single cuts found.

    Args:
        effects: [n_structural, N], of cutting each structural edge alone, in index order.
        rows: int [N, 1 or 2], the inputs that each row of the test consists of; ``how`` they were chosen.
        inert: edges that may be cut together without any effect, by proof.
    """
    best = effects.max(1)
    strongest = best.values
    graph = test.graph
    where, needed = possible.nonzero(), strongest > tolerance
    necessary = torch.zeros_like(possible)
    necessary[tuple(where[needed].T)] = True
    error_of_necessary = float(test.error(necessary[None])[0])

    search = Deletion(test, possible, tolerance, effects=effects, inert=inert, at_once=at_once)
    orders = deletion_orders(possible, N_RANDOM_ORDERS, seed)
    circuits = search.minimal_circuits(orders)
    if bool((circuits != necessary).any()):  # not the clear case: look for more circuits
        more = deletion_orders(possible, N_RANDOM_ORDERS_WHERE_UNCLEAR, seed)[len(orders) :]
        circuits = torch.cat([circuits, search.minimal_circuits(more)])
        orders = orders + more
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
