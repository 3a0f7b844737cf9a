"""A model whose circuit is known: weights, the domain of the claim, and the certificate for every ablation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import torch

from ..suite.circuit import Circuit, Reference
from ..suite.errors import ModelError, one_line, unknown
from ..suite.intervention.ablation import Ablation
from ..suite.json_model import json_hash
from ..suite.model.features.graph import FeatureGraph
from ..suite.model.features.transformer import FeatureTransformer
from ..suite.model.graph import Graph
from ..suite.model.position_transformer import PositionTransformer
from ..suite.model.transformer import Config, Transformer
from ..suite.reading import checked, reading
from .certificate import (
    Certificate,
    Claim,
    FeatureCertificate,
    MinimalCircuits,
    MinimalCircuitsFile,
    OtherCertificate,
    PositionCertificate,
    listed_as,
)
from .description import ModelDescription
from .dictionaries.carried import carried_over, counterparts
from .dictionaries.recipe import OF_PROGRAMS
from .dictionaries.shipped import names as shipped_names
from .dictionaries.shipped import read_shipped, shipped
from .features.directions import CERTIFICATES, FEATURE_PROGRAMS, with_directions
from .files import file_hash, file_name, holds_model, read_domain, read_truth_json, read_weights, variants
from .positions.programs import AT_POSITIONS, certificate_file
from .rasp.domain import Domain
from .read import read_certificate, read_description
from .rotation import rotate_basis, rotated_size
from .sealed import check_seal, shipped_hashes

SHIPPED = {
    "gates": Path(__file__).parent / "gates" / "weights",
    "tracr": Path(__file__).parent / "rasp" / "weights",
    "trained": Path(__file__).parent / "trained" / "weights",
    "trained-node": Path(__file__).parent / "trained" / "weights_node",
}
ROTATED = {"tracr-rotated": "tracr"}  # families whose models are made from those of another family when they are loaded
BASIS = 0  # the seed of the basis that they are rotated to
# Families whose nodes are features: the directions of another family's programs, with certificates of their own.
_FEATURES_OF = {"tracr-features": "tracr", "tracr-rotated-features": "tracr-rotated"}


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """A certified model on one domain.

    Args:
        name: ``tracr/reverse``, ``tracr/reverse@fixed``, or the directory as it was given.
        directory: the folder of the files.
        variant: the name of the domain; "" is the default one.
        description: the content of ``model.json``.
        certificate: the content of the variant's ``certificate.json``.
        basis: the seed of the random basis that the residual stream is rotated to; None: the model as it is stored.
        features: whether the nodes are the program's directions (features/directions.py), and not heads and MLPs.
        dictionaries: the name of the trained dictionaries whose features are the nodes; "" where there are none.
        positions: whether edges are told apart by position.
    """

    name: str
    directory: Path
    variant: str
    description: ModelDescription
    certificate: Certificate
    basis: int | None = None
    features: bool = False
    dictionaries: str = ""
    positions: bool = False

    def model(self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Transformer:
        """The model, a fresh copy. Raises ModelError when the weights are not those that were certified."""
        with reading(f"the model in {self.directory}", ModelError):
            model = Transformer(self.config, self.description.inputs)
        try:
            model.load_state_dict(self._state)
        except RuntimeError as problem:
            why = one_line(problem, 300)
            raise ModelError(f"the weights in {self.directory} do not fit model.json: {why}") from problem
        if self.dictionaries:
            trained = read_shipped(self.dictionaries)
            model = FeatureTransformer.of(
                model, {site: (each, range(each.n_features)) for site, each in trained.items()}
            )
        elif self.features:
            stored = self.stored.model() if self.basis is not None else model
            model = with_directions(model, stored, self.description.dimensions, self.basis)
        elif self.positions:
            model = PositionTransformer.of(model, self.certificate.graph.n_positions or 0)
        return model.to(device=device, dtype=dtype)

    @cached_property
    def _state(self) -> dict[str, torch.Tensor]:
        stored = read_weights(self.directory, self.certificate.weights)
        return stored if self.basis is None else rotate_basis(stored, self.basis)

    @cached_property
    def config(self) -> Config:
        stored = self.description.config
        return stored if self.basis is None else replace(stored, d_model=rotated_size(stored.d_model))

    def rotated(self, name: str, basis: int) -> GroundTruth:
        """The same truth of the same model in a random basis, without the ablations that depend on the basis."""
        claims = {a: claim for a, claim in self.certificate.ablations.items() if Ablation.parse(a).value != "noise"}
        certificate = self.certificate.model_copy(update={"ablations": claims, "basis": basis})
        return replace(self, name=name, certificate=certificate, basis=basis)

    @property
    def stored(self) -> GroundTruth:
        """This truth about the model as it is stored, in the basis in which its dimensions have names."""
        return replace(self, basis=None, features=False, dictionaries="")

    def naming(self, features: Mapping[str, str]) -> GroundTruth:
        """This truth with names of features: node -> what it stands for."""
        writers = {node: [label] for node, label in features.items()}
        return replace(self, description=self.description.model_copy(update={"writers": writers}))

    @cached_property
    def graph(self) -> Graph:
        if self.features or self.dictionaries:
            return self.model().graph
        return self.certificate.graph.build()

    @cached_property
    def weights_hash(self) -> str:
        """The loaded model's ``weights_hash``: 16 hex digits."""
        return self.model().weights_hash

    @cached_property
    def domain(self) -> Domain:
        """Every input of the claim. Raises ModelError when the file is not the one that was certified."""
        return read_domain(self.directory, self.variant, self.certificate)

    @cached_property
    def scored(self) -> Certificate:
        """The certificate that results are scored against, and that a store keeps: with what the listed circuits say.

        Where all minimal circuits are listed, the core is what they have in common. The certificate's own search
        removes edges one or two at a time and may have met fewer of them.
        """
        own = self.certificate.ablations
        claims = {name: _listed(claim, self._all_minimal(name)) for name, claim in own.items()}
        return self.certificate if claims == own else self.certificate.model_copy(update={"ablations": claims})

    @cached_property
    def certificate_hash(self) -> str:
        """The ``hash`` of the certificate that results are scored against, remembered."""
        return self.scored.hash

    @cached_property
    def minimal_hash(self) -> str | None:
        """16 hex digits of the minimal circuits that results are judged by (``plurality``), for the identity of cells.

        None where they are not all listed under any ablation. None for truths that ship, too: their lists are part of
        the package and change no certificate, and no cell with a present key was run before they were there.
        """
        if self.is_shipped:
            return None
        found = {name: circuits for name in self.ablations if (circuits := self._all_minimal(name))}
        return json_hash(found) if found else None

    @property
    def is_shipped(self) -> bool:
        """Whether its files are ones that ship, and not in a folder of the user's."""
        return any(root.resolve() in self.directory.resolve().parents for root in SHIPPED.values())

    @property
    def ablations(self) -> tuple[str, ...]:
        """The ablations that a truth is certified for."""
        return tuple(self.certificate.ablations)

    @cached_property
    def _enumerated(self) -> MinimalCircuitsFile | None:
        path = self.directory / file_name("minimal", self.variant, "json")
        if self.features or self.dictionaries or self.positions or not path.is_file():
            return None
        found = checked(MinimalCircuitsFile, read_truth_json(path), path, ModelError)
        if not found.is_about(self.certificate):
            raise ModelError(
                f"{path} is not about the model beside it; delete it, and `circuitmeter truth {self.name} --enumerate` "
                f"makes it anew."
            )
        return found

    def minimal(self, ablation: str) -> MinimalCircuits | None:
        """All minimal circuits under an ablation, from the truth's ``minimal.json``; None when they are not there.

        Raises ModelError for a file that is damaged or about another model.
        """
        if self._enumerated is None or ablation not in self.certificate.ablations:
            return None
        return self._enumerated.ablations.get(listed_as(ablation))

    def _all_minimal(self, ablation: str) -> list[list[str]] | None:
        """The edges of each minimal circuit under an ablation, where all are listed."""
        found = self.minimal(ablation)
        return found.circuits if found is not None and found.largest is None else None

    def reference(self, ablation: Ablation | str) -> Reference | None:
        """The truth under an ablation, as results are scored against it (``scored``); None when none is certified."""
        ablation = Ablation.parse(ablation) if isinstance(ablation, str) else ablation
        claim = self.scored.ablations.get(str(ablation.certified_as))
        if claim is None:
            return None
        matrix, minimal = self.graph.matrix, self._all_minimal(str(ablation.certified_as))
        return Reference(
            f"{self.name} under {ablation}",
            self.graph,
            core=matrix(claim.core),
            optional=matrix(claim.optional),
            structural=matrix(self.certificate.structural),
            certified=True,
            minimal=None if minimal is None else tuple(Circuit.of(self.graph, names) for names in minimal),
            missed=tuple(claim.missed or ()),
        )


