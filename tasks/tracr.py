"""The tasks of compiled programs, and of models trained to have their edges: inputs, each paired with another one.

``train`` is what methods search on: every input when the domain has at most 256, else 256 drawn evenly over the
different outputs; and, so that no true edge is beyond finding, the witness pairs and inputs of the certificate, one
for each edge that is necessary under some ablation. ``test`` is the whole domain. Means are taken over the whole
domain in both.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch

from .. import ground_truth
from ..ground_truth import GroundTruth
from ..suite.data import Data
from .task import Task

_PREFIXES = ("tracr/", "tracr-rotated/", "tracr-features/", "tracr-rotated-features/", "trained/", "trained-node/")
MAX_ROWS = 256


def names() -> list[str]:
    """The shipped compiled programs and trained models, each of which is a task."""
    return [name for name in ground_truth.names() if name.startswith(_PREFIXES)]


def load(name: str | Path) -> Task:
    """The task of a ground truth. Raises ModelError when no such name or directory exists."""
    return task(ground_truth.load(name))


def task(truth: GroundTruth) -> Task:
    """The task of a ground truth that is loaded."""
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
        if ablation == "noise":  # its witnesses depend on what was drawn
            continue
        for witness in claim.witnesses.values():
            # One number is an input whose own run shows the edge (zero, mean), two a pair that does (patch).
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
    return Data(tokens[clean], tokens[other], read[clean], reference=tokens)


def _partners(n: int, seed: int) -> list[int]:
    """Another input for each of n inputs, by a random cycle through all of them."""
    order = _shuffled(list(range(n)), random.Random(seed))
    partner = [0] * n
    for here, there in zip(order, order[1:] + order[:1], strict=True):
        partner[here] = there
    return partner


def _stratified(classes: list[int], at_most: int, seed: int) -> list[int]:
    """Indices, in order, of all inputs or of ``at_most`` that are spread evenly over the classes."""
    if len(classes) <= at_most:
        return list(range(len(classes)))
    generator = random.Random(seed)
    members: dict[int, list[int]] = {}
    for index, number in enumerate(classes):
        members.setdefault(number, []).append(index)
    # Round by round, one input of every class that has any left; the classes in random order, for the last round.
    queues = _shuffled([_shuffled(queue, generator) for queue in members.values()], generator)
    rounds = [queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue)]
    return sorted(rounds[:at_most])


def _shuffled(items: list, generator: random.Random) -> list:
    """A random order that is the same in every Python version, which only ``random()`` itself promises."""
    keys = [generator.random() for _ in items]
    return [items[i] for i in sorted(range(len(items)), key=keys.__getitem__)]
