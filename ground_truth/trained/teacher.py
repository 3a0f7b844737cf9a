"""What a trained model is to do: the compiled program, on the domain of the recipe, with every cut of its edges."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...suite.errors import ModelError
from ...suite.model.graph import Graph
from ..certify import certify
from ..rasp.domain import Domain, enumerate_domain
from ..rasp.programs import PROGRAMS
from ..truth import GroundTruth, load
from .recipe import Recipe
from .student import Students

_OUTPUT_TOLERANCE = 1e-3  # tolerance of a compiled program's outputs, because its attention is not infinitely sharp


@dataclass(frozen=True, eq=False)
class ProgramLesson:
    """A compiled program on a domain.

    Args:
        source: the shipped program.
        teacher: its model, as one of ``Students``.
        true: bool [W, R] of the teacher, the edges that its outputs depend on, on this domain under patching.
        tokens: long [N, P]; read: bool [N, P], where outputs are compared.
        outputs: the teacher's, [N, P, O]: one where the specified label is and zero elsewhere, or the number.
    """

    source: GroundTruth
    domain: Domain
    teacher: Students
    true: Tensor
    tokens: Tensor
    read: Tensor
    outputs: Tensor
    written: Tensor

    def edges(self, graph: Graph) -> Tensor:
        """The true edges in a model with more heads and layers than the teacher: bool [W, R] of ``graph``."""
        return graph.matrix(self.teacher.graph.named(self.true))

    def cut(self, clean: Tensor, other: Tensor, kept: Tensor) -> Tensor:
        """The teacher's outputs under cuts, as ``Students.cut``, of one model: [B, P, O]."""
        with torch.no_grad():
            return self.teacher.cut(self.written, clean, other, kept)[0]


def prepare_program(recipe: Recipe) -> ProgramLesson:
    """Loads and certifies the teacher. Raises ModelError when it is wrong on some input of the domain."""
    program = PROGRAMS[recipe.program]
    source = load(f"tracr/{recipe.program}")
    words = source.description.vocabulary
    domain = enumerate_domain(
        recipe.kind,
        recipe.length,
        recipe.vocabulary or program.vocabulary,
        words.tokens,
        words.bos,
        words.pad,
        program.specification,
    )
    model = source.model()
    claim = certify(model, domain, ablations=["patch"]).ablations["patch"]
    if not (claim.unique and claim.sufficient):
        raise ModelError(f"{source.name} has no single circuit on the domain of its recipe.")
    teacher = Students(source.config, {name: weight[None] for name, weight in model.state_dict().items()})
    tokens, read = torch.from_numpy(domain.tokens), torch.from_numpy(domain.read)
    with torch.no_grad():
        outputs, written = teacher.run(tokens)
    lesson = ProgramLesson(source, domain, teacher, teacher.graph.matrix(claim.core), tokens, read, outputs[0], written)
    problem = mistake(lesson, outputs[0], _OUTPUT_TOLERANCE)
    if problem:
        raise ModelError(f"{source.name} is no teacher on this domain: {problem}")
    return lesson


def mistake(lesson: ProgramLesson, outputs: Tensor, tolerance: float) -> str | None:
    """The first place where outputs [N, P, O] are not what the program's specification says, in words, or None.

    A label must be the largest output, a number within the tolerance.
    """
    about = lesson.source.description
    labels, words = about.outputs.labels, about.vocabulary
    specification = PROGRAMS[about.program].specification
    for tokens, read, row in zip(lesson.tokens.tolist(), lesson.read, outputs, strict=True):
        sequence = [words.tokens[i] for i in tokens[1:] if i != words.pad]
        wanted = [None, *specification(sequence)]
        for position in read.nonzero().flatten().tolist():
            given = labels[int(row[position].argmax())] if labels else float(row[position, 0])
            expected = wanted[position]
            if not (given == expected if labels else abs(given - expected) <= tolerance):
                return f"on {sequence} it outputs {given!r} at position {position}, where {expected!r} is right."
    return None