def _listed(claim: Claim, circuits: list[list[str]] | None) -> Claim:
    """A claim with what the list of all minimal circuits says; the claim itself where that is the same."""
    if circuits is None:
        return claim
    core = set.intersection(*map(set, circuits))
    optional = {*claim.optional, *claim.core}.union(*circuits) - core
    if (core, optional) == (set(claim.core), set(claim.optional)):
        return claim
    met = {"minimal_circuits": len(circuits), "sizes": list(map(len, circuits)), "circuits": circuits}
    edges = {"core": sorted(core), "optional": sorted(optional)}
    return claim.model_copy(update={**edges, **met, "unique": len(circuits) == 1})


def names() -> list[str]:
    """The shipped ground truths: ``tracr/reverse``, ``tracr/reverse@fixed``, ``tracr-rotated/reverse``, ..."""
    return list(_names_of(tuple(SHIPPED.items())))


@cache
def _names_of(shipped: tuple[tuple[str, Path], ...]) -> tuple[str, ...]:
    """The names of the families in these folders, which are read once: benchmarks ask for names task by task."""
    found = []
    for family, root in shipped:
        for directory in sorted(path for path in root.glob("*") if holds_model(path)):
            found += [f"{family}/{directory.name}" + (f"@{v}" if v else "") for v in variants(directory)]
    found += [f"{family}/{program}" for family in _FEATURES_OF for program in FEATURE_PROGRAMS]
    found += shipped_names(OF_PROGRAMS)
    found += AT_POSITIONS
    for family, source in ROTATED.items():
        found += [f"{family}/{name.partition('/')[2]}" for name in found if name.startswith(f"{source}/")]
    return tuple(found)


