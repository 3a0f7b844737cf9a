"""Compiles, checks, certifies and writes the shipped programs.

    python -m circuitmeter.ground_truth.rasp.build [NAME ...]

Needs the ``[tracr]`` extra. Run again it writes the same bytes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from ...suite.errors import SpecError, mistakes_in_one_line, unknown
from ..certify import CERTIFIED_ABLATIONS, certify
from ..description import ModelDescription, Outputs, Vocabulary
from ..files import write_certificate, write_manifest, write_model
from .check import check_port, check_specification
from .compile import Compiled, compile_program
from .domain import Domain, enumerate_domain
from .programs import PROGRAMS, Program, Value

_WEIGHTS = Path(__file__).parent / "weights"


def domains(program: Program, compiled: Compiled) -> dict[str, Domain]:
    """The domains that a shipped program is certified on, by variant; "" is the default."""
    kinds = {"" if kind == program.domains[0] else kind: kind for kind in program.domains}
    if program.name == "reverse":
        kinds["permutations3"] = "permutations"  # the data of Conmy et al. 2023
    special = (compiled.tokens, compiled.bos, compiled.pad)
    return {
        variant: enumerate_domain(kind, program.max_len, program.vocabulary, *special, program.specification)
        for variant, kind in kinds.items()
    }


def write_ground_truth(
    directory: Path,
    compiled: Compiled,
    where: Mapping[str, Domain],
    specification: Callable[[list[Value]], Sequence[Value]],
    *,
    program: str,
    description: str,
    max_len: int,
    ablations: Sequence[str] = CERTIFIED_ABLATIONS,
) -> None:
    """Checks a compiled program, certifies it on every domain and writes its directory.

    Args:
        where: domains by variant, as ``domains`` gives.
        specification: what the program computes; an interpreter of the RASP program will do.

    Raises:
        ModelError: when the model is not what Tracr made or not what the specification says. Nothing is written then.
    """
    for domain in where.values():
        check_port(compiled, domain.tokens)
        check_specification(compiled, domain, specification)
    write_checked(
        directory, compiled, where, program=program, description=description, max_len=max_len, ablations=ablations
    )


def write_checked(
    directory: Path,
    compiled: Compiled,
    where: Mapping[str, Domain],
    *,
    program: str,
    description: str,
    max_len: int,
    ablations: Sequence[str] = CERTIFIED_ABLATIONS,
    on_ablation: Callable[[str], None] = lambda ablation: None,
) -> None:
    """Certifies a compiled program that is known to be right on every domain and writes its directory.

    Raises:
        ModelError: when nothing can be certified. Nothing is written then.
    """
    certificates = {
        variant: certify(compiled.model(), domain, ablations=ablations, on_ablation=on_ablation)
        for variant, domain in where.items()
    }
    labels = compiled.output_labels
    weights = write_model(
        directory,
        compiled.state,
        ModelDescription(
            family="tracr",
            program=program,
            description=description,
            config=compiled.config,
            inputs="split",
            vocabulary=Vocabulary(tokens=list(compiled.tokens), bos=compiled.bos, pad=compiled.pad),
            outputs=Outputs(kind="numerical" if labels is None else "categorical", labels=list(labels or ())),
            causal=compiled.config.causal,
            max_len=max_len,
            writers=compiled.writers,
            dimensions=list(compiled.dimensions),
        ),
    )
    for variant, domain in where.items():
        write_certificate(directory, variant, domain, certificates[variant], weights)


@mistakes_in_one_line
def main(names: Sequence[str]) -> int:
    """Builds the named programs, all when none is named. Returns the exit status."""
    for name in names or PROGRAMS:
        if name not in PROGRAMS:
            raise SpecError(unknown("program", name, PROGRAMS))
        program, start = PROGRAMS[name], time.monotonic()
        compiled = compile_program(program)
        write_ground_truth(
            _WEIGHTS / name,
            compiled,
            domains(program, compiled),
            program.specification,
            program=name,
            description=program.description.split("\n")[0],
            max_len=program.max_len,
        )
        print(f"{name}: {time.monotonic() - start:.0f} seconds", flush=True)
    write_manifest(_WEIGHTS, "tracr-pypi 1.0.0")
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)  # sums in one order, so that certificates are the same bytes every time
    sys.exit(main(sys.argv[1:]))
