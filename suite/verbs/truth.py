"""``circuitmeter truth``: a RASP program of yours becomes a model with a certified circuit; and how many circuits
a certified model has."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SpecError
from .arguments import add_json, add_several, positive_number

if TYPE_CHECKING:
    from ...ground_truth import GroundTruth
    from ...ground_truth.certificate import MinimalCircuits

NAME = "truth"
HELP = "Compile a RASP program of yours and certify its circuit under every ablation."
EPILOG = (
    "The function returns an SOp of tracr.rasp.rasp; it takes nothing, or Tracr's modules as (rasp, lib). The folder "
    "written is a task, a model and a truth: `circuitmeter discover --task DIR`, `evaluate --truth DIR`, "
    "`show DIR`. Needs the [tracr] extra."
)
_COLUMNS = ("ablation", "true edges", "optional", "minimal circuits", "largest inert effect", "smallest true effect")
_ENUMERATED = ("ablation", "edges that may matter", "minimal circuits", "sizes", "edges in all")
_SHOWN = 12  # circuits that are listed; --json has all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "program",
        metavar="FILE.py:FUNCTION",
        help="your RASP program; with --recertify, a folder; with --enumerate, a truth or a folder",
    )
    parser.add_argument(
        "--recertify", action="store_true", help="compute whether the certificates of a folder hold, and seal it if so"
    )
    parser.add_argument(
        "--enumerate",
        action="store_true",
        help="find all minimal circuits of a certified model, and not only some, and write them into a folder of yours",
    )
    parser.add_argument(
        "--largest", type=positive_number, metavar="N", help="with --enumerate: only those of at most N edges"
    )
    parser.add_argument("--vocab", metavar="a,b,c", help="its tokens; values that look like integers are integers")
    parser.add_argument("--max-len", type=positive_number, metavar="N", help="its longest sequence")
    parser.add_argument("--causal", action="store_true", help="compile it with causal attention")
    parser.add_argument(
        "--fixed-length",
        action="store_true",
        help="certify it on sequences of N tokens only (default: on those of 2 to N, padded)",
    )
    parser.add_argument(
        "--sample",
        type=positive_number,
        metavar="N",
        help="certify it on so many sequences, drawn evenly over lengths (default: on all of them)",
    )
    add_several(parser, "--ablation", "A", "certify these only (default: all that a certificate can be about)")
    parser.add_argument("--out", metavar="DIR", type=Path, help="a new folder for the certified model")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    import torch

    from ... import ground_truth
    from ...ground_truth.rasp import user
    from ...ground_truth.rasp.build import write_checked
    from ...ground_truth.sealed import seal
    from .output import note, stdout_kept_clean

    if options.largest is not None and not options.enumerate:
        raise SpecError("--largest says which minimal circuits are enumerated; give --enumerate with it.")
    if options.recertify or options.enumerate:
        flag = "--recertify" if options.recertify else "--enumerate"
        if options.recertify and options.enumerate:
            raise SpecError("--recertify and --enumerate are two things; give one of them.")
        of_programs = ("vocab", "max_len", "causal", "fixed_length", "sample", "out")
        if given := [f"--{name.replace('_', '-')}" for name in of_programs if getattr(options, name)]:
            raise SpecError(f"{', '.join(given)}: for a program of yours, which is certified; leave out with {flag}.")
    if options.recertify:
        return recertified(options)
    if options.enumerate:
        return enumerated(options)
    absent = [flag for flag in ("vocab", "max_len", "out") if getattr(options, flag) is None]
    if absent:
        flags = ", ".join(f"--{flag.replace('_', '-')}" for flag in absent)
        raise SpecError(f"truth {options.program} lacks {flags}; `circuitmeter truth --help` says what each is.")
    vocabulary, ablations = vocabulary_of(options.vocab), ablations_of(options.ablation)
    if options.max_len < 2:
        raise SpecError("--max-len 1: a sequence of one token has no structure to compute on; give 2 or more.")
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise SpecError(f"{options.out} exists; choose a new --out, so that nothing is overwritten.")
    torch.set_num_threads(1)  # sums in one order, so that certificates are the same every time
    with stdout_kept_clean():  # a user's program may print
        sop, about = user.load_program(options.program)
        note(f"compiling {options.program}")
        drawn = {"fixed": options.fixed_length, "sample": options.sample}
        compiled, domain = user.compile_checked(sop, vocabulary, options.max_len, causal=options.causal, **drawn)
        note(f"{compiled.model().graph}; {len(domain):,} inputs with {domain.n_outputs:,} different outputs")
        for reason in user.why_not_as_many(vocabulary, options.max_len, certified=len(domain), **drawn):
            note(reason)
        write_checked(
            options.out,
            compiled,
            {"": domain},
            program=options.program.rpartition(":")[2],
            description=about or f"The program {Path(options.program).name}.",
            max_len=options.max_len,
            ablations=ablations,
            on_ablation=lambda ablation: note(f"certifying {ablation}"),
        )
    seal(options.out)
    print_truth(ground_truth.load(options.out), options)
    return 0


def recertified(options: argparse.Namespace) -> int:
    """``--recertify``: certifies a folder anew and seals it. Raises ModelError when a certificate does not hold."""
    import torch

    from ...ground_truth.recertify import recertify
    from .output import note

    torch.set_num_threads(1)
    options.out = Path(options.program)
    if not options.out.is_dir():
        raise SpecError(f"no folder {options.out}; --recertify takes one that `circuitmeter truth` wrote.")
    for truth in recertify(options.out, lambda ablation: note(f"certifying {ablation}")):
        print_truth(truth, options)
    return 0


def enumerated(options: argparse.Namespace) -> int:
    """``--enumerate``: prints every minimal circuit of a truth, and writes them into a folder of the user's
    (without ``--largest``, of which the folder has no list).

    Raises ModelError where it is refused: for an ablation that was asked for, or for every one.
    """
    import torch

    from ... import ground_truth
    from ...ground_truth.certificate import listed_as
    from ...ground_truth.minimal_circuits import minimal_circuits, write_minimal_circuits
    from ...ground_truth.sealed import seal_file
    from ..errors import ModelError
    from .output import note, print_json, print_table

    torch.set_num_threads(1)
    truth = ground_truth.load(options.program)
    asked = ablations_of(options.ablation) if options.ablation else tuple(truth.ablations)
    if "patch" in truth.ablations:  # whose circuits are those of resample, too
        asked = tuple(dict.fromkeys(map(listed_as, asked)))
    found: dict[str, MinimalCircuits] = {}
    refused: list[ModelError] = []
    for name in asked:
        try:
            found[name] = minimal_circuits(truth, name, largest=options.largest)
        except ModelError as error:
            if options.ablation:
                raise
            refused.append(error)
    if not found:
        raise refused[0]
    for reason in refused:
        note(str(reason))
    if not truth.is_shipped and options.largest is None:
        seal_file(write_minimal_circuits(truth, found))
    if options.json:
        print_json({"truth": truth.name, "ablations": {name: kept.as_json() for name, kept in found.items()}})
        return 0
    rows = []
    for name, kept in found.items():
        shared = set.intersection(*map(set, kept.circuits)) if kept.circuits else set()
        sizes = ", ".join(str(len(circuit)) for circuit in kept.circuits[:_SHOWN])
        sizes += ", ..." if len(kept.circuits) > _SHOWN else ""
        rows.append([name, kept.candidates, len(kept.circuits), sizes, len(shared)])
    print_table(_ENUMERATED, rows)
    for name, kept in found.items():
        if len(kept.circuits) > 1:
            shared = set.intersection(*map(set, kept.circuits))
            print(f"\n{name}: {len(kept.circuits)} circuits, which share {', '.join(sorted(shared)) or 'no edge'}")
            for i, circuit in enumerate(kept.circuits[:_SHOWN], 1):
                print(f"  {i}: {', '.join(edge for edge in circuit if edge not in shared)}")
    return 0


def vocabulary_of(text: str) -> tuple[Any, ...]:
    """The tokens that ``--vocab`` names. Raises SpecError for fewer than two, or one that is named twice."""
    values = [value.strip() for value in text.split(",")]
    tokens = tuple(int(value) if value.lstrip("-").isdecimal() else value for value in values)
    if "" in tokens or len(set(tokens)) < len(tokens) or len(tokens) < 2:
        raise SpecError(f"--vocab {text!r}: give two different tokens at least, separated by commas, as in a,b,c.")
    return tokens


def ablations_of(names: list[str] | None) -> tuple[str, ...]:
    """The ablations to certify. Raises SpecError for one that no certificate can be about."""
    from ...ground_truth.certify import CERTIFIED_ABLATIONS
    from ..errors import unknown
    from ..intervention.ablation import Ablation

    for name in names or ():
        if str(Ablation.parse(name)) not in CERTIFIED_ABLATIONS:
            raise SpecError(unknown("ablation that can be certified", name, CERTIFIED_ABLATIONS))
    return tuple(dict.fromkeys(str(Ablation.parse(name)) for name in names)) if names else CERTIFIED_ABLATIONS


def print_truth(truth: GroundTruth, options: argparse.Namespace) -> None:
    """What was certified, and where it is."""
    from .output import print_json, print_table

    certificate = truth.certificate
    if options.json:
        print_json({"directory": str(options.out), **certificate.as_json()})
        return
    rows = [
        [
            name,
            len(claim.core),
            len(claim.optional),
            claim.minimal_circuits,
            claim.largest_inert_effect,
            claim.smallest_core_effect,
        ]
        for name, claim in certificate.ablations.items()
    ]
    print_table(_COLUMNS, rows)
    about = certificate.domain
    inputs = f"{'all' if about.enumerated else 'a sample of'} {about.n_inputs:,}"
    print(
        f"\n{certificate.n_edges:,} edges, {certificate.n_structural} of them structural; certified on {inputs} "
        f"inputs: {options.out}"
    )
