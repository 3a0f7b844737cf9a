"""Losses of candidates: circuits that cut some more edges of the current one, all of them into one group's nodes.

A search that cuts edge after edge asks for these. ``candidates_of`` chooses between the two ways: ``ByDescendants``,
which computes only what such a cut changes (see ../model/descendants.py), and ``ByMasks``, the plain version, for what
that does not know: graphs in which every node computes from an input of its own (features), learned constants, cuts at
some positions, corrupted runs, and prompts that do not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..model.descendants import CircuitRuns
from ..model.graph import NodeGroup
from .evaluator import Evaluator
from .prepared_batch import PreparedBatch

# Numbers held at once, fixed as in evaluator.py: by all circuits' runs, by one circuit's run at most, by the candidates
# of one circuit, and by those of several together, which gain nothing from one call once they leave the caches.
_CIRCUITS, _CIRCUIT, _CANDIDATES, _TOGETHER = 64_000_000, 256_000_000, 48_000_000, 4_000_000
_WIDE = 8  # candidates that fit into such a call, from which on the call costs more than they do


@dataclass(eq=False)
class HeldCircuit:
    """A circuit that candidates are cut from: ``kept``, bool [W, R], is replaced and never changed in place."""

    kept: np.ndarray


Asked = tuple[HeldCircuit, Sequence[np.ndarray]]
"""A circuit, and candidates of it: bool [W, R] each, that differ from it in edges into one group's readers."""


class CutCandidates(Protocol):
    """Losses of candidates, and the circuits that they are cut from."""

    wide: bool  # whether candidates are so cheap that calls cost more than they do

    def enter(self, group: NodeGroup) -> None:
        """From here on edges into this group's readers are cut; all circuits keep those into groups below."""

    def without_effect(self, circuit: HeldCircuit, group: NodeGroup) -> np.ndarray:
        """The edges into a group's readers whose cut changes no output, known without a run: bool [W, r]."""

    def together(self, group: NodeGroup, n_candidates: int) -> int:
        """How many circuits with so many candidates each fit into one call: one at least."""

    def losses(self, group: NodeGroup, asked: Sequence[Asked]) -> list[list[float]]:
        """Losses of each circuit's candidates; of the first ones only, one at least, where one circuit is asked for."""

    def take(self, circuit: HeldCircuit, kept: np.ndarray, candidate: int | None) -> None:
        """The circuit becomes one of its candidates of the last call (``None``: one that writes the same)."""

    def cut_unseen(self, circuit: HeldCircuit, kept: np.ndarray) -> None:
        """The circuit becomes ``kept``, which cuts edges into nodes that no kept edge leads out of."""

    def split(self, circuit: HeldCircuit) -> HeldCircuit:
        """A second circuit equal to one that is held; only between ``losses`` and ``take``."""

    def drop(self, circuit: HeldCircuit) -> None:
        """Frees what is kept of a circuit that is no longer needed."""


def candidates_of(evaluator: Evaluator, n_circuits: int) -> CutCandidates:
    """The faster of the two ways that is right for an evaluator.

    Args:
        n_circuits: how many will be held, at most.
    """
    n = evaluator.data.clean.numel()
    covered = not (evaluator.model.reads_apart or evaluator.learned or evaluator.denoising)
    if covered and evaluator.cut_at is None and CircuitRuns.numbers(evaluator.model, n) <= _CIRCUIT:
        return ByDescendants(evaluator, n_circuits)
    return ByMasks(evaluator)


class ByMasks:
    """By a whole cut pass for each candidate: the plain version."""

    wide = True

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator

    def enter(self, group: NodeGroup) -> None:
        """Does nothing: no activations are held."""

    def without_effect(self, circuit: HeldCircuit, group: NodeGroup) -> np.ndarray:
        """No edge: it is not known which cuts have an effect."""
        return np.zeros_like(circuit.kept[:, group.readers])

    def together(self, group: NodeGroup, n_candidates: int) -> int:
        """As ``CutCandidates.together``. The evaluator divides the candidates into calls that fit."""
        return len(self.evaluator.model.graph.readers)

    def losses(self, group: NodeGroup, asked: Sequence[Asked]) -> list[list[float]]:
        """As ``CutCandidates.losses``, by running every candidate."""
        masks = torch.from_numpy(np.stack([mask for _, candidates in asked for mask in candidates]))
        found = self.evaluator.loss(masks)
        return [part.tolist() for part in found.split([len(candidates) for _, candidates in asked])]

    def take(self, circuit: HeldCircuit, kept: np.ndarray, candidate: int | None) -> None:
        """As ``CutCandidates.take``."""
        circuit.kept = kept

    def cut_unseen(self, circuit: HeldCircuit, kept: np.ndarray) -> None:
        """As ``CutCandidates.cut_unseen``."""
        circuit.kept = kept

    def split(self, circuit: HeldCircuit) -> HeldCircuit:
        """As ``CutCandidates.split``."""
        return HeldCircuit(circuit.kept)

    def drop(self, circuit: HeldCircuit) -> None:
        """Does nothing: no activations are held."""


