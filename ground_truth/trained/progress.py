"""The progress of models in training, measured as they will be certified."""

from __future__ import annotations

import torch
from torch import Tensor

from ...suite.model.graph import Graph
from .loss import circuit_nodes
from .student import Students
from .teacher import ProgramLesson

_ROWS = 1024  # at a time
_SAMPLED = 24  # pairs on which every inert edge is cut alone


def worst(students: Students, lesson: ProgramLesson, strict: str) -> dict[str, Tensor]:
    """The largest deviations of each model [M] from what it should output.

    ``plain``: with nothing cut. For edge-strict models also ``joint``: by cutting all inert edges, over all pairs of
    inputs, and ``inert``: by cutting one of them, over some pairs; true edges are left to the certificate.
    For node-strict ones, ``inert`` is by cutting all edges out of one node outside the circuit.
    """
    n = len(lesson.tokens)
    with torch.no_grad():
        outputs, written = students.run(lesson.tokens)
        chance = torch.Generator().manual_seed(0)
        some = torch.randint(n, (2, _SAMPLED), generator=chance)
        plain = _largest(outputs - lesson.outputs, lesson.read)

        def moved(clean: Tensor, other: Tensor, kept: Tensor) -> Tensor:
            largest = torch.zeros_like(plain)
            for rows in torch.arange(len(clean)).split(_ROWS):
                change = students.cut(written, clean[rows], other[rows], kept[rows]) - outputs[:, clean[rows]]
                largest = torch.maximum(largest, _largest(change, lesson.read[clean[rows]]))
            return largest

        singles = _alone(lesson, students.graph, strict)
        found = {
            "plain": plain,
            "inert": moved(*some.repeat(1, len(singles)), singles.repeat_interleave(_SAMPLED, 0)),
        }
        if strict == "edge":
            pairs = torch.arange(n * n)
            true = lesson.edges(students.graph)
            found["joint"] = moved(pairs // n, pairs % n, true.float().expand(n * n, -1, -1))
    return found


def _alone(lesson: ProgramLesson, graph: Graph, strict: str) -> Tensor:
    """For each inert edge, or each node outside the circuit, what is kept when it alone is cut: [C, W, R]."""
    if strict == "node":
        outside = circuit_nodes(lesson, graph)[1]
        kept = torch.ones(len(outside), *graph.exists.shape)
        kept[torch.arange(len(outside)), outside] = 0
        return kept
    where = (graph.exists & ~lesson.edges(graph)).nonzero()
    kept = torch.ones(len(where), *graph.exists.shape)
    kept[torch.arange(len(where)), where[:, 0], where[:, 1]] = 0
    return kept


def _largest(difference: Tensor, read: Tensor) -> Tensor:
    return (difference.abs().amax(3) * read).amax((1, 2))
