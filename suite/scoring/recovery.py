"""Whether a method finds the circuit that is known to be there: scores and circuits against a reference.

The rules, the same for every method:

* ``optional`` edges (in some minimal circuits, not in all) are left out everywhere: neither found nor wrongly added.
* Scores are ranked by absolute size unless a metric's name says ``signed``; they are rounded to steps of 1e-6 of
  the largest, so that rounding neither ranks edges that do nothing nor breaks ties between equal ones.
* Ties are broken neither by chance nor by order (``ranking.py``): in areas a tied pair counts half, and at the true
  size what is chosen of a tied group has the group's share of true edges. Edges of score zero are never chosen, so
  precision and recall may differ.
* ``structural`` metrics rank only the edges whose weights let them carry something (hard negatives); all edges
  otherwise.
* A node's score is the largest absolute score among its out-edges; a node is true if it writes to a true edge, and is
  left out if it writes to optional edges only.
* True edges that the graph has no edge for (``Reference.missed``) are true edges of score zero, which no circuit has.
* A metric that is undefined (without a true edge, or without a false one) is NaN, never a made-up number.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from ..circuit import Circuit, EdgeScores, Reference, grown
from ..rounding import floor
from . import ranking
from .published import MIB_FRACTIONS, mib_auroc, pessimistic_auc


def recovery(scores: EdgeScores, reference: Reference) -> dict[str, float]:
    """Every recovery metric of one method's scores against one reference.

    Args:
        scores, reference: on the same graph.
    Returns a value per metric, NaN when it is undefined: ``auroc``, ``average_precision`` and, for each,
    ``_structural``, ``_signed`` and ``_signed_structural`` versions (structural ones only where the reference has
    structural edges); ``true_size``, ``precision``, ``recall``, ``f1`` and ``exact`` (1 when the chosen edges are the
    true ones however ties are broken) at the true size; ``node_auroc``, ``node_average_precision``; ``pessimistic_auc``
    and ``node_pessimistic_auc`` (ACDC's), ``mib_auroc`` (MIB's).
    Raises ValueError when the graphs differ.
    """
    core, kept, structural, values = _flat(scores, reference)
    signed = floor(values)
    absolute = np.abs(signed)
    metrics: dict[str, float] = {}
    subsets = {"": kept} if structural is None else {"": kept, "_structural": kept & structural}
    rankings = {
        f"{sign}{subset}": ranking.Ranking.of(core[inside], ranked[inside])
        for subset, inside in subsets.items()
        for sign, ranked in (("", absolute), ("_signed", signed))
    }
    for name, edges in rankings.items():
        metrics |= {f"auroc{name}": edges.auroc, f"average_precision{name}": edges.average_precision}
    metrics |= _at_true_size(core[kept], absolute[kept])
    metrics["pessimistic_auc"] = pessimistic_auc(*rankings[""].roc)

    nodes = ranking.Ranking.of(*_nodes(_writer_of_edges(reference), core, kept, absolute))
    metrics["node_auroc"] = nodes.auroc
    metrics["node_average_precision"] = nodes.average_precision
    metrics["node_pessimistic_auc"] = pessimistic_auc(*nodes.roc)
    metrics["mib_auroc"] = _mib(scores, reference)
    return metrics


def circuit_recovery(circuit: Circuit, reference: Reference) -> dict[str, float]:
    """``precision``, ``recall``, ``f1``, ``tpr``, ``fpr`` and ``exact`` of one circuit, without the optional edges.

    Precision of a circuit without edges is undefined (NaN; the ACDC paper calls it 1), and so are rates over nothing.
    Raises ValueError when the graphs differ.
    """
    _same_graph(circuit, reference)
    exists = _array(reference.graph.exists)
    core, kept = _labels(reference)
    return _confusion(core[kept], ranking.with_missed(_array(circuit.edges)[exists], reference.missed, False)[kept])


def ranked_edges(scores: EdgeScores, reference: Reference, *, signed: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(labels bool, values float64), each [n edges that are not optional]: what ROC and precision-recall curves rank.

    Args:
        signed: whether scores keep their signs; their absolute sizes are ranked otherwise.
    Raises ValueError when the graphs differ.
    """
    core, kept, _, values = _flat(scores, reference)
    values = floor(values)
    return core[kept], (values if signed else np.abs(values))[kept]


