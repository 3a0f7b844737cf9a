"""``circuitmeter convert``: a circuit file in another tool's format, exactly or not at all."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError, SpecError
from .output import note, refuse_missing, refuse_unwritable

if TYPE_CHECKING:
    from ..interchange import CircuitFile, Origin
    from ..model.graph import InputNodes

NAME = "convert"
HELP = "Write a circuit file in the format of another tool."
EPILOG = (
    "The circuit written cuts exactly what the one read does; where the other tool's graph has no equal, that is said "
    "and nothing is written. A list of edges that does not say of which graph it is needs --model."
)
_EVERY: tuple[InputNodes, ...] = ("token", "sum", "split")
_INPUTS: dict[str, tuple[InputNodes, ...]] = {
    "eap-ig": _EVERY,
    "auto-circuit": ("sum",),
    "acdc": ("sum", "split"),
    "mib": _EVERY,
}
"""The input nodes that the graph of each tool may have."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("circuit", metavar="CIRCUIT.json", type=Path, help="a circuit file of any format")
    parser.add_argument("--to", required=True, choices=_INPUTS, help="whose format; mib's graph JSON is that of eap-ig")
    parser.add_argument("--inputs", choices=_EVERY, help="input nodes of the graph that is written")
    parser.add_argument(
        "--model",
        metavar="NAME|DIR",
        help="whose graph it is, for lists of edges, and whether its positions are learned",
    )
    parser.add_argument("--out", required=True, metavar="FILE", type=Path, help="where the circuit is written")


def run(options: argparse.Namespace) -> int:
    refuse_missing(options.circuit)
    refuse_unwritable(options.out)
    if options.inputs not in (None, *_INPUTS[options.to]):
        raise SpecError(
            f"--inputs {options.inputs}: the graph of {options.to} cannot have these input nodes; it takes --inputs "
            f"{' or '.join(_INPUTS[options.to])}, and without --inputs those that fit the circuit."
        )
    from ..interchange import inputs_of, save, says_all

    found, d_model, origin = converted(options)
    for text in found.notes:
        note(text)
    if options.to in ("eap-ig", "mib") and d_model is None:
        raise DataError(f"{options.circuit} does not say d_model, which the files of {options.to} hold; give --model.")
    save(options.out, found.circuit, found.scores, d_model=d_model or 0, origin=origin, format=options.to)
    graph = found.circuit.graph
    if graph.inputs == "token" and inputs_of(options.to, graph, origin.learned_positions) == "split":
        note(f"In the graph of {options.to} token and position embedding are apart: each edge from the token is two.")
    if found.scores is not None and not says_all(options.to, graph, origin.learned_positions):
        note(f"The graph of {options.to} has other edges, so the scores stay in {options.circuit}.")
    print(f"{found.circuit.n_edges:,} of {graph.n_edges:,} edges: {options.out}")
    return 0


def converted(options: argparse.Namespace) -> tuple[CircuitFile, int | None, Origin]:
    """The circuit on the graph that is asked for, the model's width where it is known, and where it comes from."""
    from ..interchange import read

    file = read(options.circuit)
    if options.model is None:
        whole, d_model = file.alone(), file.d_model
        graph = replace(whole.circuit.graph, inputs=options.inputs or whole.inputs)
        return whole.on(graph, learned_positions=file.origin.learned_positions), d_model, file.origin
    from ..model.load.by_name import is_ground_truth, load_outline

    wanted = options.inputs or file.inputs
    model = load_outline(options.model, inputs=None if is_ground_truth(options.model) else wanted)
    graph, positions = replace(model.graph, inputs=wanted), model.config.positions
    found = file.on(graph, learned_positions=positions == "learned")
    return found, model.config.d_model, file.origin.model_copy(update={"positions": positions})
