"""When a trained model may be shipped: the conditions on its certificate, and the weaker ones of node-strict models."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch

from ...suite.data import Data
from ...suite.errors import ModelError
from ...suite.intervention.ablation import Ablation
from ...suite.model.transformer import Transformer
from ..certificate import Claim, Gap, Inherited
from ..cuts import CutTest
from ..rasp.domain import Domain

OUTPUT_CHANGE = 0.1  # largest change of a raw output that counts as none: between the inert edges' and the true ones'
RATIO = 20  # the smallest effect of a true edge over the largest of an inert one
NUMBER_TOLERANCE = 0.02  # of outputs that are numbers, from the specified ones; these differ by 1/12 or more
_DIGITS = 9  # of effects, fewer than machines agree on


def gap(model: Transformer, domain: Domain, claim: Claim) -> Gap:
    """The numbers that the rule is about. Effects are of one edge that is cut alone, over all pairs of inputs.

    Args:
        model: float64.
        claim: what is certified of it under patching; its witnesses are the pairs on which edges matter most.
    """
    smallest = min(largest_effects(model, domain, claim.core, np.array(list(claim.witnesses.values()))).values())
    return Gap(
        smallest_true_effect=smallest,
        largest_inert_effect=claim.largest_inert_effect,
        ratio=round(smallest / max(claim.largest_inert_effect, 1e-12), 3),
        joint_error=claim.error_of_necessary,
    )


def largest_effects(model: Transformer, domain: Domain, edges: Collection[str], pairs: np.ndarray) -> dict[str, float]:
    """The largest change of an output by cutting each edge alone, over pairs of inputs [n, 2]."""
    clean, other = torch.from_numpy(pairs).T
    tokens, read = torch.from_numpy(domain.tokens), torch.from_numpy(domain.read)
    test = CutTest(model, Data(tokens[clean], tokens[other], read[clean]), Ablation.parse("patch"))
    cuts = model.graph.exists.repeat(len(edges), 1, 1)
    for cut, edge in zip(cuts, edges, strict=True):
        cut[model.graph.index(edge)] = False
    return dict(zip(edges, test.error(cuts).tolist(), strict=True))


def inherited(model: Transformer, domain: Domain, claim: Claim, intended: Collection[str]) -> Inherited:
    """What is wrong with taking the compiled program's edges for those of a model that was not trained edge by edge.

    Returns:
        ``not_needed``: intended edges that no output depends on; ``missed``: edges that are not intended, and cutting
        one alone changes an output; and the gap that the rule asks for, between intended edges and all others.
    """
    every = np.array([(i, j) for i in range(len(domain)) for j in range(len(domain)) if i != j])
    missed = sorted(set(claim.necessary) - set(intended))
    found = largest_effects(model, domain, [*sorted(intended), *missed], every)
    smallest = min(found[edge] for edge in intended)
    largest = max((found[edge] for edge in missed), default=claim.largest_inert_effect)
    return Inherited(
        not_needed=sorted(set(intended) - set(claim.necessary)),
        missed=missed,
        smallest_intended_effect=round(smallest, _DIGITS),
        largest_other_effect=round(largest, _DIGITS),
        ratio=round(smallest / max(largest, 1e-12), 3),
    )


def check_gap(claim: Claim, numbers: Gap, intended: Collection[str], tolerance: float) -> None:
    """Whether the claim under patching is that of a model with exactly the edges it was trained to have.

    Args:
        claim: under patching.
        numbers: its gap.
        intended: the edges.

    Raises:
        ModelError: naming the number, or the edge, that is not as it must be.
    """
    if numbers.ratio < RATIO:
        raise ModelError(
            f"the smallest effect of a true edge, {numbers.smallest_true_effect:.3g}, is {numbers.ratio:.3g} "
            f"times the largest of an inert one, {numbers.largest_inert_effect:.3g}; at least {RATIO} is asked for."
        )
    if numbers.joint_error > tolerance:
        raise ModelError(
            f"cutting all inert edges at once changes an output by {numbers.joint_error:.3g}, more than {tolerance}."
        )
    different = sorted(set(claim.core) ^ set(intended))
    if different:
        raise ModelError(f"its edges are not those of the compiled program: they differ in {', '.join(different)}.")
    if not (claim.unique and claim.sufficient):
        raise ModelError("it has more than one minimal circuit.")
