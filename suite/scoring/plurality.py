"""Which of a truth's minimal circuits a found circuit is, when there may be several.

A truth with several minimal circuits has several right answers, and no other score can tell them apart from a mixture:
what is in some circuits and not in others counts neither for nor against in ``recovery``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from ..circuit import Circuit, EdgeScores, top_n
from ..rounding import floor

PluralityVerdict = Literal["minimal", "superset", "chimera", "miss"]


@dataclass(frozen=True)
class Plurality:
    """What a circuit is among the minimal circuits of a truth.

    Args:
        verdict: ``minimal`` for one of the minimal circuits; ``superset`` for one or more of them with other edges;
            ``chimera`` for parts of two or more: all its edges are in some minimal circuit, no single minimal circuit
            has them all, and it has none whole; ``miss`` for all others: a part of one minimal circuit, or a circuit
            with edges outside of all of them that has none whole.
        minimal_circuits: how many there are.
        contains: the numbers, from 0, of the minimal circuits that it has whole.
        n_edges: the number of edges of the circuit.
        avoided: the number of the minimal circuit that the method was told to avoid; None when there is no such
            circuit.
    """

    verdict: PluralityVerdict
    minimal_circuits: int
    contains: tuple[int, ...]
    n_edges: int
    avoided: int | None = None


def plurality(circuit: Circuit, minimal: Sequence[Circuit], *, avoided: Circuit | None = None) -> Plurality:
    """What a circuit is among all minimal circuits of its graph (at least one).

    A superset need not be sufficient, because another edge can destroy what a circuit does.

    Raises ValueError when the graphs differ, or without minimal circuits.
    """
    if not minimal or any(each.graph.hash != circuit.graph.hash for each in minimal):
        raise ValueError("minimal circuits, at least one, are of the graph of the circuit that is judged.")
    found = circuit.edges.cpu()
    contains = tuple(i for i, each in enumerate(minimal) if not bool((each.edges & ~found).any()))
    return Plurality(
        _verdict(circuit, minimal, contains),
        len(minimal),
        contains,
        circuit.n_edges,
        None if avoided is None else next((i for i, each in enumerate(minimal) if _same(each, avoided)), None),
    )


def plurality_of_scores(scores: EdgeScores, minimal: Sequence[Circuit], *, avoided: Circuit | None = None) -> Plurality:
    """``plurality`` of the circuit of the edges of largest absolute score.

    It has as many edges as the smallest minimal circuit. If the method was told to avoid a minimal circuit and there
    are others, it has as many as the smallest of the others. Edges whose score is 0 up to rounding
    (``rounding.floor``, as in ``recovery``) are in no circuit.
    """
    others = [each for each in minimal if avoided is None or not _same(each, avoided)] or list(minimal)
    size = min((each.n_edges for each in others), default=0)
    values = torch.zeros_like(scores.values)
    values[scores.graph.exists] = torch.from_numpy(floor(scores.flat()))
    nonzero = int((values != 0).sum())
    return plurality(top_n(EdgeScores(scores.graph, values), min(size, nonzero)), minimal, avoided=avoided)


def _verdict(circuit: Circuit, minimal: Sequence[Circuit], contains: Sequence[int]) -> PluralityVerdict:
    found = circuit.edges.cpu()
    if contains:
        return "minimal" if any(minimal[i].n_edges == circuit.n_edges for i in contains) else "superset"
    union = minimal[0].edges.clone()
    for each in minimal[1:]:
        union |= each.edges
    of_one = any(not bool((found & ~each.edges).any()) for each in minimal)
    return "chimera" if not of_one and not bool((found & ~union).any()) else "miss"


def _same(first: Circuit, second: Circuit) -> bool:
    return bool((first.edges.cpu() == second.edges.cpu()).all())
