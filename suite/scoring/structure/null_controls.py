"""Nulls: models and prompts in which there is nothing to find, so that what a method finds there is chance or bias.

A circuit that is as faithful on a model of shuffled weights as on the trained one says nothing about training
(Méloux et al. 2025, arXiv:2502.20914, ask for such controls).
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor

from ...data import Data
from ...errors import Undefined
from ...model.device import send
from ...model.transformer import Transformer
from .controls_found import Null


def null_model(kind: Null, model: Transformer, seed: int = 0) -> Transformer:
    """The model of a null, on which the prompts of ``null_data`` are run; the one that is given is not changed.

    Args:
        kind: ``reset-weights`` puts the entries of each of the model's weights in a random order. For other kinds the
            model is returned itself.
        seed: the seed of the random order.
    """
    return reset_weights(model, torch.Generator().manual_seed(seed)) if kind == "reset-weights" else model


def null_data(kind: Null, data: Data, seed: int = 0) -> Data:
    """The prompts of a null; those that are given are not changed.

    Args:
        kind: ``permuted-labels`` gives each prompt the right and wrong answers of another. ``nonsense`` puts the tokens
            of each prompt in a random order, the same in its counterfactual, except for the first and for those where
            outputs are read. For other kinds the prompts are returned themselves.
        seed: the seed of the random order.

    Raises:
        Undefined: the kind is labels or nonsense, and the task has no answers: its prompts are all inputs of a program,
            in any order.
    """
    if kind == "reset-weights":
        return data
    generator = torch.Generator().manual_seed(seed)
    if data.answers is None:
        raise Undefined(
            f"the task has no answers, so that {kind} has no meaning: any order of tokens is an input of it"
        )
    return permuted_labels(data, generator) if kind == "permuted-labels" else shuffled_words(data, generator)


def reset_weights(model: Transformer, generator: torch.Generator) -> Transformer:
    """A copy of the model in which the entries of each weight are in a random order; what was learnt is gone."""
    twin = copy.deepcopy(model)
    twin.__dict__.pop("weights_hash", None)
    with torch.no_grad():
        for weight in twin.parameters():
            order = send(torch.randperm(weight.numel(), generator=generator), weight.device)
            weight.copy_(weight.flatten()[order].view_as(weight))
    return twin


def permuted_labels(data: Data, generator: torch.Generator) -> Data:
    """Each prompt with the answers, right and wrong, of another: a cycle through all prompts in a random order."""
    order = torch.randperm(data.n, generator=generator)
    other = torch.empty_like(order)
    other[order] = order.roll(1)
    answers, wrong = (None if each is None else each[other] for each in (data.answers, data.wrong))
    return replace(data, answers=answers, wrong=wrong)


def shuffled_words(data: Data, generator: torch.Generator) -> Data:
    """The tokens of each prompt in a random order, the same in its counterfactual; the first, and those read, stay.

    The data returned has no named positions, because the tokens at them have moved.
    """
    place = torch.arange(data.clean.shape[1]).repeat(data.n, 1)
    for row in range(data.n):
        free = (data.valid[row] & ~data.read[row]).nonzero()[:, 0]
        free = free[free > 0]
        place[row, free] = free[torch.randperm(len(free), generator=generator)]

    def moved(tokens: Tensor | None) -> Tensor | None:
        return None if tokens is None else tokens.gather(1, place)

    return replace(data, clean=moved(data.clean), counterfactual=moved(data.counterfactual), positions=None)