def _flat(scores: EdgeScores, reference: Reference) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
    """(core, not optional, structural or None: bool [n_edges]; scores: float64 [n_edges]), in the order of graph.edges,
    followed by the missed edges."""
    _same_graph(scores, reference)
    structural = None
    if reference.structural is not None:
        structural = ranking.with_missed(
            _array(reference.structural)[_array(reference.graph.exists)], reference.missed, True
        )
    return *_labels(reference), structural, ranking.with_missed(scores.flat(), reference.missed, 0.0)


def _labels(reference: Reference) -> tuple[np.ndarray, np.ndarray]:
    """(core, not optional): bool [n_edges], in the order of graph.edges, followed by the missed edges."""
    exists = _array(reference.graph.exists)
    core, kept = _array(reference.core)[exists], ~_array(reference.optional)[exists]
    return ranking.with_missed(core, reference.missed, True), ranking.with_missed(kept, reference.missed, True)


def _same_graph(found: EdgeScores | Circuit, reference: Reference) -> None:
    if found.graph.hash != reference.graph.hash:
        raise ValueError(
            f"scores are on another graph ({found.graph}) than the reference {reference.name} ({reference.graph})"
        )


def _array(matrix) -> np.ndarray:
    """A bool matrix as numpy, wherever it lives."""
    return matrix.detach().cpu().numpy().astype(bool)


def _at_true_size(core: np.ndarray, values: np.ndarray) -> dict[str, float]:
    size = int(core.sum())
    hits, chosen = ranking.top(core, values, size)
    return {
        "true_size": float(size),
        "precision": _ratio(hits, chosen),
        "recall": _ratio(hits, size),
        "f1": _ratio(2 * hits, chosen + size),
        "exact": float(ranking.separated(core, values)) if size else math.nan,
    }


def _confusion(core: np.ndarray, chosen: np.ndarray) -> dict[str, float]:
    """Precision, recall, F1 and rates of ``chosen`` against ``core``: bool [n] each."""
    n_true, n_chosen, hits = (int(np.count_nonzero(part)) for part in (core, chosen, chosen & core))
    added, missed = n_chosen - hits, n_true - hits
    recall = _ratio(hits, hits + missed)
    return {
        "precision": _ratio(hits, hits + added),
        "recall": recall,
        "f1": _ratio(2 * hits, 2 * hits + added + missed),
        "tpr": recall,
        "fpr": _ratio(added, core.size - n_true),
        "exact": float(added == 0 and missed == 0),
    }


def _ratio(part: float, whole: int) -> float:
    return part / whole if whole else math.nan


def _writer_of_edges(reference: Reference) -> np.ndarray:
    """Writer index of every edge in the order of graph.edges, missed ones behind them: int64 [n_edges].

    A writer that is not in the graph has an index of its own, behind those that are.
    """
    place = {name: i for i, name in enumerate(reference.graph.writers)}
    missed = [place.setdefault(name, len(place)) for name in reference.missed]
    return np.concatenate([np.nonzero(_array(reference.graph.exists))[0], np.array(missed, dtype=np.int64)])


def _nodes(writer: np.ndarray, core: np.ndarray, kept: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(true: bool [n nodes], value: float64 [n nodes]) of the writers that have an edge which is not optional."""
    n_writers = int(writer.max()) + 1
    true = np.bincount(writer, weights=core & kept, minlength=n_writers) > 0
    only_optional = (np.bincount(writer, weights=~kept, minlength=n_writers) > 0) & ~true
    largest = np.zeros(n_writers)
    np.maximum.at(largest, writer[kept], values[kept])
    return true[~only_optional], largest[~only_optional]


def _mib(scores: EdgeScores, reference: Reference) -> float:
    """MIB's AUROC; optional edges are left out."""
    core, kept = _labels(reference)
    found = [
        _confusion(core[kept], ranking.with_missed(chosen, reference.missed, False)[kept])
        for chosen in _mib_circuits(scores)
    ]
    return mib_auroc([point["fpr"] for point in found], [point["tpr"] for point in found])


@lru_cache(maxsize=4)  # the same scores are judged against the truth of every ablation
def _mib_circuits(scores: EdgeScores) -> tuple[np.ndarray, ...]:
    """MIB's ten circuits, each bool [n_edges]: grown back from the logits by absolute score, then pruned.

    Sizes are rounded up, because the released loop counts a fractional size down to zero.
    """
    graph, exists = scores.graph, _array(scores.graph.exists)
    sizes = [math.ceil(fraction * graph.n_edges) for fraction in MIB_FRACTIONS]
    return tuple(_array(circuit.pruned().edges)[exists] for circuit in grown(scores, sizes))
