"""The tasks of compiled programs, and of models trained to have their edges. Each input is paired with another one.

Methods search on ``train``: it has every input when the domain has at most 256, and otherwise 256 inputs drawn evenly
over the different outputs. It also has the certificate's witnesses, a pair or an input for each edge that is necessary
under some ablation, so that every true edge can be found. ``test`` is the whole domain. In both, means are taken over
the whole domain.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch

from .. import ground_truth
from ..ground_truth import GroundTruth
from ..suite.data import Data
from .task import Task

_PREFIXES = (
    "tracr/",
    "tracr-rotated/",
    "tracr-features/",
    "tracr-rotated-features/",
    "tracr-rotated-dictionaries/",
    "tracr-positions/",
    "trained/",
    "trained-node/",
)
MAX_ROWS = 256


def names() -> list[str]:
    """The shipped compiled programs and trained models, each of which is a task."""
    return [name for name in ground_truth.names() if name.startswith(_PREFIXES)]


def load(name: str | Path) -> Task:
    """The task of a ground truth. Raises ModelError when no such name or directory exists."""
    return task(ground_truth.load(name))


def task(truth: GroundTruth) -> Task:
    """The task of a ground truth that has been loaded."""
    return Task(
        name=truth.name,
        description=truth.description.description,
        model=truth.name.removesuffix(f"@{truth.variant}"),
        truth=truth.name,
        objective="answer-difference",
        splits={"train": lambda: _train(truth), "test": lambda: _test(truth)},
    )


def _train(truth: GroundTruth, seed: int = 0) -> Data:
    chosen = _stratified(truth.domain.classes.tolist(), MAX_ROWS, seed)
    partner = _partners(len(truth.domain), seed)
    pairs = [(row, partner[row]) for row in chosen]
    for ablation, claim in truth.certificate.ablations.items():
        if ablation == "noise":  # its witnesses depend on the noise that was drawn
            continue
        for witness in claim.witnesses.values():
            # A witness is one input, whose own run shows the edge (zero, mean), or a pair of inputs (patch).
            paired = len(witness) == 2
            known = pairs if paired else [clean for clean, _ in pairs]
            if (tuple(witness) if paired else witness[0]) not in known:
                pairs.append(tuple(witness) if paired else (witness[0], partner[witness[0]]))
    return _data(truth, pairs)


def _test(truth: GroundTruth, seed: int = 0) -> Data:
    return _data(truth, list(enumerate(_partners(len(truth.domain), seed))))


def _data(truth: GroundTruth, pairs: list[tuple[int, int]]) -> Data:
    tokens, read = torch.from_numpy(truth.domain.tokens), torch.from_numpy(truth.domain.read)
    clean, other = torch.tensor(pairs).T
    return Data(tokens[clean], tokens[other], read[clean], reference=tokens, in_order=True)


def _partners(n: int, seed: int) -> list[int]:
    """Another input for each of n inputs, by a random cycle through all of them."""
    order = _shuffled(list(range(n)), random.Random(seed))
    partner = [0] * n
    for here, there in zip(order, order[1:] + order[:1], strict=True):
        partner[here] = there
    return partner


def _stratified(classes: list[int], at_most: int, seed: int) -> list[int]:
    """Indices, in order, of all inputs, or of ``at_most`` inputs spread evenly over the classes."""
    if len(classes) <= at_most:
        return list(range(len(classes)))
    generator = random.Random(seed)
    members: dict[int, list[int]] = {}
    for index, number in enumerate(classes):
        members.setdefault(number, []).append(index)
    # Each round takes one input of every class that has inputs left. The order of classes is random: the last round may
    # not reach all.
    queues = _shuffled([_shuffled(queue, generator) for queue in members.values()], generator)
    rounds = [queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue)]
    return sorted(rounds[:at_most])


def _shuffled(items: list, generator: random.Random) -> list:
    """A random order that is the same in every Python version. Python promises this of ``random()`` alone."""
    keys = [generator.random() for _ in items]
    return [items[i] for i in sorted(range(len(items)), key=keys.__getitem__)]
