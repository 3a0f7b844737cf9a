"""The prompts a method sees: clean and counterfactual token ids, where the output is read, what is right and wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import DataError

_ROWS = ("clean", "counterfactual", "read", "lengths", "answers", "wrong", "unpaired", "unpaired_lengths")


@dataclass(frozen=True, eq=False)
class Data:
    """N prompts, each with its counterfactual of the same length.

    Answers of several tokens are read one token after the other: a prompt then has a run for each of its answers, right
    and wrong, in which it is continued by the answer (see ``Batch``). Its outputs are read at its last position and on.

    Args:
        clean: long [N, P], right-padded where lengths differ.
        counterfactual: long [N, P], or None for tasks without counterfactual prompts.
        read: bool [N, P], the positions at which outputs are compared and scored.
        lengths: long [N]; all P when omitted.
        answers, wrong: long [N, A] token ids that are right and wrong at the read positions, padded with -1, or None;
            [N, A, T] for answers of up to T tokens.
        reference: long [M, P'], the prompts over which data-set means are taken; the rows themselves when omitted.
        positions: name -> bool [N, P], where in each prompt the named token is (``S2``, ``end``), for tasks whose
            templates are aligned.
        templates: long [N], which template each prompt was made from: the blocks of a bootstrap.
        unpaired, unpaired_lengths: long [N, P'] and [N], counterfactual prompts of other lengths than the clean
            ones, in place of ``counterfactual``: averages over them have a meaning, what pairs positions does not.
        in_order: whether the rows are in the order of a domain, so that the first of them are no sample of all.

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
    unpaired: Tensor | None = None
    unpaired_lengths: Tensor | None = None
    in_order: bool = False

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
        for name in ("lengths", "answers", "wrong", "templates", "unpaired", "unpaired_lengths"):
            value = getattr(self, name)
            if value is not None and len(value) != self.n:
                raise DataError(f"{name} has {len(value)} rows and clean {self.n}; give one per prompt.")
        if bool((self.read & ~self.valid).any()) or not bool(self.read.any(1).all()):
            raise DataError("every prompt must be read at one position at least, and only within its own length.")
        if self.several_tokens:
            if self.answers is None or self.wrong is None or self.answers.ndim != self.wrong.ndim:
                raise DataError("answers of several tokens need wrong answers, given token by token as well.")
            last = torch.arange(self.clean.shape[1]) == self.lengths[:, None] - 1
            if not torch.equal(self.read, last):
                raise DataError("answers of several tokens follow the prompt, so that it is read at its last position.")

    @property
    def several_tokens(self) -> bool:
        """Whether answers are given token by token: [N, A, T]."""
        return self.answers is not None and self.answers.ndim == 3

    @property
    def continuation(self) -> int:
        """By how many tokens a prompt is continued at most: all of the longest answer but its last."""
        if not self.several_tokens or self.answers is None or self.wrong is None:
            return 0
        return max(self.answers.shape[2], self.wrong.shape[2]) - 1

    @property
    def longest(self) -> int:
        """Positions of the longest run: of the longest prompt, continued."""
        return self.clean.shape[1] + self.continuation

    @property
    def runs_a_prompt(self) -> int:
        """Runs for one prompt at most: one, or one for each of its answers."""
        if not self.several_tokens or self.answers is None or self.wrong is None:
            return 1
        return self.answers.shape[1] + self.wrong.shape[1]

    @property
    def n_runs(self) -> int:
        """Runs for all prompts."""
        if not self.several_tokens or self.answers is None or self.wrong is None:
            return self.n
        return sum(int((given[..., 0] >= 0).sum()) for given in (self.answers, self.wrong))

    @property
    def without_pairs(self) -> str:
        """Why counterfactual prompts have no positions to pair with the clean ones', as a clause."""
        if self.unpaired is None:
            return ", which the task does not have"
        return " whose positions pair with the clean prompts', and the task's have other lengths"

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
        """Batches of rows of equal length, trimmed to it; in row order, and padded instead, with ``padded``.

        Where prompts have several runs, a batch holds as many prompts as make about ``batch_size`` runs.
        """
        batch_size = max(1, batch_size // self.runs_a_prompt)
        rows = torch.arange(self.n)
        groups = [rows] if padded else [rows[self.lengths == length] for length in self.lengths.unique()]
        for group in groups:
            for part in group.split(batch_size):
                yield self.batch(part)

    def batch(self, rows: Tensor) -> Batch:
        """The given rows, trimmed to the longest of them, and continued by answers of several tokens."""
        stop = int(self.lengths[rows].max())
        batch = Batch(
            rows,
            clean=self.clean[rows, :stop],
            counterfactual=None if self.counterfactual is None else self.counterfactual[rows, :stop],
            read=self.read[rows, :stop],
            lengths=self.lengths[rows],
            answers=None if self.answers is None else self.answers[rows],
            wrong=None if self.wrong is None else self.wrong[rows],
            positions={name: where[rows, :stop] for name, where in (self.positions or {}).items()},
            example=torch.arange(len(rows)),
        )
        return batch.continued(self.continuation) if self.several_tokens else batch

    def select(self, rows: Tensor) -> Data:
        """The data of the given rows only; the reference prompts stay."""
        parts: dict[str, Any] = {
            name: None if getattr(self, name) is None else getattr(self, name)[rows] for name in (*_ROWS, "templates")
        }
        positions = None if self.positions is None else {name: at[rows] for name, at in self.positions.items()}
        return Data(**parts, reference=self.reference, positions=positions)


@dataclass(frozen=True, eq=False)
class Batch:
    """Some rows of a Data, of at most ``clean.shape[1]`` positions, as S runs, one per row or per answer of a row.

    Args:
        rows: long [B], their indices in it.
        clean, counterfactual, read, lengths, positions: as in Data, of each run: [S, P] and [S].
        answers, wrong: as in Data, of each row.
        example: long [S], which row of the batch each run is of.
        expected: long [S, P], where a run is continued by an answer: at the position whose output each of its tokens is
            to be, that token; -1 elsewhere.
        right: bool [S], whether that answer is a right one.
        prompt_lengths: long [B], of the rows before they are continued.
    """

    rows: Tensor
    clean: Tensor
    counterfactual: Tensor | None
    read: Tensor
    lengths: Tensor
    answers: Tensor | None
    wrong: Tensor | None
    example: Tensor
    positions: Mapping[str, Tensor] = field(default_factory=dict)
    expected: Tensor | None = None
    right: Tensor | None = None
    prompt_lengths: Tensor | None = None

    @property
    def valid(self) -> Tensor:
        """bool [S, P]: positions that are not padding."""
        return torch.arange(self.clean.shape[1]) < self.lengths[:, None]

    @cached_property
    def example_of_read(self) -> Tensor:
        """long [n_read]: which example of the batch each read position belongs to."""
        return self.example[self.run_of_read]

    @cached_property
    def run_of_read(self) -> Tensor:
        """long [n_read]: which run of the batch each read position belongs to."""
        return self.read.nonzero()[:, 0]

    @cached_property
    def weights(self) -> Tensor:
        """float64 [S, P]: what each position of each run counts in a mean over positions, so that every row counts
        alike: its runs equally, and of each run the positions that are not padding. A mean over P and a sum over S of
        values times this is the sum over the rows; where no run is padded and each row has one, all are 1 exactly.
        """
        of_position = self.valid * (self.valid.shape[1] / self.lengths.double())[:, None]
        return of_position / self.example.bincount()[self.example].double()[:, None]

    def by_example(self, values: Tensor) -> Tensor:
        """Values of the runs [S, ...], added up to those of the rows [B, ...]."""
        if self.expected is None:
            return values
        example = self.example.to(values.device)
        return values.new_zeros(len(self.rows), *values.shape[1:]).index_add(0, example, values)

    def of_runs(self, tokens: Tensor) -> Tensor:
        """Other prompts of the rows' lengths [B, P], as the runs have them: continued by the same answers, [S, P]."""
        if self.expected is None or self.prompt_lengths is None:
            return tokens
        added = self.clean.shape[1] - tokens.shape[1]
        own = torch.arange(self.clean.shape[1]) < self.prompt_lengths[self.example][:, None]
        return torch.where(own, F.pad(tokens[self.example], (0, added)), self.clean)

    def where_in_runs(self, chosen: Tensor) -> Tensor:
        """Positions of the rows, bool [B, P], as the runs have them: none of an answer's, bool [S, P]."""
        return F.pad(chosen[self.example], (0, self.clean.shape[1] - chosen.shape[1]))

    def continued(self, by: int) -> Batch:
        """Each row once for each of its answers, right ones first, continued by the answer's tokens but the last.

        Args:
            by: the most tokens that are added; runs have as many positions more, whatever the rows at hand.
        """
        both = [part for part in (self.answers, self.wrong) if part is not None]
        given = [F.pad(part, (0, by + 1 - part.shape[2]), value=-1) for part in both]
        every, n_right = torch.cat(given, 1), given[0].shape[1]  # [B, K, T]
        example, which = (every[..., 0] >= 0).nonzero(as_tuple=True)
        answer = every[example, which]  # [S, T]
        runs = torch.arange(len(example))[:, None].expand_as(answer)
        at = self.lengths[example][:, None] - 1 + torch.arange(by + 1)  # where each token of an answer is to come next
        known = answer >= 0
        size = (len(example), self.clean.shape[1] + by)
        read, expected = torch.zeros(size, dtype=torch.bool), torch.full(size, -1)
        read[runs[known], at[known]] = True
        expected[runs[known], at[known]] = answer[known]
        followed = torch.arange(by + 1) < known.sum(1, keepdim=True) - 1

        def continue_(tokens: Tensor) -> Tensor:
            longer = F.pad(tokens[example], (0, by))
            longer[runs[followed], at[followed] + 1] = answer[followed]
            return longer

        return replace(
            self,
            clean=continue_(self.clean),
            counterfactual=None if self.counterfactual is None else continue_(self.counterfactual),
            read=read,
            lengths=self.lengths[example] + known.sum(1) - 1,
            positions={name: F.pad(chosen[example], (0, by)) for name, chosen in self.positions.items()},
            example=example,
            expected=expected,
            right=which < n_right,
            prompt_lengths=self.lengths,
        )