def load(name: str | Path, *, sealed: bool = True) -> GroundTruth:
    """The ground truth of a shipped name, or of a directory; a variant is asked for with ``@``: ``DIR@fixed``.

    Args:
        sealed: refuse a folder of the user's own whose certificate or description was edited since it was certified.

    Raises:
        ModelError: no such name, directory or variant; a file that is damaged or is not the one that was certified.
    """
    base, _, variant = str(name).partition("@") if not os.path.isdir(name) else (str(name), "", "")
    family, _, program = base.partition("/")
    folder = SHIPPED.get(ROTATED.get(family, family), Path()) / program
    if family in _FEATURES_OF and program in FEATURE_PROGRAMS and not variant:
        return _of_features(str(name), load(f"{_FEATURES_OF[family]}/{program}"))
    if str(name) in shipped_names(OF_PROGRAMS):
        return _of_dictionaries(str(name))
    if str(name) in AT_POSITIONS:
        return _at_positions(str(name))
    shipped = family in (*SHIPPED, *ROTATED) and holds_model(folder) and variant in variants(folder)
    if shipped and family in ROTATED:
        return load(f"{ROTATED[family]}/{str(name).partition('/')[2]}").rotated(str(name), BASIS)
    if shipped:
        directory = folder
        _check_manifest(SHIPPED[family], program)
    elif holds_model(Path(base)):
        directory = Path(base)
        if variant not in variants(directory):
            raise ModelError(unknown(f"variant of {base}", variant, [v or "(none)" for v in variants(directory)]))
    else:
        known = names()
        families = sorted({f"{each.partition('/')[0]}/*" for each in known})
        raise ModelError(unknown("ground truth", str(name), known, "A folder with a model.json is one.", families))
    certificate = read_certificate(directory / file_name("certificate", variant, "json"))
    weights = read_weights(directory, certificate.weights)
    description = read_description(directory / "model.json", certificate, weights)
    truth = GroundTruth(str(name), directory, variant, description, certificate)
    if sealed and not shipped:
        check_seal(directory, variant, lambda: shipped_hashes(SHIPPED))
    return truth


