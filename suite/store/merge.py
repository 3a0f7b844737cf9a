"""Stores from several machines become one: identical cells once, contradictions listed, nothing overwritten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import StoreError
from ..scoring.behaviour import Behaviour
from .record import CircuitRecovery, EvaluationRecord, Record, Recovery
from .store import Store

EQUAL_SCORES = 1e-6  # relative to the largest score; other machines and versions may differ by this much in rounding
EQUAL_COUNTED = 0.01  # of numbers that count edges or ranks, and of circuits: one edge of equal score more or less
EQUAL_CONTROLS = 1e-4  # of numbers of controls, which are shares of small differences


@dataclass
class Merged:
    """The outcome of a merge.

    Args:
        into: the store that was merged into.
        added, known: numbers of results (cells, evaluations, behaviours) that were copied, and that were already there
            and equal.
        contradictions: path in the store -> how the results of two stores differ. The one that was there is kept.
        damaged: path in a source -> what is wrong with it; it is not copied.
    """

    into: str
    added: int = 0
    known: int = 0
    contradictions: dict[str, str] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether no results contradict each other and none was damaged."""
        return not (self.contradictions or self.damaged)

    def as_json(self) -> dict[str, Any]:
        """The object that ``merge --json`` prints."""
        return {name: getattr(self, name) for name in ("into", "added", "known", "contradictions", "damaged")}

    def __str__(self) -> str:
        lines = [f"{self.into}: {self.added} results added, {self.known} were there already"]
        lines += [f"  contradiction: {path}: {reason}" for path, reason in self.contradictions.items()]
        lines += [f"  damaged, not copied: {path}: {reason}" for path, reason in self.damaged.items()]
        return "\n".join(lines)


def merge(sources: Sequence[str | Path], into: str | Path) -> Merged:
    """Copies what ``into`` lacks from every source, and checks it on the way.

    A finished result replaces a failed one. Results that are there twice are equal when they ended alike and their
    numbers differ by no more than rounding may make of them (``EQUAL_SCORES`` and those beside it); time and
    provenance may differ.

    Args:
        sources: folders or addresses of stores.
        into: a store on this machine; a new folder is made if it does not exist.

    Raises:
        StoreError: a source is not a store, or ``into`` cannot be written to.
    """
    stores = [Store(path) for path in sources]
    target = Store(into, create=True)
    done = Merged(target.name)
    for source in stores:
        for key in source.truth_keys():
            _copied(done, source, f"truths/{key}.json", lambda key=key, s=source: target.write_truth(key, s.truth(key)))
        for key in source.environment_keys():
            _copied(
                done,
                source,
                f"environments/{key}.json",
                lambda key=key, s=source: target.write_environment(s.environment(key)),
            )
        for key in source.keys():
            _copied(done, source, f"cells/{key}", lambda key=key, s=source: _cell(done, s, target, key))
        for key in source.evaluation_keys():
            _copied(
                done, source, f"evaluations/{key}.json", lambda key=key, s=source: _evaluation(done, s, target, key)
            )
        for key in source.behaviour_keys():
            _copied(done, source, f"behaviours/{key}.json", lambda key=key, s=source: _behaviour(done, s, target, key))
        for name in source.benchmark_names():
            _copied(done, source, f"benchmarks/{name}.json", lambda name=name, s=source: _benchmark(s, target, name))
    return done


def take(sources: Sequence[str | Path], into: Store, cells: Sequence[str], evaluations: Sequence[str]) -> Merged:
    """Copies finished results that ``into`` lacks, checked on the way, so that they need not be computed again.

    Args:
        sources: folders or addresses of stores; the first that has a result gives it.
        into: the store that gets them; it has no damaged result among these.
        cells, evaluations: the keys of the results that are wanted.

    Raises:
        StoreError: a source is not a store, or ``into`` cannot be written to.
    """
    done, stores = Merged(into.name), [Store(path) for path in sources]
    for source in stores:
        for key in sorted(set(cells) & set(source.keys())):
            _copied(done, source, f"cells/{key}", lambda key=key, s=source: _taken_cell(done, s, into, key))
        for key in sorted(set(evaluations) & set(source.evaluation_keys())):
            path = f"evaluations/{key}.json"
            _copied(done, source, path, lambda key=key, s=source: _taken_evaluation(done, s, into, key))
    return done


def _taken_cell(done: Merged, source: Store, into: Store, key: str) -> None:
    record = source.record(key)
    if record.done and (key not in into or not into.record(key).done):
        _with_environment(record, source, into)
        into.write(record, source.tensors(key))
        done.added += 1


def _taken_evaluation(done: Merged, source: Store, into: Store, key: str) -> None:
    record = source.evaluation(key)
    if record.done and not (into.has_evaluation(key) and into.evaluation(key).done):
        _with_environment(record, source, into)
        into.write_evaluation(record)
        done.added += 1


