"""``circuitmeter truth``: a RASP program of yours, or a model of another benchmark, becomes a model with a certified
circuit; and how many circuits a certified model has."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SpecError
from .arguments import add_json, add_several, positive_number

if TYPE_CHECKING:
    from ...ground_truth import GroundTruth
    from ...ground_truth.certificate import MinimalCircuits
    from ..interchange.benchmark_model import Labels

NAME = "truth"
HELP = "Compile a RASP program of yours and certify its circuit under every ablation."
EPILOG = (
    "The function returns an SOp of tracr.rasp.rasp; it takes nothing, or Tracr's modules as (rasp, lib). The folder "
    "written is a task, a model and a truth: `circuitmeter discover --task DIR`, `evaluate --truth DIR`, "
    "`show DIR`. Needs the [tracr] extra. With --import, a model of another benchmark is certified, which needs "
    "no extra; the circuit that the benchmark labels is kept in labels.json and compared."
)
_COLUMNS = ("ablation", "true edges", "optional", "minimal circuits", "largest inert effect", "smallest true effect")
_ENUMERATED = ("ablation", "edges that may matter", "minimal circuits", "sizes", "edges in all")
_LABELLED = ("ablation", "labelled and in a circuit", "labelled, in none", "core, not labelled")
_BENCHMARKS = ("interpbench", "tracrbench")
_SHOWN = 12  # circuits that are listed; --json has all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "program",
        metavar="FILE.py:FUNCTION",
        help="your RASP program; with --import or --recertify, a folder; with --enumerate, a truth or a folder",
    )
    parser.add_argument(
        "--import",
        dest="benchmark",
        metavar="BENCHMARK",
        help=f"certify the model in a folder of another benchmark: {', '.join(_BENCHMARKS)}",
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
    asked = {"--import": options.benchmark is not None, "--recertify": options.recertify}
    asked |= {"--enumerate": options.enumerate}
    if sum(asked.values()) > 1:
        two = " and ".join(flag for flag, given in asked.items() if given)
        raise SpecError(f"{two} are two things; give one of them.")
    if options.benchmark is not None:
        return import_model(options)
    if options.recertify or options.enumerate:
        flag = "--recertify" if options.recertify else "--enumerate"
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
    check_new(options.out)
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


def check_new(folder: Path) -> None:
    """Raises SpecError for a folder to write that holds something already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SpecError(f"{folder} exists; choose a new --out, so that nothing is overwritten.")


def import_model(options: argparse.Namespace) -> int:
    """``--import``: certifies the model in a folder of another benchmark and writes it as a truth, with the circuit
    that the benchmark labels.

    Raises SpecError and ModelError for what cannot be imported, before anything is certified.
    """
    import torch

    from ... import ground_truth
    from ...ground_truth.rasp.user import why_not_as_many
    from ...ground_truth.sealed import seal
    from ..errors import unknown
    from ..interchange import interpbench, tracrbench
    from ..interchange.benchmark_model import write_truth
    from .output import note

    readers = dict(zip(_BENCHMARKS, (interpbench.read_case, tracrbench.read_program), strict=True))
    if options.benchmark not in readers:
        raise SpecError(unknown("benchmark to import from", options.benchmark, readers))
    if given := [f"--{name.replace('_', '-')}" for name in ("vocab", "max_len", "causal") if getattr(options, name)]:
        raise SpecError(f"{', '.join(given)}: the folder says it of a model that is imported; leave out with --import.")
    if options.out is None:
        raise SpecError(
            f"truth {options.program} --import {options.benchmark} lacks --out, a new folder for the truth."
        )
    ablations = ablations_of(options.ablation)
    check_new(options.out)
    torch.set_num_threads(1)  # sums in one order, so that certificates are the same every time
    model = readers[options.benchmark](Path(options.program))
    domain = model.domain(fixed=options.fixed_length, sample=options.sample)
    note(f"{model.model.graph}; {len(domain):,} inputs with {domain.n_outputs:,} different outputs")
    drawn = {"fixed": options.fixed_length or model.fixed, "sample": options.sample}
    for reason in why_not_as_many(model.vocabulary, model.max_len, certified=len(domain), **drawn):
        note(reason)
    labels = write_truth(
        options.out, model, domain, ablations=ablations, on_ablation=lambda ablation: note(f"certifying {ablation}")
    )
    seal(options.out)
    print_truth(ground_truth.load(options.out), options, labels)
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


def print_truth(truth: GroundTruth, options: argparse.Namespace, labels: Labels | None = None) -> None:
    """What was certified, and where it is; and how the labels of a benchmark differ from it."""
    from .output import print_json, print_table

    certificate = truth.certificate
    if options.json:
        beside = {} if labels is None else {"labels": labels.as_json()}
        print_json({"directory": str(options.out), **certificate.as_json(), **beside})
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
    if labels is not None:
        print(f"\n{labels.benchmark} labels {len(labels.edges)} edges:")
        compared = labels.ablations.items()
        print_table(_LABELLED, [[a, len(d.agreed), len(d.not_certified), len(d.not_labelled)] for a, d in compared])
        for name, found in compared:
            for what, edges in (("labelled, in no circuit", found.not_certified), ("not labelled", found.not_labelled)):
                more = ", ..." if len(edges) > _SHOWN else ""
                if edges:
                    print(f"  {name}, {what}: {', '.join(edges[:_SHOWN])}{more}")
