"""Certifies compiled programs and gates by position.

    python -m circuitmeter.ground_truth.positions.build [NAME ...]

A certificate holds what ``certify`` returns, and the hashes of the weights and of the domain that it is about. Every
edge is cut alone at every position; then edges at positions are deleted until no further one can be, in several orders.
"""

from __future__ import annotations

import argparse

import torch

from ...suite.model.position_transformer import PositionTransformer
from ..certificate import CertifiedOf, PositionCertificate
from ..certify import certify
from ..files import TRUTH_FORMAT, write_json
from ..truth import load
from .programs import AT_POSITIONS, certificate_file

CERTIFIED_AT_POSITIONS = ("patch", "resample", "zero", "mean", "mean-positional")


def build_certificate(name: str) -> PositionCertificate:
    """The certificate of one of ``AT_POSITIONS``."""
    truth = load(AT_POSITIONS[name])
    model = PositionTransformer.of(truth.model(), truth.domain.tokens.shape[1])
    said = truth.certificate.ablations.values()
    at_once = 2 if any(claim.circuits is not None for claim in said) else 1  # as for the truth without positions
    made = certify(model, truth.domain, ablations=CERTIFIED_AT_POSITIONS, at_once=at_once)
    of = CertifiedOf(weights=truth.certificate.weights, domain=truth.certificate.domain)
    return PositionCertificate(format=TRUTH_FORMAT, **dict(made), of=of)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m circuitmeter.ground_truth.positions.build", description=__doc__)
    parser.add_argument("names", nargs="*", default=list(AT_POSITIONS))
    for name in parser.parse_args().names:
        made = build_certificate(name)
        certificate_file(name).parent.mkdir(parents=True, exist_ok=True)
        write_json(certificate_file(name), made.as_json())
        found = {ablation: f"{len(c.core)}+{len(c.optional)}" for ablation, c in made.ablations.items()}
        print(name, made.n_edges, made.n_structural, found, flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)  # sums in one order, so that certificates are the same bytes every time
    main()
