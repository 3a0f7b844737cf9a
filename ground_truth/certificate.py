"""What a certificate holds: a pydantic model, read by attribute, that needs no torch."""

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

    necessary: edges whose cutting alone changes an output by more than the tolerance, with a witness each: the input,
    or the (clean, counterfactual) pair, that it changes most. sufficient: whether cutting all other edges changes no
    output; error_of_necessary: the change it makes. unique: whether every deletion order ended at the necessary set.
    core: in all of the ``minimal_circuits`` different circuits, of ``sizes`` edges, that ``orders`` deletion orders
    ended at. optional: in some of them, or necessary and yet in none (two edges whose absences cancel).
    largest_inert_effect: of cutting an edge outside the necessary set alone. smallest_core_effect: of cutting a core
    edge, alone or (where redundancy hides it) from a minimal circuit. largest_error_of_circuit: of any minimal
    circuit. n_pairs: rows tried, ``pairs``: how they were chosen. excluded_by_proof: structural edges whose read
    projection is constant, under patch. circuits: the minimal ones by name, where two edges were deleted at once.
    missed: where a claim is carried over to another graph (dictionaries/carried.py), the writer of each core edge
    that has no counterpart there.
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
        """The minimal circuits that the certificate lists, or the only one; None where it says neither, and where edges
        of the only one are missed."""
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
    """How far the effects of true edges are from those of inert ones, in a trained model (see trained/gap.py)."""

    smallest_true_effect: float
    largest_inert_effect: float
    ratio: float
    joint_error: float
    behaviour_error: float | None = None


class Inherited(Kept):
    """What is wrong with taking a program's edges for those of a node-strict model (see trained/gap.py)."""

    not_needed: Edges
    missed: Edges
    smallest_intended_effect: float
    largest_other_effect: float
    ratio: float


class TrainedFrom(Kept):
    """How a trained model came about.

    teacher: the compiled program. recipe: the fields of ``trained.recipe.Recipe``. intended: the edges that it was
    trained to have.
    """

    teacher: str
    recipe: Values
    seed: int
    steps: int
    intended: Edges
    gap: Gap
    inherited: Inherited | None = None


class Findings(Kept):
    """What ``certify`` computes of a model on a domain.

    Args:
        n_edges: of the graph; n_structural: of which a path of weights leads to the outputs, ``structural``.
        tolerance: the largest change of a raw output that counts as none.
        ablations: what is claimed under each.
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
        weights: the SHA-256 of the file of weights that it is about.
        training: of a trained model.
        basis: the seed of the basis that the model is rotated to when it is loaded; such certificates are on no disk.
    """

    format: int = _FORMAT
    domain: StatedDomain
    weights: str
    training: TrainedFrom | None = None
    basis: int | None = None

    @property
    def hash(self) -> str:
        """16 hex digits of the content."""
        return json_hash(self.as_json())


class MinimalCircuits(Kept):
    """All minimal circuits under one ablation (see minimal_circuits.py).

    All that are minimal on the ``rows`` rows that the certificate tried: every input, under patch its pairs of inputs.
    candidates: edges that may matter. largest: the circuits are those of at most so many edges; None: all. circuits:
    by the names of their edges, the smallest first. largest_error: the largest change of an output that any of them
    makes.
    """

    candidates: Count
    largest: Count | None
    circuits: list[Edges]
    largest_error: float
    rows: Positive


class CertifiedOf(Kept):
    """Which weights and domain a certificate of features is about."""

    weights: str
    domain: StatedDomain


class MinimalCircuitsFile(Kept):
    """The content of a ``minimal.json``: the minimal circuits of a certified model, by ablation.

    of: the weights and the domain that they are about. tolerance: the certificate's.
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


class FeatureCertificate(Findings):
    """The content of a file in ``features/certificates``: what holds of a program's features, on its default domain."""

    format: int = _FORMAT
    of: CertifiedOf

    def about(self, base: Certificate) -> Certificate:
        """The certificate of the program with these findings in the place of its own."""
        return base.model_copy(update={name: getattr(self, name) for name in Findings.model_fields})
