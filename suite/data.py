"""The prompts a method sees: clean and counterfactual token ids, where the output is read, what is right and wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from .errors import DataError

_ROWS = ("clean", "counterfactual", "read", "lengths", "answers", "wrong")


@dataclass(frozen=True, eq=False)
class Data:
    """N prompts, each with its counterfactual of the same length.

    Args:
        clean: long [N, P], right-padded where lengths differ.
        counterfactual: long [N, P], or None for tasks without counterfactual prompts.
        read: bool [N, P], the positions at which outputs are compared and scored.
        lengths: long [N]; all P when omitted.
        answers, wrong: long [N, A] token ids that are right and wrong at the read positions, padded with -1, or None.
        reference: long [M, P'], the prompts over which data-set means are taken; the rows themselves when omitted.
        positions: name -> bool [N, P], where in each prompt the named token is (``S2``, ``end``), for tasks whose
            templates are aligned.
        templates: long [N], which template each prompt was made from: the blocks of a bootstrap.

    Raises:
        DataError: shapes that do not fit, no rows, a row that is read nowhere or beyond its length.
    """

    clean: Tensor
    counterfactual: Tensor | None
    read: Tensor
    lengths: Tensor = None  # all P, once it is made
    answers: Tensor | None = None
    wrong: Tensor | None = None
    reference: Tensor | None = None
    positions: Mapping[str, Tensor] | None = None
    templates: Tensor | None = None

    def __post_init__(self) -> None:
        if self.clean.ndim != 2 or not len(self.clean):
            raise DataError(
                f"clean prompts have shape {tuple(self.clean.shape)}; give at least one row, [rows, positions]."
            )
        if self.lengths is None:
            object.__setattr__(self, "lengths", torch.full((self.n,), self.clean.shape[1]))
        for name in ("counterfactual", "read"):
            value = getattr(self, name)
            if value is not None and value.shape != self.clean.shape:
                raise DataError(
                    f"{name} has shape {tuple(value.shape)} and clean {tuple(self.clean.shape)}; "
                    f"each clean prompt needs a counterpart of the same length."
                )
        for name, value in (self.positions or {}).items():
            if value.shape != self.clean.shape or bool((value & ~self.valid).any()):
                raise DataError(f"positions[{name!r}] is to be bool {tuple(self.clean.shape)}, and false on padding.")
        for name in ("lengths", "answers", "wrong", "templates"):
            value = getattr(self, name)
            if value is not None and len(value) != self.n:
                raise DataError(f"{name} has {len(value)} rows and clean {self.n}; give one a prompt.")
        if bool((self.read & ~self.valid).any()) or not bool(self.read.any(1).all()):
            raise DataError("every prompt must be read at one position at least, and only within its own length.")

    @property
    def n(self) -> int:
        return len(self.clean)

    @property
    def valid(self) -> Tensor:
        """bool [N, P]: positions that are not padding."""
        return torch.arange(self.clean.shape[1]) < self.lengths[:, None]

    @cached_property
    def hash(self) -> str:
        """``content_hash``, remembered."""
        return self.content_hash()

    def content_hash(self) -> str:
        """16 hex digits of the content, read now; the same in every process and Python version."""
        digest = hashlib.sha256()
        parts = {name: getattr(self, name) for name in (*_ROWS, "reference", "templates")}
        parts |= {f"positions.{name}": value for name, value in sorted((self.positions or {}).items())}
        for name, value in parts.items():
            if value is not None:
                digest.update(f"{name}:{tuple(value.shape)}".encode())
                digest.update(value.to(torch.int64).contiguous().numpy().astype("<i8").tobytes())
        return digest.hexdigest()[:16]

    def batches(self, batch_size: int, padded: bool = False) -> Iterator[Batch]:
        """Batches of rows of equal length, trimmed to it; in row order, and padded instead, with ``padded``."""
        rows = torch.arange(self.n)
        groups = [rows] if padded else [rows[self.lengths == length] for length in self.lengths.unique()]
        for group in groups:
            for part in group.split(batch_size):
                yield self.batch(part)

    def batch(self, rows: Tensor) -> Batch:
        """The given rows, trimmed to the longest of them."""
        stop = int(self.lengths[rows].max())
        return Batch(
            rows,
            clean=self.clean[rows, :stop],
            counterfactual=None if self.counterfactual is None else self.counterfactual[rows, :stop],
            read=self.read[rows, :stop],
            lengths=self.lengths[rows],
            answers=None if self.answers is None else self.answers[rows],
            wrong=None if self.wrong is None else self.wrong[rows],
            positions={name: where[rows, :stop] for name, where in (self.positions or {}).items()},
        )

    def select(self, rows: Tensor) -> Data:
        """The data of the given rows only; the reference prompts stay."""
        parts = {
            name: None if getattr(self, name) is None else getattr(self, name)[rows] for name in (*_ROWS, "templates")
        }
        positions = None if self.positions is None else {name: at[rows] for name, at in self.positions.items()}
        return Data(**parts, reference=self.reference, positions=positions)


@dataclass(frozen=True, eq=False)
class Batch:
    """Some rows of a Data, of at most ``clean.shape[1]`` positions. ``rows`` [B] are their indices in it."""

    rows: Tensor
    clean: Tensor
    counterfactual: Tensor | None
    read: Tensor
    lengths: Tensor
    answers: Tensor | None
    wrong: Tensor | None
    positions: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def valid(self) -> Tensor:
        """bool [B, P]: positions that are not padding."""
        return torch.arange(self.clean.shape[1]) < self.lengths[:, None]

    @cached_property
    def example_of_read(self) -> Tensor:
        """long [n_read]: which example of the batch each read position belongs to."""
        return self.read.nonzero()[:, 0]
