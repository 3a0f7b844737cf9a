"""A task: prompts with their counterfactuals, and the objective that goes with them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..suite.errors import SpecError, unknown

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor

    from ..suite.data import Data


@dataclass(frozen=True, eq=False)
class Task:
    """A task.

    Args:
        name: such as ``tracr/reverse``, or the directory of a ground truth.
        description: one line.
        model: name or directory of the model that the task runs on; None when it runs on any model.
        truth: name or directory of the ground truth that is known of that model, or None.
        objective: the objective of a search that names no other.
        splits: split -> function that makes its ``Data``; it is called once, when the split is first asked for.
    """

    name: str
    description: str
    model: str | None
    truth: str | None
    objective: str
    splits: dict[str, Callable[[], Data]]

    def data(self, split: str = "train") -> Data:
        """The prompts of a split. Raises SpecError for a split that the task lacks."""
        if split not in self.splits:
            raise SpecError(unknown(f"split of {self.name}", split, self.splits))
        if split not in self._made:
            self._made[split] = self.splits[split]()
        return self._made[split]

    @cached_property
    def _made(self) -> dict[str, Data]:
        return {}

    @cached_property
    def hash(self) -> str:
        """16 hex digits of all splits' content; the same in every process."""
        content = "".join(f"{split}:{self.data(split).hash};" for split in sorted(self.splits))
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def dataset(self, split: str = "train") -> Dataset:
        """A split as a Hugging Face dataset with one row per prompt, without padding.

        The columns ``clean`` and ``counterfactual`` are token ids, of equal length where positions are paired; ``read``
        holds the positions at which outputs are compared. Where the task has them, ``answer`` and ``wrong`` are lists
        of token ids, or lists of such lists for answers of several tokens, ``template`` is a number, and ``positions``
        are token indices by name.
        """
        import datasets

        data = self.data(split)
        columns = {"clean": data.clean, "counterfactual": data.counterfactual, "read": data.read}
        lengths = data.lengths.tolist()
        rows = {
            name: [row[:length].tolist() for row, length in zip(column, lengths, strict=True)]
            for name, column in columns.items()
            if column is not None
        }
        for name, column in (("answer", data.answers), ("wrong", data.wrong)):
            if column is not None:
                rows[name] = [tokens_of(row) for row in column]
        if data.unpaired is not None and data.unpaired_lengths is not None:
            ends = data.unpaired_lengths.tolist()
            rows["counterfactual"] = [row[:end].tolist() for row, end in zip(data.unpaired, ends, strict=True)]
        if data.templates is not None:
            rows["template"] = data.templates.tolist()
        if data.positions is not None:
            where = {name: at.tolist() for name, at in data.positions.items()}
            rows["positions"] = [
                {name: [i for i, here in enumerate(at[row]) if here] for name, at in where.items()}
                for row in range(data.n)
            ]
        return datasets.Dataset.from_dict(rows)


def tokens_of(answers: Tensor) -> list[Any]:
    """The answers of a row of ``Data`` without padding: token ids of [A], or lists of them of [A, T]."""
    if answers.ndim == 1:
        return [token for token in answers.tolist() if token >= 0]
    return [answer for answer in map(tokens_of, answers) if answer]