def _of_features(name: str, base: GroundTruth) -> GroundTruth:
    """The truth about a program's features. Raises ModelError when it is about other weights or another domain."""
    found = _on_other_graph(FeatureCertificate, CERTIFICATES / f"{base.directory.name}.json", base)
    truth = replace(base, name=name, certificate=found.about(base.certificate), features=True)
    model = truth.model()
    assert isinstance(model, FeatureTransformer)
    truth = truth.naming(
        {
            f"{at.stem}.f{i}": label
            for at in model.graph.sites
            for i, label in enumerate(model.dictionaries[str(at.site)].labels)
        }
    )
    if base.basis is None:
        return truth
    stated = found.graph.model_copy(update={"hash": truth.graph.hash})  # the same nodes, whose directions are rotated
    return replace(truth, certificate=truth.certificate.model_copy(update={"graph": stated}))


def _at_positions(name: str) -> GroundTruth:
    """The truth about a program's edges at each position. Raises ModelError when it is about other weights."""
    base = load(AT_POSITIONS[name])
    found = _on_other_graph(PositionCertificate, certificate_file(name), base)
    return replace(base, name=name, certificate=found.about(base.certificate), positions=True)


def _on_other_graph(kind: type[OtherCertificate], path: Path, base: GroundTruth) -> OtherCertificate:
    """The certificate of a program on another graph than its own. Raises ModelError when it is about another one."""
    found = checked(kind, read_truth_json(path), path, ModelError)
    if (found.of.weights, found.of.domain) != (base.certificate.weights, base.certificate.domain):
        raise ModelError(f"{path} is not about the program that ships; build it again, or reinstall.")
    return found


def _of_dictionaries(name: str) -> GroundTruth:
    """The truth about a program's features, carried over to those of trained dictionaries."""
    base = load(shipped()[name].model)
    true = base.model()
    assert isinstance(true, FeatureTransformer)
    truth = replace(base, name=name, features=False, dictionaries=name)
    graph, found = truth.graph, counterparts(true.graph, true.dictionaries, read_shipped(name))
    assert isinstance(graph, FeatureGraph)
    written = base.description.writers
    truth = truth.naming({new: written[old][0] for old, new in found.items() if new is not None})
    return replace(truth, certificate=carried_over(base.certificate, found, graph))


def _check_manifest(root: Path, program: str) -> None:
    """Every shipped file of the program is byte for byte the one that was shipped."""
    for relative, expected in read_truth_json(root / "manifest.json")["files"].items():
        if relative.startswith(f"{program}/"):
            path = root / relative
            if not path.is_file() or file_hash(path) != expected:
                raise ModelError(f"{path} is missing or damaged (its SHA-256 differs from the manifest); reinstall.")
