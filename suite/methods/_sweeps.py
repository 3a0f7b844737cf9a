"""Greedy sweeps at several thresholds. A sweep tries one cut after the other, and keeps a cut that changes the loss by
less than the threshold.

A plain loop makes one small call for each cut, and repeats all calls for each threshold. Three things save calls here,
and change no decision of the plain loop:

* Guesses. The losses after the next cuts are computed in one call, under the assumption that decisions are as expected,
  and are used up to and including the first wrong guess. The change that is expected of a cut is the one that the sweep
  of another threshold has found, or else a score of the edge. A cut about which nothing is known is expected to be
  kept.
* Thresholds whose decisions have all been the same have the same circuit. They share one sweep, which splits where
  decisions differ. Sweeps that are in the same group of nodes share calls.
* A cut that cannot change any output (see cut_candidates.py) is decided without a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ..intervention.cut_candidates import CutCandidates, HeldCircuit, candidates_of
from ..intervention.evaluator import Evaluator
from ..model.graph import Graph, NodeGroup
from ..model.passes import count_passes, spare

# The edges that one cut removes: one edge (writer, reader), or all edges into a reader (a slice of writers, reader).
TriedCut = tuple[int | slice, int]
_AT_FIRST = 4  # how many cuts the first call guesses
_FEWEST = 4  # guesses in a call, of all its sweeps together, when a call costs more than its candidates
_A_READER = 8  # guesses after which no further reader is added to a call, when runs cost more than calls


@dataclass
class _Tried:
    """A guess: the circuit without the edges of a cut, and its number as a candidate (None: no output changes)."""

    cut: TriedCut
    accept: bool
    kept: np.ndarray
    candidate: int | None


@dataclass
class _Sweep:
    """The sweep of thresholds whose decisions have been the same so far."""

    thresholds: list[float]
    circuit: HeldCircuit
    loss: float
    waiting: list[TriedCut] = field(default_factory=list)
    guesses: int = _AT_FIRST
    tried: list[_Tried] = field(default_factory=list)

    @property
    def candidates(self) -> list[np.ndarray]:
        """The circuits whose losses are wanted."""
        return [tried.kept for tried in self.tried if tried.candidate is not None]

    def start(self, graph: Graph, cuts: list[TriedCut], candidates: CutCandidates) -> None:
        """Lists the cuts of a group. Edges into nodes that write to no kept edge are cut without a run."""
        kept = self.circuit.kept
        owners = {r: graph.owners[r] for _, r in cuts}
        dead = [r for r, owner in owners.items() if owner >= 0 and not kept[owner].any()]
        if dead:
            kept = kept.copy()
            kept[:, dead] = False
            candidates.cut_unseen(self.circuit, kept)
        self.waiting = [(w, r) for w, r in cuts if r not in dead and kept[w, r].any()]

    def guess(self, group: NodeGroup, known: Mapping[TriedCut, float], idle: np.ndarray, most: int, wide: bool) -> None:
        """Makes the next guesses.

        Args:
            known: the expected change of the loss, by cut.
            idle: the edges into the group's readers whose cut has no effect, [W, r].
            most: the largest number of guesses.
            wide: whether a call costs more than the candidates in it.
        """
        base, tau, n_candidates = self.circuit.kept, self.thresholds[len(self.thresholds) // 2], 0
        self.tried = []
        for w, r in self.waiting[: min(self.guesses, most)]:
            if not wide and len(self.tried) >= _A_READER and r != self.tried[-1].cut[1]:
                break
            kept, effect = base.copy(), base[w, r] & ~idle[w, r - group.readers.start]
            kept[w, r] = False
            change = known.get(_key(w, r)) if effect.any() else 0.0
            accept = change is None or not change >= tau
            self.tried.append(_Tried((w, r), accept, kept, n_candidates if effect.any() else None))
            n_candidates += bool(effect.any())
            base = kept if accept else base

    def settle(self, losses: Sequence[float], absolute: bool, known: dict[TriedCut, float]) -> list[_Outcome]:
        """What each threshold decides, up to and including its first decision that was not guessed.

        Args:
            losses: the losses of the first candidates.
            absolute: whether the size of a change counts, whatever its sign.
            known: a dict, to which the changes found are added by cut.
        """
        found, here = [], _Outcome(self.thresholds, None, None, self.loss, 0)
        for i, tried in enumerate(self.tried):
            if tried.candidate is not None and tried.candidate >= len(losses):
                break
            loss = here.loss if tried.candidate is None else losses[tried.candidate]
            change = abs(loss - here.loss) if absolute else loss - here.loss
            known[_key(*tried.cut)] = change
            last = here.candidate if tried.candidate is None else tried.candidate
            cut = replace(here, kept=tried.kept, candidate=last, loss=loss, used=i + 1)
            kept = replace(here, used=i + 1)
            as_guessed = [tau for tau in here.thresholds if (not change >= tau) == tried.accept]
            others = [tau for tau in here.thresholds if (not change >= tau) != tried.accept]
            if others:
                found.append(replace(kept if tried.accept else cut, thresholds=others))
            here = replace(cut if tried.accept else kept, thresholds=as_guessed)
            if not as_guessed:
                return found
        return [*found, here]


@dataclass(frozen=True)
class _Outcome:
    """The state of some thresholds of a sweep after its guesses.

    Args:
        thresholds: those whose decisions were the same.
        kept: the circuit after their last cut; None when they made no cut.
        candidate: the number of the candidate that is ``kept``; None when that is the circuit of the sweep.
        loss: the loss after the last cut.
        used: how many guesses these thresholds have decided.
    """

    thresholds: list[float]
    kept: np.ndarray | None
    candidate: int | None
    loss: float
    used: int


def at_most(prompts: int, cuts: float, layers: float) -> float:
    """The most passes of so many cuts through this share of the layers: one a prompt, another for a wrong guess."""
    return 2 * prompts * cuts * layers


def _key(w: int | slice, r: int) -> TriedCut:
    return (-1 if isinstance(w, slice) else w), r


def sweep_thresholds(
    evaluator: Evaluator,
    groups: Sequence[list[TriedCut]],
    thresholds: Sequence[float],
    masks_at_once: int,
    *,
    absolute: bool = False,
    expected: Mapping[TriedCut, float] | None = None,
) -> tuple[dict[float, Tensor], int]:
    """The edges [W, R] that each threshold keeps, and how many circuits were evaluated besides the whole model.

    Args:
        groups: for each group of nodes the cuts of edges into its readers, in the order in which they are tried. The
            groups are ordered from the logits down.
        thresholds: one for each sweep.
        masks_at_once: the largest number of candidates in one call.
        absolute: whether the size of a change is compared with the threshold, whatever its sign.
        expected: the expected change of the loss, by cut. Good expectations save runs; no decision depends on them.
    """
    graph, known = evaluator.model.graph, dict(expected or {})
    candidates = candidates_of(evaluator, len(set(thresholds)))
    plain = float(evaluator.loss(graph.exists[None])[0])
    sweeps = [_Sweep(sorted(set(thresholds)), HeldCircuit(graph.existing.copy()), plain)]
    evaluated, decided = 0, _Decided(evaluator, len(set(thresholds)))
    for cuts in filter(None, groups):
        group = next(each for each in graph.groups if each.readers.start <= cuts[0][1] < each.readers.stop)
        candidates.enter(group)
        for sweep in sweeps:
            sweep.start(graph, cuts, candidates)
        done, sweeps = _parted(sweeps)
        decided.tell(group, cuts, sweeps)
        while sweeps:
            most = max(1, masks_at_once // len(sweeps))
            called = sweeps[: candidates.together(group, min(most, max(sweep.guesses for sweep in sweeps)))]
            fewest = max(1, _FEWEST // len(called)) if candidates.wide else 1
            for sweep in called:
                sweep.guess(group, known, candidates.without_effect(sweep.circuit, group), most, candidates.wide)
            asked = [sweep for sweep in called if sweep.candidates]
            with decided.spending():
                wanted = [(sweep.circuit, sweep.candidates) for sweep in asked]
                losses = candidates.losses(group, wanted) if asked else []
            evaluated += sum(map(len, losses))
            answers = {id(sweep): found for sweep, found in zip(asked, losses, strict=True)}
            following = []
            for sweep in called:
                outcomes = sweep.settle(answers.get(id(sweep), []), absolute, known)
                following += _after(sweep, outcomes, candidates, fewest)
            ended, following = _parted(following)
            done, sweeps = done + ended, following + sweeps[len(called) :]
            decided.tell(group, cuts, sweeps)
        decided.close()
        sweeps = done
    return {tau: torch.from_numpy(sweep.circuit.kept) for sweep in sweeps for tau in sweep.thresholds}, evaluated


class _Decided:
    """Spares what the cuts that are decided did not cost of what was declared for them (``at_most``).

    Args:
        n_thresholds: how many thresholds decide each cut.
    """

    def __init__(self, evaluator: Evaluator, n_thresholds: int) -> None:
        self._n, self._layers, self._thresholds = evaluator.data.n, evaluator.model.graph.n_layers, n_thresholds
        self._before = self._group = self._spent = self._spared = 0.0

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Inside, candidates are run."""
        with count_passes() as passes:
            yield
        self._spent += passes.forward

    def tell(self, group: NodeGroup, cuts: Sequence[TriedCut], sweeps: Sequence[_Sweep]) -> None:
        """The sweeps that are not at the end of a group of cuts, after some of them were decided."""
        waiting = sum(len(sweep.waiting) * len(sweep.thresholds) for sweep in sweeps)
        self._group = at_most(
            self._n, len(cuts) * self._thresholds - waiting, (self._layers - group.layer) / self._layers
        )
        spared = self._before + self._group - self._spent
        if spared > self._spared:
            spare(spared - self._spared)
            self._spared = spared

    def close(self) -> None:
        """Ends the group."""
        self._before += self._group


def _parted(sweeps: list[_Sweep]) -> tuple[list[_Sweep], list[_Sweep]]:
    """The sweeps that have tried all cuts of a group, and the others."""
    return [sweep for sweep in sweeps if not sweep.waiting], [sweep for sweep in sweeps if sweep.waiting]


def _after(sweep: _Sweep, outcomes: list[_Outcome], candidates: CutCandidates, fewest: int) -> list[_Sweep]:
    """The sweeps into which a sweep splits, one for each outcome. That with most thresholds keeps the sweep's run."""
    outcomes = sorted(outcomes, key=lambda outcome: -len(outcome.thresholds))
    circuits = [sweep.circuit, *(candidates.split(sweep.circuit) for _ in outcomes[1:])]
    following = []
    for outcome, circuit in zip(outcomes, circuits, strict=True):
        if outcome.kept is not None:
            candidates.take(circuit, outcome.kept, outcome.candidate)
        guesses = sweep.guesses
        if outcome.used == len(sweep.tried) == guesses:
            guesses = 2 * guesses
        elif outcome.used < len(sweep.tried):
            guesses = max(fewest, guesses // 2)
        following.append(_Sweep(outcome.thresholds, circuit, outcome.loss, sweep.waiting[outcome.used :], guesses))
    return following