def _with_environment(record: Record | EvaluationRecord, source: Store, into: Store) -> None:
    from .reading import Damaged

    if (name := record.provenance.environment) is None:
        return
    try:
        environment = source.environment(name)
    except Damaged:
        raise
    except StoreError as error:  # it is missing
        raise Damaged(str(error)) from error
    into.write_environment(environment)


def _copied(done: Merged, source: Store, path: str, copy: Any) -> None:
    from .reading import Damaged

    try:
        copy()
    except Damaged as error:
        done.damaged[f"{source.name}/{path}"] = str(error)


def _cell(done: Merged, source: Store, target: Store, key: str) -> None:
    theirs, their_tensors = source.record(key), source.tensors(key)
    if key in target:
        ours = target.record(key)
        if ours.done or not theirs.done:
            difference = _difference(ours, target.tensors(key), theirs, their_tensors)
            done.known += difference is None
            if difference:
                done.contradictions[f"cells/{key}"] = f"{source.name}: {difference}"
            return
    target.write(theirs, their_tensors)
    done.added += 1


def _difference(
    ours: Record, our_tensors: dict[str, np.ndarray], theirs: Record, their_tensors: dict[str, np.ndarray]
) -> str | None:
    """How two records of one key contradict each other; None when they agree."""
    if not theirs.done:
        return None  # a cell that failed there may be finished here
    what = f"{theirs.identity.method} on {theirs.identity.task} under {theirs.identity.ablation}"
    if set(our_tensors) != set(their_tensors) or any(
        our_tensors[name].shape != array.shape for name, array in their_tensors.items()
    ):
        return f"{what} has other circuits"
    scores, other = our_tensors["scores"], their_tensors["scores"]
    scale = float(np.nanmax(np.abs(scores), initial=0.0)) or 1.0
    largest = float(np.nanmax(np.abs(scores - other), initial=0.0))
    if largest > EQUAL_SCORES * scale or not np.array_equal(np.isnan(scores), np.isnan(other)):
        return f"the scores of {what} differ by up to {largest / scale:.2g} of the largest"
    for i in range(len(ours.circuits)):
        circuit, others = (tensors[f"circuit.{i}"].astype(bool) for tensors in (our_tensors, their_tensors))
        differ, edges = int((circuit ^ others).sum()), int((circuit | others).sum())
        if differ > max(1, EQUAL_COUNTED * edges):
            return f"circuit {i} of {what} differs in {differ} of {edges} edges"
        if not differ and ours.circuits[i].plurality != theirs.circuits[i].plurality:
            return f"which minimal circuits circuit {i} of {what} contains differs"
    return _other_verdict(ours, theirs, what, same_scores=np.array_equal(scores, other, equal_nan=True))


def _other_verdict(ours: Record, theirs: Record, what: str, *, same_scores: bool) -> str | None:
    """How two records of the same scores and circuits, up to rounding, are scored against truths in contradictory ways.

    Where scores are the same to the last bit, so is what is said of them. Otherwise rounding may rank edges of equal
    score in any order, so that one true edge is found or not, and another minimal circuit is met.

    Args:
        same_scores: whether the scores are the same to the last bit.
    """
    if set(ours.recovery) != set(theirs.recovery):
        return f"{what} is scored against other truths"
    if set(ours.plurality) != set(theirs.plurality):
        return f"{what} is judged by the minimal circuits of other truths"
    for name, mine in ours.recovery.items():
        one_edge = None if same_scores else 1 / max(1.0, mine.true_size or np.inf)
        if (number := _other_number(mine, theirs.recovery[name], one_edge)) is not None:
            return f"{number} of {what} differs, against the truth under {name}"
    for name, told in ours.plurality.items():
        others = theirs.plurality[name]
        if told.minimal_circuits != others.minimal_circuits or (same_scores and told != others):
            return f"what {what} found of the minimal circuits under {name} differs"
    for i, (circuit, other) in enumerate(zip(ours.circuits, theirs.circuits, strict=True)):
        one_edge = 1 / max(1, min(circuit.n_edges, other.n_edges))
        for name in set(circuit.recovery) & set(other.recovery):
            true_size = ours.recovery[name].true_size if name in ours.recovery else None
            allowed = max(one_edge, 1 / max(1.0, true_size or np.inf))
            if (number := _other_number(circuit.recovery[name], other.recovery[name], allowed)) is not None:
                return f"{number} of circuit {i} of {what} differs, against the truth under {name}"
    return None


