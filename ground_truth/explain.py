"""The variables that each node and edge of a certified model carries, and why edges are inert."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..suite.errors import ModelError
from ..suite.model.graph import Edge
from ..suite.model.transformer import Transformer
from .certificate import Claim
from .structure import ZERO, constant, reader_weights, writer_weights
from .truth import GroundTruth


@dataclass(frozen=True)
class Explained:
    """One edge that is structural, under one ablation.

    Args:
        carries: the variables that the writer writes and the reader reads.
        status: ``true`` (core), ``optional`` or ``inert``.
        why: the reason, as a sentence without its full stop.
    """

    edge: Edge
    carries: tuple[str, ...]
    status: str
    why: str


def explain(truth: GroundTruth, ablation: str) -> list[Explained]:
    """Explains every structural edge, in index order. All other edges are inert, because nothing reads what they carry.

    Raises:
        ModelError: the truth is not certified under this ablation.
    """
    reference = truth.reference(ablation)
    if reference is None:
        raise ModelError(f"{truth.name} is not certified under {ablation}; it is under {', '.join(truth.ablations)}.")
    model = stored_model(truth)
    graph, tokens = model.graph, torch.from_numpy(truth.domain.tokens)
    still = constant(model, tokens, reference.structural)
    carried = _carried(model, truth)
    claim = claim_of(truth, ablation)
    found = []
    for w, r in reference.structural.nonzero().tolist():
        edge = Edge(graph.writers[w], graph.readers[r])
        status = "true" if reference.core[w, r] else "optional" if reference.optional[w, r] else "inert"
        n_circuits = claim.minimal_circuits if reference.minimal is None else len(reference.minimal)
        why = _why(status, str(edge), bool(still[w, r]), ablation, claim, n_circuits)
        found.append(Explained(edge, carried(w, r), status, why))
    return found


def claim_of(truth: GroundTruth, ablation: str) -> Claim:
    """What the certificate claims under an ablation that it is about."""
    return truth.certificate.ablations[ablation if ablation in truth.ablations else _twin(ablation)]


def stored_model(truth: GroundTruth) -> Transformer:
    """The model in the basis in which its dimensions have names, float64: that of a rotated model before rotation.

    If trained features are nodes, it is the model itself, because features belong to the basis in which they were
    trained.
    """
    in_names = truth if truth.dictionaries else replace(truth, basis=None)
    return in_names.model(dtype=torch.float64)


def _twin(ablation: str) -> str:
    """The ablation whose claim this one shares: means of counterfactual prompts are means of the domain."""
    return ablation.removesuffix("-counterfactual")


def _why(status: str, edge: str, still: bool, ablation: str, claim: Claim, n_circuits: int) -> str:
    if status == "true":
        return "cutting it changes an output" if edge in claim.necessary else "in every minimal circuit"
    if status == "optional":
        if edge in claim.necessary:
            return "cutting it alone changes an output, and cutting it with others does not"
        return f"in some of the {n_circuits} minimal circuits and not in others"
    if still and ablation in ("patch", "resample"):
        return "constant: what is read is the same on every input"
    if still and ablation.startswith("mean-positional"):
        return "constant: what is read is its average on every input"
    what = "constant, and its absence" if still else "varies, and its absence"
    return f"{what} changes no output by more than {claim.largest_inert_effect:.1g}"


def _carried(model: Transformer, truth: GroundTruth):
    """(writer, reader) indices to the names of the variables that are written and read."""
    names = truth.description.dimensions
    # What the node writes, whoever reads it: certified by an earlier version, or trained features, whose weights meet
    # everywhere.
    if names is None or truth.dictionaries:
        written = truth.description.writers
        return lambda w, r: tuple(written.get(model.graph.writers[w], ()))
    writes = [_used(weights.abs().amax(0)) for weights in writer_weights(model)]
    reads = [_used(weights.abs().amax(1)) for weights in reader_weights(model)]
    return lambda w, r: tuple(Counter(names[i] for i in (writes[w] & reads[r]).nonzero().flatten().tolist()))


def _used(largest: Tensor) -> Tensor:
    return largest > ZERO * largest.max().clamp_min(1e-30)
