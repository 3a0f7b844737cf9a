"""Circuits from scores, by rules that ask for more than the largest ones: signs, whole paths, confidence.

The first two are of Nikankin et al. 2025, arXiv:2510.25786 (positive-negative ratio, integer program). The last two
look at the scores of each prompt: what chance could have given is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array
from scipy.stats import norm

from .circuit import Circuit, EdgeScores, greedy, top_n
from .errors import DataError
from .model.graph import Graph
from .rounding import floor

POSITIVE_SHARE = 0.5


def by_sign(scores: EdgeScores, n: int, absolute: bool = True, positive_share: float = POSITIVE_SHARE) -> Circuit:
    """The floor(share x n) edges of largest signed score, and of the others those of largest absolute score.

    Args:
        absolute: has no meaning here: both rankings are used.

    Raises:
        DataError: ``n`` outside 0 .. n_edges, or a share outside 0 .. 1.
    """
    if not 0 <= positive_share <= 1:
        raise DataError(f"a share of positive edges of {positive_share} was asked for; give one from 0 to 1.")
    signed = top_n(scores, n, absolute=False)
    flat, chosen = scores.flat(), np.zeros(scores.graph.n_edges, dtype=bool)
    order = np.argsort(-flat, kind="stable")[: int(positive_share * signed.n_edges)]
    chosen[order] = True
    rest = np.argsort(-np.where(chosen, -1.0, np.abs(flat)), kind="stable")[: n - len(order)]
    chosen[rest] = True
    return circuit_of(scores.graph, chosen)


def by_program(scores: EdgeScores, n: int, absolute: bool = True) -> Circuit:
    """At most ``n`` edges of the largest total score of which every one is on a path from an input node to the logits.

    An integer program: maximise the sum of s_e x_e over edges x and nodes y in {0, 1}; sum x <= n, x_e <= y_u and
    x_e <= y_v for the two ends of each edge, y_logits = 1, and every node with y = 1 has an edge in and an edge out
    (input nodes: out; logits: in). In a graph without cycles that puts every edge on a whole path. The solver stops
    when its total is within a ten-thousandth of the best. The total is never below that of ``greedy`` without its dead
    ends, which satisfies the same constraints: where that is larger, it is what is returned.

    Raises:
        DataError: ``n`` outside 0 .. n_edges, or no solution was found.
    """
    graph = scores.graph
    if not 0 <= n <= graph.n_edges:
        raise DataError(f"a circuit of {n} edges was asked for; this graph has 0 to {graph.n_edges:,}.")
    if n == 0:
        return Circuit(graph, torch.zeros_like(graph.exists))
    values = np.abs(scores.flat()) if absolute else scores.flat()
    scale = float(np.abs(values).max()) or 1.0
    writer, reader, n_nodes = _ends(graph)
    n_edges, logits = graph.n_edges, n_nodes - 1
    edges = np.arange(n_edges)
    rows = [_at_most_ends(edges, ends, n_edges) for ends in (writer, reader)]
    n_inputs = len(graph.input_nodes)
    rows.append(_has_an_edge(edges, writer, range(logits), n_edges, n_nodes))
    rows.append(_has_an_edge(edges, reader, range(n_inputs, n_nodes), n_edges, n_nodes))
    shape = (n_edges + n_nodes,)
    constraints = [
        LinearConstraint(coo_array((data, (row, column)), shape=(int(row.max()) + 1, *shape)).tocsr(), -np.inf, 0)
        for data, row, column in rows
    ]
    constraints.append(LinearConstraint(np.r_[np.ones(n_edges), np.zeros(n_nodes)][None], -np.inf, n))
    low = np.zeros(shape)
    low[n_edges + logits] = 1
    found = milp(
        np.r_[-values / scale, np.zeros(n_nodes)],
        constraints=constraints,
        bounds=Bounds(low, 1),
        integrality=np.ones(shape),
    )
    if found.x is None:
        raise DataError(f"no circuit of {n} edges was found by the integer program: {found.message}")
    chosen = found.x[:n_edges] > 0.5
    rival = greedy(scores, n, absolute).pruned()
    flat = rival.edges[graph.exists].numpy()
    return rival if flat.any() and values[flat].sum() > values[chosen].sum() else circuit_of(graph, chosen)


def confident(
    by_prompt: np.ndarray, *, resamples: int = 1000, level: float = 0.95, seed: int = 0, released: bool = False
) -> np.ndarray:
    """The edges whose bootstrap interval of the mean score over prompts excludes zero: bool [E].

    An edge whose mean score is zero up to rounding (``rounding.floor``) is not kept, however small its error.

    Args:
        by_prompt: float [N, E], the scores of each prompt.
        resamples: B, bootstrap means that the standard error is taken from.
        released: as the authors' code has it, which divides the standard deviation of the bootstrap means, a standard
            error already, by sqrt(B) once more: the interval shrinks as B grows, and in the limit every edge is kept.
    """
    n = len(by_prompt)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples) / n
    error = (counts @ by_prompt).std(0, ddof=1)
    if released:
        error = error / resamples**0.5
    mean = by_prompt.mean(0)
    return (np.abs(mean) > norm.ppf((1 + level) / 2) * error) & (floor(mean) != 0)


def above_null(by_prompt: np.ndarray, *, flips: int = 1000, level: float = 0.95, seed: int = 0) -> np.ndarray:
    """The edges whose absolute mean score is above what chance gives the best of all edges: bool [E].

    Chance: each prompt's scores with a random sign, all edges of a prompt with the same one. The threshold is the
    ``level`` quantile of the largest absolute mean over ``flips`` such draws, so that where no edge has an effect one
    is kept with probability 1 - level at most.
    """
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(flips, len(by_prompt)))
    largest = np.abs(signs @ by_prompt / len(by_prompt)).max(1)
    return np.abs(by_prompt.mean(0)) > np.quantile(largest, level)


def circuit_of(graph: Graph, chosen: np.ndarray) -> Circuit:
    """The circuit of the edges, bool [E], in the order of ``graph.edges``."""
    edges = torch.zeros_like(graph.exists)
    edges[graph.exists] = torch.from_numpy(chosen)
    return Circuit(graph, edges)


def _ends(graph: Graph) -> tuple[np.ndarray, np.ndarray, int]:
    """(the node that writes, the node that reads: int [E] each, the number of nodes, of which the logits are last)."""
    index = {name: i for i, name in enumerate(graph.writers)}
    owner = np.array([index.get(graph.node_of_reader(reader), len(index)) for reader in graph.readers])
    writer, reader = graph.exists.nonzero().T.numpy()
    return writer, owner[reader], len(index) + 1


Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


def _at_most_ends(edges: np.ndarray, ends: np.ndarray, n_edges: int) -> Rows:
    """x_e - y_end <= 0, one row per edge: (values, rows, columns)."""
    ones = np.ones(len(edges))
    return np.r_[ones, -ones], np.r_[edges, edges], np.r_[edges, n_edges + ends]


def _has_an_edge(edges: np.ndarray, ends: np.ndarray, nodes: range, n_edges: int, n_nodes: int) -> Rows:
    """y_v - sum of x over the edges at v <= 0, one row per node."""
    row_of = np.full(n_nodes, -1)
    row_of[list(nodes)] = np.arange(len(nodes))
    at = row_of[ends] >= 0
    values = np.r_[-np.ones(int(at.sum())), np.ones(len(nodes))]
    return values, np.r_[row_of[ends[at]], np.arange(len(nodes))], np.r_[edges[at], n_edges + np.array(nodes)]


Selection = Literal["top-n", "greedy", "pnr", "ilp"]
SELECTIONS: dict[Selection, Callable[..., Circuit]] = {
    "top-n": top_n,
    "greedy": greedy,
    "pnr": by_sign,
    "ilp": by_program,
}
"""Rules that make a circuit of a size from scores alone: (scores, n, absolute) -> Circuit."""

BY_PROMPT: dict[str, Callable[..., np.ndarray]] = {"confident": confident, "null": above_null}
"""Rules that find a circuit's size themselves, from the scores of each prompt: (scores [N, E], seed) -> bool [E]."""
