"""The truth about a model, computed: which edges its output depends on, over a whole domain, under one ablation.

For each ablation: the necessary set (edges whose cutting alone changes some output), whether it is sufficient (all
other edges cut at once change none), whether it is unique (greedy deletion in many orders ends at the same set), and
where it is not, what all minimal circuits that were found share (``core``) and what some of them need (``optional``).
A circuit is minimal when no single edge of it can be cut; with ``at_once=2``, when no two can be, either.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..suite.data import Data
from ..suite.errors import ModelError
from ..suite.intervention.ablation import Ablation
from ..suite.model.stated_graph import StatedGraph
from ..suite.model.transformer import Transformer
from .certificate import Claim, Findings
from .claim import claim
from .cuts import CutTest, single_cuts
from .pairs import EXHAUSTIVE, all_pairs, choose_pairs
from .rasp.domain import Domain
from .structure import constant, structural

CERTIFIED_ABLATIONS = ("patch", "resample", "zero", "mean", "mean-positional", "noise")
_TOLERANCE = 0.02  # largest change of a raw output that counts as no change
N_DRAWS = 3  # of noise, for every input
DELETION_SAMPLE = 256  # pairs that deletion begins with when every pair of inputs is tried


def certify(
    model: Transformer,
    domain: Domain,
    *,
    ablations: Sequence[str] = CERTIFIED_ABLATIONS,
    tolerance: float = _TOLERANCE,
    seed: int = 0,
    at_once: int = 1,
    every_pair: bool = False,
    on_ablation: Callable[[str], None] = lambda ablation: None,
) -> Findings:
    """Certificates of a model's circuit over a domain.

    Args:
        model: a model of any dtype; the computation is in float64.
        domain: the inputs, and the positions at which outputs are compared.
        ablations: ``resample`` is the relation of ``patch``, any other input of the domain, and has its certificate.
        seed: of sampled pairs and random orders.
        at_once: how many edges deletion may take together, 1 or 2. Two that cancel each other go only together.
        every_pair: under patch, all ordered pairs of different inputs are tried, however many there are; only deletion
            begins with some of them (see ``claim``).
        on_ablation: told the name of each ablation before its turn.

    Raises:
        ModelError: outputs that are the same on every input, or that no input reaches.
    """
    model = copy.deepcopy(model).double()
    if domain.n_outputs < 2:
        raise ModelError(
            "the program's output is the same on every input of the domain, so no edge can be told to matter."
        )
    possible = structural(model, torch.from_numpy(domain.read).any(0))
    if not possible.any():
        raise ModelError("no path of edges leads from the inputs to the outputs of this model.")
    claims: dict[str, Claim] = {}
    for name in ablations:
        on_ablation(name)
        if name in ("patch", "resample"):
            twin = {"patch": "resample", "resample": "patch"}[name]
            claims[name] = claims.get(twin) or _claim_patch(
                model, domain, possible, tolerance, seed, at_once, every_pair
            )
        else:
            ablation = Ablation.parse(name)
            data, draws = every_input(domain, ablation)
            test = CutTest(model, data, ablation)
            effects = test.effects(single_cuts(possible))
            rows = np.tile(np.arange(len(domain))[:, None], (draws, 1))
            how = "every input" + (f", {draws} draws each" if draws > 1 else "")
            claims[name] = claim(test, possible, effects, rows, how, tolerance, seed, at_once)
    return Findings(
        n_edges=model.graph.n_edges,
        n_structural=int(possible.sum()),
        structural=model.graph.named(possible),
        tolerance=tolerance,
        graph=StatedGraph.of(model.graph),
        ablations=claims,
    )


def _claim_patch(
    model: Transformer,
    domain: Domain,
    possible: Tensor,
    tolerance: float,
    seed: int,
    at_once: int,
    every_pair: bool,
) -> Claim:
    """Patching: constant edges are excluded by proof, every other edge is included by a pair that witnesses it."""

    def test_on(pairs: np.ndarray) -> CutTest:
        return CutTest(model, paired_inputs(domain, pairs), Ablation.parse("patch"))

    pairs, how = pairs_of(domain, every_pair, seed)
    inert, cuts = constant(model, torch.from_numpy(domain.tokens)) & possible, single_cuts(possible)
    test = test_on(pairs)
    effects = test.effects(cuts)
    unseen = ((effects.amax(1) <= tolerance) & ~inert[possible]).nonzero().flatten()
    if len(unseen) and how != "exhaustive":
        pairs = np.concatenate([pairs, _further_witnesses(test_on, cuts[unseen], len(domain), tolerance, seed)])
        test = test_on(pairs)
        effects = test.effects(cuts)
    sample = DELETION_SAMPLE if every_pair else None
    made = claim(test, possible, effects, pairs, how, tolerance, seed, at_once, inert=inert, sample=sample)
    return made.model_copy(update={"excluded_by_proof": int(inert.sum())})


def every_input(domain: Domain, ablation: Ablation) -> tuple[Data, int]:
    """What is tried under an ablation that needs no pairs: every input, as often as something is drawn for it; and how
    often that is."""
    inputs, read = torch.from_numpy(domain.tokens), torch.from_numpy(domain.read)
    draws = N_DRAWS if ablation.stochastic else 1
    return Data(inputs.repeat(draws, 1), None, read.repeat(draws, 1), reference=inputs), draws


def pairs_of(domain: Domain, every_pair: bool, seed: int = 0) -> tuple[np.ndarray, str]:
    """The pairs of inputs that are tried under patch, int [n, 2], and how they were chosen (see ``certify``)."""
    return choose_pairs(domain.classes, seed, at_most=len(domain) ** 2 if every_pair else EXHAUSTIVE)


def paired_inputs(domain: Domain, pairs: np.ndarray) -> Data:
    """What is tried under patch: the first input of each pair [n, 2], with the second as its counterfactual."""
    clean, other = torch.from_numpy(pairs.T.copy())
    inputs, read = torch.from_numpy(domain.tokens), torch.from_numpy(domain.read)
    return Data(inputs[clean], inputs[other], read[clean])


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
