"""The accuracy of a mini model on its tasks, on prompts that it was not trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch

from ...suite.data import Data
from ..pack import pack
from ..tokenizer import Tokenizer

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

ROWS = 1000  # the largest number of prompts of a split that an accuracy is computed from


def examination(tokenizer: Tokenizer, names: Iterable[str], split: str) -> dict[str, Data]:
    """The prompts of a split, by task."""
    from ... import tasks

    found = {}
    for name in names:
        task = tasks.load(name)
        prompts = task.prompts(tokenizer, split, ROWS)
        found[name] = pack(prompts, tokenizer, task.family.positions, bos=False)
    return found


def accuracies(model: GPT2LMHeadModel, questions: Mapping[str, Data]) -> dict[str, float]:
    """The fraction of each task's prompts whose most likely next token, of the whole vocabulary, is an answer."""
    return {name: accuracy(model, data) for name, data in questions.items()}


@torch.no_grad()
def accuracy(model: GPT2LMHeadModel, data: Data) -> float:
    """The fraction of prompts whose most likely next token is an answer."""
    model.eval()
    right = 0
    for batch in data.batches(500):
        best = model(batch.clean).logits[:, -1].argmax(-1)
        right += int((batch.answers == best[:, None]).any(1).sum())
    return right / data.n
