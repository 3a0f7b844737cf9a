"""Certifies the feature circuits of compiled programs.

    python -m circuitmeter.ground_truth.features.build [PROGRAM ...]

A certificate holds what ``certify`` returns, and the hashes of the weights and of the domain that it is about.
"""

from __future__ import annotations

import argparse

from ..certificate import CertifiedOf, FeatureCertificate
from ..certify import certify
from ..files import TRUTH_FORMAT, write_json
from ..truth import load
from .directions import CERTIFICATES, FEATURE_PROGRAMS, with_directions

_ABLATIONS = ("patch", "resample", "zero", "mean", "mean-positional")  # noise is drawn in the basis that is hidden


def build_certificates(program: str) -> FeatureCertificate:
    """The certificate of a program's feature circuit, on its default domain."""
    truth = load(f"tracr/{program}")
    model = truth.model()
    made = certify(with_directions(model, model, truth.description.dimensions), truth.domain, ablations=_ABLATIONS)
    of = CertifiedOf(weights=truth.certificate.weights, domain=truth.certificate.domain)
    return FeatureCertificate(format=TRUTH_FORMAT, **dict(made), of=of)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m circuitmeter.ground_truth.features.build", description=__doc__)
    parser.add_argument("programs", nargs="*", default=FEATURE_PROGRAMS)
    for program in parser.parse_args().programs:
        made = build_certificates(program)
        write_json(CERTIFICATES / f"{program}.json", made.as_json())
        print(program, made.n_edges, {name: len(claim.core) for name, claim in made.ablations.items()})


if __name__ == "__main__":
    main()
