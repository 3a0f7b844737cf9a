"""What is asked of a model in training: to behave as the compiled program does, whichever edges are cut.

Each row of a batch is an input, another input that cut edges carry, and a cut. Its target is the output of the
compiled model under the same cut, restricted to the edges that it has. So one loss asks for three things: the right
outputs (nothing is cut, or inert edges only), the right use of each true edge (some of them are cut), and inertness of
all others, alone and together (some, or all, are cut besides).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from ...suite.model.graph import Graph
from .recipe import Recipe
from .student import Students
from .teacher import ProgramLesson


class Cuts(NamedTuple):
    """Cuts of a batch, in the model that is trained and in its teacher: one where an edge is kept, [B, W, R] each."""

    student: Tensor
    teacher: Tensor


def draw(recipe: Recipe, lesson: ProgramLesson, graph: Graph, n: int, chance: Generator) -> Cuts:
    """Random cuts for n rows."""
    return (_edge_cuts if recipe.strict == "edge" else _node_cuts)(lesson, graph, n, chance)


def _edge_cuts(lesson: ProgramLesson, graph: Graph, n: int, chance: Generator) -> Cuts:
    """Half of the rows cut true edges: one, or each with a probability that is drawn for the row.

    Of the inert edges, most rows cut all or one; the others none, or each with a probability drawn for the row.
    """
    true = lesson.edges(graph)
    inert = graph.exists & ~true
    needed = _subsets(int(true.sum()), n, torch.tensor([0.5, 0.25, 0.25, 0.0]), chance)
    free = _subsets(int(inert.sum()), n, torch.tensor([0.1, 0.4, 0.2, 0.3]), chance)
    student, teacher = torch.ones(n, *graph.exists.shape), torch.ones(n, *lesson.true.shape)
    student[:, true] = 1 - needed
    student[:, inert] = 1 - free
    teacher[:, *_matched(lesson, graph).T] = 1 - needed
    return Cuts(student, teacher)


def _matched(lesson: ProgramLesson, graph: Graph) -> Tensor:
    """The teacher's (writer, reader) of each true edge, in the order that the edges have in ``graph``: [n_true, 2]."""
    return torch.tensor([lesson.teacher.graph.index(name) for name in graph.named(lesson.edges(graph))])


def _subsets(size: int, n: int, shares: Tensor, chance: Generator) -> Tensor:
    """n subsets [n, size] that are, with probability ``shares``, empty, of one, random, and everything."""
    how = torch.multinomial(shares, n, replacement=True, generator=chance)[:, None]
    one = torch.zeros(n, size).scatter_(1, torch.randint(size, (n, 1), generator=chance), 1.0)
    rate = torch.rand(n, 1, generator=chance)
    some = (torch.rand(n, size, generator=chance) < rate).float()
    return torch.where(how == 1, one, torch.where(how == 2, some, (how == 3).float()))


def _node_cuts(lesson: ProgramLesson, graph: Graph, n: int, chance: Generator) -> Cuts:
    """Strict interchange intervention training: each row replaces all that one head or MLP writes.

    Half of the rows replace a node of the circuit, whose effect is to be the teacher's, half one outside of it.
    """
    nodes = circuit_nodes(lesson, graph)
    student, teacher = torch.ones(n, *graph.exists.shape), torch.ones(n, *lesson.true.shape)
    for rows, members, known in ((slice(0, n // 2), nodes[0], True), (slice(n // 2, n), nodes[1], False)):
        size = len(range(n)[rows])
        chosen = members[torch.randint(len(members), (size,), generator=chance)]
        student[torch.arange(n)[rows], chosen] = 0
        if known:
            there = torch.tensor([lesson.teacher.graph.writers.index(graph.writers[i]) for i in chosen.tolist()])
            teacher[torch.arange(n)[rows], there] = 0
    return Cuts(student, teacher)


def circuit_nodes(lesson: ProgramLesson, graph: Graph) -> tuple[Tensor, Tensor]:
    """Writer indices of the heads and MLPs in the circuit, and of those outside of it."""
    n_inputs = len(graph.group["input", 0].nodes)
    inside = lesson.edges(graph).any(1)[n_inputs:]
    return tuple(part.nonzero().flatten() + n_inputs for part in (inside, ~inside))


def loss(students: Students, lesson: ProgramLesson, cuts: Cuts, chance: Generator) -> Tensor:
    """Difference from the targets on the whole domain and on cut rows: [M].

    Squared and summed over outputs; of rows, those that are further off count for more, in proportion to their
    distance, because a certificate is about the worst.
    """
    outputs, written = students.run(lesson.tokens)
    clean, other = torch.randint(len(lesson.tokens), (2, len(cuts.student)), generator=chance)
    cut = students.cut(written, clean, other, cuts.student)
    targets = lesson.cut(clean, other, cuts.teacher)
    return _distance(outputs - lesson.outputs, lesson.read) + _distance(cut - targets, lesson.read[clean])


def _distance(difference: Tensor, read: Tensor) -> Tensor:
    squared = (difference.square().sum(3) * read).sum(2) / read.sum(1)  # [M, B]
    weight = squared.detach().sqrt() + 1e-6
    return (squared * weight).sum(1) / weight.sum(1)
