"""The content of a certificate, as a pydantic model that is read by attribute and needs no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..suite.json_model import Kept, Values, json_hash
from ..suite.model.stated_graph import Flag, StatedGraph

Count = Annotated[int, Field(ge=0, strict=True)]
Positive = Annotated[int, Field(ge=1, strict=True)]
Edges = list[str]
_FORMAT = 1


class Claim(Kept):
    """What is certified under one ablation.

    necessary: the edges that change an output by more than the tolerance when they alone are cut. Each has a witness:
    the input, or the (clean, counterfactual) pair, on which the change is largest. sufficient: whether cutting all
    other edges changes no output. error_of_necessary: the largest change that this makes. unique: whether every
    deletion order ended at the necessary set. core: the edges in all of the ``minimal_circuits`` different circuits, of
    ``sizes`` edges, at which ``orders`` deletion orders ended. optional: the edges in some of these circuits, or
    necessary and in none (two edges whose absences cancel). largest_inert_effect: the largest effect of cutting a
    single edge outside the necessary set. smallest_core_effect: the smallest effect of cutting a core edge, from the
    whole model or, when redundancy hides it there, from a minimal circuit. largest_error_of_circuit: the largest error
    of any minimal circuit. n_pairs: the number of rows tried. pairs: how they were chosen. excluded_by_proof:
    structural edges whose read projection is constant, under patch. circuits: the minimal circuits by edge names, when
    deletion took two edges at once. missed: of a claim that is carried over to another graph (dictionaries/carried.py),
    the writer of each core edge without a counterpart.
    """

    core: Edges
    optional: Edges
    sufficient: Flag
    unique: Flag
    error_of_necessary: int | float
    necessary: Edges
    minimal_circuits: Count
    sizes: list[Count]
    orders: Count
    largest_inert_effect: int | float
    smallest_core_effect: int | float
    largest_error_of_circuit: int | float
    n_pairs: Count
    pairs: str
    excluded_by_proof: Count | None
    witnesses: dict[str, Annotated[list[Count], Field(min_length=1, max_length=2)]]
    circuits: list[Edges] | None = None
    missed: list[str] | None = None

    @property
    def known_circuits(self) -> list[Edges] | None:
        """The minimal circuits that the certificate lists, or the only one. None when the certificate has neither, or
        when edges of the only one are missed.
        """
        if self.circuits is not None:
            return self.circuits
        if self.missed:
            return None
        return [self.core] if self.unique else None


class StatedDomain(Kept):
    """The inputs of a claim: their kind and lengths, how many there are, and the hash of the file that has them."""

    kind: str
    lengths: Annotated[list[Count], Field(min_length=1)]
    n_inputs: Positive
    n_outputs: Positive
    enumerated: Flag
    counterfactuals: str = "every other input of the domain"
    hash: str


class Gap(Kept):
    """The gap between the effects of true edges and those of inert edges in a trained model (see trained/gap.py)."""

    smallest_true_effect: float
    largest_inert_effect: float
    ratio: float
    joint_error: float
    behaviour_error: float | None = None


class Inherited(Kept):
    """How the edges of a node-strict model differ from those of its program (see trained/gap.py)."""

    not_needed: Edges
    missed: Edges
    smallest_intended_effect: float
    largest_other_effect: float
    ratio: float


class TrainedFrom(Kept):
    """How a trained model was made.

    teacher: the compiled program. recipe: the fields of ``trained.recipe.Recipe``. intended: the edges that the model
    was trained to have.
    """

    teacher: str
    recipe: Values
    seed: int
    steps: int
    intended: Edges
    gap: Gap
    inherited: Inherited | None = None


class Findings(Kept):
    """The results of ``certify`` for a model on a domain.

    Args:
        n_edges: the number of edges of the graph.
        n_structural: the number of edges from which a path of weights leads to the outputs.
        structural: the names of these edges.
        tolerance: the largest change of a raw output that counts as no change.
        ablations: the claim under each ablation.
    """

    n_edges: Count
    n_structural: Count
    structural: Edges
    tolerance: int | float
    graph: StatedGraph
    ablations: dict[str, Claim]


class Certificate(Findings):
    """The content of a ``certificate.json``.

    Args:
        weights: the SHA-256 of the file of weights that the certificate is about.
        training: how a trained model was made; None for others.
        basis: the seed of the basis to which the model is rotated when it is loaded. No file has such a certificate.
    """

    format: int = _FORMAT
    domain: StatedDomain
    weights: str
    training: TrainedFrom | None = None
    basis: int | None = None

    @property
    def hash(self) -> str:
        """The first 16 hex digits of the hash of the content."""
        return json_hash(self.as_json())


class MinimalCircuits(Kept):
    """All minimal circuits under one ablation (see minimal_circuits.py).

    They are all circuits that are minimal on the ``rows`` rows that the certificate tried: every input; under patch its
    pairs of inputs. candidates: the number of edges that may matter. largest: if given, only circuits of at most so
    many edges are listed. circuits: the names of their edges, smallest circuit first. largest_error: the largest change
    of an output that any of them makes.
    """

    candidates: Count
    largest: Count | None
    circuits: list[Edges]
    largest_error: float
    rows: Positive


class CertifiedOf(Kept):
    """Which weights and domain a certificate on another graph is about."""

    weights: str
    domain: StatedDomain


class MinimalCircuitsFile(Kept):
    """The content of a ``minimal.json``: the minimal circuits of a certified model, by ablation.

    of: the weights and the domain that the circuits are about. tolerance: that of the certificate.
    """

    format: int = _FORMAT
    of: CertifiedOf
    tolerance: int | float
    ablations: dict[str, MinimalCircuits]

    def is_about(self, certificate: Certificate) -> bool:
        """Whether it is about the weights, the domain and the tolerance of a certificate."""
        of = CertifiedOf(weights=certificate.weights, domain=certificate.domain)
        return (self.of, self.tolerance) == (of, certificate.tolerance)


def listed_as(ablation: str) -> str:
    """The ablation under which a ``minimal.json`` has the circuits of one: those of ``resample`` are those of
    ``patch``."""
    return "patch" if ablation == "resample" else ablation


class OtherCertificate(Findings):
    """The claims about a certified program on another graph than its own."""

    format: int = _FORMAT
    of: CertifiedOf

    def about(self, base: Certificate) -> Certificate:
        """The certificate of the program with these findings in the place of its own."""
        return base.model_copy(update={name: getattr(self, name) for name in Findings.model_fields})


class FeatureCertificate(OtherCertificate):
    """A file in ``features/certificates``: the claims about a program's features, on its default domain."""


class PositionCertificate(OtherCertificate):
    """A file in ``positions/certificates``: the claims about a program's edges at each position of its inputs, which
    all have one length."""
