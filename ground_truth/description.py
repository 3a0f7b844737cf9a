"""The content of ``model.json``: the architecture, and the names of the model's tokens, outputs and nodes."""

from __future__ import annotations

from pydantic import Field

from ..suite.json_model import Kept
from ..suite.model.block import Config
from ..suite.model.graph import InputNodes
from ..suite.model.stated_graph import Flag

Token = int | float | str | bool
_FORMAT = 1


class Vocabulary(Kept):
    """The tokens in the order of their ids, and the ids of the ones that begin a sequence and fill it up."""

    tokens: list[Token]
    bos: int | None
    pad: int | None


class Outputs(Kept):
    """``categorical``: one output per label; ``numerical``: one number, and no labels."""

    kind: str
    labels: list[Token]


class ModelDescription(Kept):
    """The content of a ``model.json``.

    Args:
        family: ``tracr``, ``trained``, ``gates``, ...
        program: the program that was compiled, or that was the teacher.
        description: what the model computes, in one line.
        max_len: the largest length of a sequence.
        writers: the variables that each node writes.
        dimensions: what each dimension of the residual stream holds; None in a trained model, whose dimensions are
            mixed.
    """

    format: int = _FORMAT
    family: str
    program: str
    description: str
    config: Config
    inputs: InputNodes
    vocabulary: Vocabulary
    outputs: Outputs
    causal: Flag
    max_len: int = Field(ge=1, strict=True)
    writers: dict[str, list[str]]
    dimensions: list[str] | None = None
