"""Certifies and writes the gates.

    python -m circuitmeter.ground_truth.gates.build

Run again it writes the same bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ...suite.model.transformer import Transformer
from ..certify import CERTIFIED_ABLATIONS, certify
from ..description import ModelDescription, Outputs, Vocabulary
from ..files import write_certificate, write_manifest, write_model
from ..rasp.domain import Domain
from .catalogue import GATES, Gate
from .wiring import ANSWER, N_BITS, TOKENS

_WEIGHTS = Path(__file__).parent / "weights"
DELETED_TOGETHER = 2  # edges that are deleted together, which is what takes a cancelling pair apart


def model(gate: Gate) -> Transformer:
    """The transformer of a gate, float32, with token and position embeddings as two input nodes."""
    made = Transformer(gate.wiring.config, "split")
    made.load_state_dict(gate.wiring.state())
    return made


def domain(gate: Gate) -> Domain:
    """All eight inputs."""
    inputs = list(itertools.product((0, 1), repeat=N_BITS))
    outputs = [tuple(gate.specification(x)) for x in inputs]
    number = {output: i for i, output in enumerate(dict.fromkeys(outputs))}
    return Domain(
        "fixed",
        (N_BITS,),
        np.array([(*x, ANSWER) for x in inputs]),
        np.array([[value is not None for value in output] for output in outputs]),
        np.array([number[output] for output in outputs]),
    )


def write_gate(gate: Gate, directory: Path, ablations: Sequence[str] = CERTIFIED_ABLATIONS) -> None:
    """Certifies a gate under some ablations and writes its truth into a folder."""
    where, made = domain(gate), model(gate)
    certificate = certify(made, where, ablations=ablations, at_once=DELETED_TOGETHER)
    description = ModelDescription(
        family="gates",
        program=gate.name,
        description=gate.description,
        config=made.config,
        inputs="split",
        vocabulary=Vocabulary(tokens=list(TOKENS), bos=None, pad=None),
        outputs=Outputs(kind="numerical", labels=[]),
        causal=made.config.causal,
        max_len=N_BITS,
        writers=gate.wiring.writers,
        dimensions=list(gate.wiring.dimensions),
    )
    write_certificate(directory, "", where, certificate, write_model(directory, made.state_dict(), description))


def main() -> None:
    """Builds all gates."""
    for gate in GATES.values():
        write_gate(gate, _WEIGHTS / gate.name)
        print(gate.name, flush=True)
    write_manifest(_WEIGHTS, "written by hand: catalogue.py")


if __name__ == "__main__":
    torch.set_num_threads(1)  # sums in one order, so that certificates are the same bytes every time
    main()
