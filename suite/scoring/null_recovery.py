"""How well a circuit recovers a truth, and its percentile among random connected circuits of its size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..circuit import Circuit, Reference
from .null import random_circuits
from .recovery import circuit_recovery

N_RANDOM = 1000


def recovery_beside_random(
    circuit: Circuit, references: Mapping[str, Reference], *, n_random: int = N_RANDOM, seed: int = 0
) -> dict[str, dict[str, float]]:
    """``circuit_recovery`` of a circuit against each reference, and the circuit's percentile among random circuits.

    Args:
        circuit, references: on one graph.
        n_random: how many random connected circuits of as many edges are drawn.
        seed: of the draw.
    Returns for each reference what ``circuit_recovery`` does, with ``percentile`` (of F1 among the random circuits:
    0 to 100, ties count half) and ``random_f1`` (their mean). Both are NaN when F1 is undefined.
    Raises:
        DataError: a size that no connected circuit of this graph has.
    """
    drawn = random_circuits(circuit.graph, circuit.n_edges, n_random, seed=seed)
    found = {}
    for name, reference in references.items():
        own = circuit_recovery(circuit, reference)
        theirs = [circuit_recovery(each, reference)["f1"] for each in drawn]
        theirs = [0.0 if math.isnan(f1) else f1 for f1 in theirs]
        found[name] = own | {
            "percentile": percentile(own["f1"], theirs),
            "random_f1": sum(theirs) / len(theirs),
        }
    return found


def percentile(value: float, others: Sequence[float]) -> float:
    """The percentage of ``others`` that are smaller; those that are equal count half. NaN for a NaN value.

    >>> percentile(2, [1, 2, 3, 4])
    37.5
    """
    if math.isnan(value):
        return math.nan
    below, equal = sum(other < value for other in others), sum(other == value for other in others)
    return 100 * (below + equal / 2) / len(others)