def _other_number(
    ours: Recovery | CircuitRecovery, theirs: Recovery | CircuitRecovery, one_edge: float | None
) -> str | None:
    """The first number of two recoveries in which they differ by more than one true edge makes; None when they agree.

    Areas count a tied edge half, the others by its share. Whether the circuit is ``exact`` is a matter of one edge;
    numbers of nodes follow from the scores of edges; and versions differ in which numbers they have.

    Args:
        one_edge: the share that one edge makes; None where rounding has no part in the numbers.
    """
    numbers, others = (dict(found) for found in (ours, theirs))
    for name in sorted(set(numbers) & set(others)):
        mine, other = numbers[name], others[name]
        if mine is None or other is None or (one_edge is not None and (name == "exact" or name.startswith("node_"))):
            continue
        allowed = 0.0
        if one_edge is not None and name != "true_size":
            allowed = max(EQUAL_COUNTED, one_edge / 2 if "auc" in name or "auroc" in name else one_edge)
        if abs(mine - other) > allowed + EQUAL_SCORES:
            return name
    return None


def _evaluation(done: Merged, source: Store, target: Store, key: str) -> None:
    theirs = source.evaluation(key)
    if target.has_evaluation(key):
        ours = target.evaluation(key)
        if ours.done or not theirs.done:
            same = not theirs.done or _agree(ours, theirs)
            done.known += same
            if not same:
                done.contradictions[f"evaluations/{key}.json"] = f"{source.name}: its numbers differ"
            return
    target.write_evaluation(theirs)
    done.added += 1


def _behaviour(done: Merged, source: Store, target: Store, key: str) -> None:
    theirs = source.behaviour(key)
    if not target.has_behaviour(key):
        target.write_behaviour(theirs)
        done.added += 1
        return
    ours = target.behaviour(key)
    same = _same_behaviour(ours.behaviour, theirs.behaviour)
    done.known += same
    if not same:
        text = f"{source.name}: {theirs.model} on {theirs.task} has {theirs.behaviour}, and here {ours.behaviour}"
        done.contradictions[f"behaviours/{key}.json"] = text


def _same_behaviour(ours: Behaviour, theirs: Behaviour) -> bool:
    """Whether two behaviours differ by rounding alone, which may make one prompt right that was a tie."""
    one_prompt = 1.001 / min(ours.prompts, theirs.prompts)
    logits = np.array([each.logit_difference for each in (ours, theirs)], dtype=float)
    return (
        ours.prompts == theirs.prompts
        and abs(ours.accuracy - theirs.accuracy) <= one_prompt
        and bool(np.isclose(*logits, rtol=EQUAL_CONTROLS, atol=EQUAL_CONTROLS, equal_nan=True))
    )


def _agree(ours: EvaluationRecord, theirs: EvaluationRecord) -> bool:
    if [row.setting for row in ours.rows] != [row.setting for row in theirs.rows]:
        return False
    for mine, other in zip(ours.rows, theirs.rows, strict=True):
        a, b = (np.array(row.values or (), dtype=float) for row in (mine, other))
        if a.shape != b.shape or not np.allclose(a, b, rtol=1e-5, atol=EQUAL_SCORES, equal_nan=True):
            return False
    (exact, counted), (others_exact, others_counted) = _numbers(ours), _numbers(theirs)
    return _close(exact, others_exact, rtol=EQUAL_CONTROLS, atol=EQUAL_CONTROLS) and _close(
        counted, others_counted, rtol=0, atol=EQUAL_COUNTED
    )


_Numbers = dict[tuple[str | int, ...], float | None]


def _close(ours: _Numbers, theirs: _Numbers, *, rtol: float, atol: float) -> bool:
    mine, other = (np.array([found[name] for name in sorted(found)], dtype=float) for found in (ours, theirs))
    return set(ours) == set(theirs) and np.allclose(mine, other, rtol=rtol, atol=atol, equal_nan=True)


def _numbers(found: EvaluationRecord) -> tuple[_Numbers, _Numbers]:
    """(the measured numbers, those that count edges or ranks) of an evaluation's stability and controls.

    Left out is what one comparison changes that comes out otherwise: the worst subset, and the Jaccard index of two
    small circuits alone.
    """
    measured: _Numbers = {}
    points = [(over, point) for over, change in found.stability.items() for point in change.points]
    counted: _Numbers = {
        (over, point.size, name): getattr(point, name) for over, point in points for name in ("jaccard", "rank")
    }
    if (controls := found.controls) is None:
        return measured, counted
    measured |= {("null", kind): null.faithfulness for kind, null in controls.nulls.items()}
    if (complement := controls.complement) is not None:
        measured |= {("complement", name): getattr(complement, name) for name in ("whole", "random")}
    if (exact := controls.exact) is not None:
        measured["exact",], counted["exact",] = exact.explained, exact.rank
    return measured, counted


def _benchmark(source: Store, target: Store, name: str) -> None:
    theirs = source.benchmark(name)
    try:
        ours = target.benchmark(name)
    except StoreError:
        target.write_benchmark(name, theirs)
        return
    together = ours.with_cells_of(theirs)
    if together != ours:
        target.write_benchmark(name, together)