class ByDescendants:
    """By the nodes that a candidate changes; circuits' runs are held in slots, and made again where slots are few."""

    def __init__(self, evaluator: Evaluator, n_circuits: int) -> None:
        self.evaluator, self.model = evaluator, evaluator.model
        self.n = evaluator.data.clean.numel()
        n_slots = max(1, min(n_circuits, _CIRCUITS // CircuitRuns.numbers(self.model, self.n)))
        self.batches: list[tuple[PreparedBatch, CircuitRuns]] = []
        for ready in evaluator.prepared():
            runs = CircuitRuns(self.model, ready.alternative, ready.prefix, ready.runs.read, n_slots)
            self.batches.append((ready, runs))
        self.moved = np.any([runs.moved for _, runs in self.batches], 0)
        self._slots: dict[HeldCircuit, int] = {}  # least recently used first
        self._n_slots, self._free = n_slots, list(reversed(range(n_slots)))
        self._called: dict[HeldCircuit, int] = {}  # where in the last call a circuit, or the one it was split from, was
        self._outputs = int(evaluator.data.read.sum()) * self.model.config.d_out
        self.wide = _WIDE * self._numbers(len(self.model.graph.writers)) <= _TOGETHER

    def enter(self, group: NodeGroup) -> None:
        """As ``CutCandidates.enter``."""
        for _, runs in self.batches:
            runs.enter(group.layer)

    def without_effect(self, circuit: HeldCircuit, group: NodeGroup) -> np.ndarray:
        """As ``CutCandidates.without_effect``: out of writers that a cut leaves as they are, and into dead ends."""
        live = self.model.live_writers(torch.from_numpy(circuit.kept)).numpy()
        dead = ~np.tile(live[group.writers], len(group.parts)) if group.writes else np.zeros(1, dtype=bool)
        return ~self.moved[:, None] | dead

    def together(self, group: NodeGroup, n_candidates: int) -> int:
        """As ``CutCandidates.together``."""
        a_circuit = n_candidates * self._numbers(len(self.model.graph.writers) - group.writers.start)
        return max(1, min(self._n_slots, _TOGETHER // a_circuit))

    def losses(self, group: NodeGroup, asked: Sequence[Asked]) -> list[list[float]]:
        """As ``CutCandidates.losses``."""
        self._hold([circuit for circuit, _ in asked])
        by_slot = sorted(asked, key=lambda each: self._slots[each[0]])
        self._called = {circuit: i for i, (circuit, _) in enumerate(by_slot)}
        slots, circuits = [self._slots[c] for c, _ in by_slot], np.stack([c.kept for c, _ in by_slot])

        columns = [np.stack(candidates)[:, :, group.readers] for _, candidates in by_slot]
        differ = [part != circuit.kept[:, group.readers] for part, (circuit, _) in zip(columns, by_slot, strict=True)]
        touched = np.any([part.any((0, 1)) for part in differ], 0).nonzero()[0] + group.readers.start
        plan = self.batches[0][1].plan(circuits, group, touched.tolist())
        if len(asked) == 1:
            n_changed = sum(len(step.nodes) for step in plan)
            columns = [columns[0][: max(1, _CANDIDATES // self._numbers(n_changed))]]
        widest = max(map(len, columns))
        candidates = np.stack([part[np.minimum(np.arange(widest), len(part) - 1)] for part in columns])
        total: Tensor | float = 0.0
        for ready, runs in self.batches:
            outputs = runs.outputs(slots, circuits, group, candidates, plan)
            total = total + self.evaluator.objective.loss(outputs, ready.targets).double().sum(-1)
        assert isinstance(total, Tensor)
        found = (total / self.evaluator.data.n).tolist()
        of = {circuit: found[i][: len(columns[i])] for circuit, i in self._called.items()}
        return [of[circuit] for circuit, _ in asked]

    def take(self, circuit: HeldCircuit, kept: np.ndarray, candidate: int | None) -> None:
        """As ``CutCandidates.take``."""
        if circuit in self._slots and candidate is not None:
            for _, runs in self.batches:
                runs.take(self._called[circuit], candidate, self._slots[circuit])
        circuit.kept = kept

    def cut_unseen(self, circuit: HeldCircuit, kept: np.ndarray) -> None:
        """As ``CutCandidates.cut_unseen``."""
        if self.model.config.heads_together:  # such heads still take part in what others write: it is run anew
            self.drop(circuit)
        circuit.kept = kept

    def split(self, circuit: HeldCircuit) -> HeldCircuit:
        """As ``CutCandidates.split``; without a free slot the second is run anew when it is asked for."""
        second = HeldCircuit(circuit.kept)
        if self._free and circuit in self._slots:
            self._called[second] = self._called[circuit]
            self._slots[second] = self._free.pop()
            for _, runs in self.batches:
                runs.copy(self._slots[circuit], self._slots[second])
        return second

    def drop(self, circuit: HeldCircuit) -> None:
        """As ``CutCandidates.drop``."""
        if circuit in self._slots:
            self._free.append(self._slots.pop(circuit))

    def _numbers(self, n_nodes: int) -> int:
        """How many numbers a candidate holds that changes so many nodes."""
        return self.n * self.model.config.d_model * (n_nodes + 8) + 4 * self._outputs

    def _hold(self, circuits: Sequence[HeldCircuit]) -> None:
        """Runs those that no slot holds, in the slots of others where none is free."""
        missing = [circuit for circuit in circuits if circuit not in self._slots]
        for circuit in circuits:
            if circuit in self._slots:
                self._slots[circuit] = self._slots.pop(circuit)  # the most recently used
        for _ in range(len(missing) - len(self._free)):
            self.drop(next(iter(self._slots)))
        for circuit in missing:
            self._slots[circuit] = self._free.pop()
            for _, runs in self.batches:
                runs.build([self._slots[circuit]], circuit.kept[None])
