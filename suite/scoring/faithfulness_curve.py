"""Faithfulness over circuit size: circuits of growing size from one ranking, their curve with a band, its areas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..circuit import Circuit, EdgeScores
from ..intervention.faithfulness import CircuitValues
from ..intervention.levels import Aggregation, ReferencePoint
from ..selection import SELECTIONS, Selection
from .bootstrap_prompts import resample_counts
from .published import MIB_FRACTIONS, cmd, cpr


@dataclass(frozen=True, eq=False)
class SizedCircuit:
    """A circuit of a requested size.

    Args:
        fraction: the requested fraction of all edges.
        circuit: the ``int(fraction * n_edges)`` edges that the selection took. A ``Cut`` says whether its dead ends
            are measured.
    """

    fraction: float
    circuit: Circuit


def circuits_by_size(
    scores: EdgeScores,
    fractions: Sequence[float] = MIB_FRACTIONS,
    *,
    selection: Selection = "greedy",
    absolute: bool = True,
) -> list[SizedCircuit]:
    """The circuit of each size, as MIB makes them.

    Args:
        fractions: the requested sizes as fractions of all edges; they are rounded down to whole edges.
        selection: ``greedy``: grown back from the logits; ``top-n``: the best edges wherever they are;
            ``pnr`` and ``ilp``: see selection.py.
        absolute: whether edges are ranked by absolute score. MIB takes the signed ranking for CPR, the absolute one
            for CMD; they are different results.
    """
    select = SELECTIONS[selection]
    n_edges = scores.graph.n_edges
    return [SizedCircuit(fraction, select(scores, int(fraction * n_edges), absolute)) for fraction in fractions]


@dataclass(frozen=True, eq=False)
class FaithfulnessCurve:
    """Faithfulness at each size, with a band over prompts: float64 [n_sizes] each.

    Args:
        fractions: the requested sizes. Areas are taken over these, as in MIB.
        edges: int, the number of edges of the circuit that the selection took.
        pruned: int, how many of these edges are on a path from an input node to the logits.
        faithfulness: 1 is the full model, 0 the reference.
        low, high: the band, pointwise; NaN with one prompt.
        areas: ``cpr``, ``cmd``, ``cpr_log``, ``cmd_log``: (value, low, high) each.
    """

    fractions: np.ndarray
    edges: np.ndarray
    pruned: np.ndarray
    faithfulness: np.ndarray
    low: np.ndarray
    high: np.ndarray
    areas: dict[str, tuple[float, float, float]]


def faithfulness_curve(
    sized: Sequence[SizedCircuit],
    measured: CircuitValues,
    *,
    aggregation: Aggregation = "ratio-of-means",
    reference: ReferencePoint = "cut-graph",
    templates: np.ndarray | None = None,
    level: float = 0.95,
    resamples: int = 500,
    seed: int = 0,
) -> FaithfulnessCurve:
    """The curve of circuits that were measured.

    Args:
        sized: one circuit at least, in order of growing size.
        measured: the measurements of the circuits, in the same order.
        aggregation, reference: as in ``Setting``.
        templates: long [N], the template of each prompt: the blocks of the bootstrap.
        level: confidence of the band and of the areas' intervals (percentiles of the resamples).
    """
    values = measured.faithfulness(aggregation, reference).numpy()
    n = len(measured.full)
    draws = np.full((1, len(sized)), np.nan)
    counts = resample_counts(n, templates, resamples, np.random.default_rng(seed))
    if len(counts):
        draws = _resampled(measured, aggregation, reference, counts)
    ends = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.nanquantile(draws, ends, axis=0) if np.isfinite(draws).any() else np.full((2, len(sized)), np.nan)
    # Where the faithfulness is undefined, its resamples are quotients of rounding errors.
    low, high = (np.where(np.isfinite(values), end, np.nan) for end in (low, high))
    fractions = np.array([each.fraction for each in sized])
    areas = {}
    for name, area, log in (("cpr", cpr, False), ("cmd", cmd, False), ("cpr_log", cpr, True), ("cmd_log", cmd, True)):
        drawn = [area(fractions, draw, log=log) for draw in draws] if len(sized) > 1 else [np.nan]
        value = area(fractions, values, log=log) if len(sized) > 1 else np.nan
        known = np.isfinite([value, *drawn]).all()
        areas[name] = (float(value), *(np.quantile(drawn, ends).tolist() if known else (np.nan, np.nan)))
    return FaithfulnessCurve(
        fractions,
        np.array([each.circuit.n_edges for each in sized]),
        np.array([each.circuit.pruned().n_edges for each in sized]),
        values,
        low,
        high,
        areas,
    )


def _resampled(
    measured: CircuitValues, aggregation: Aggregation, reference: ReferencePoint, counts: np.ndarray
) -> np.ndarray:
    """Faithfulness in each resample: [n_resamples, C], from how often it holds each prompt [n_resamples, N]."""
    if aggregation == "ratio-of-means":
        nothing = measured.reference(reference).numpy()
        gained, whole = measured.circuits.numpy() - nothing, measured.full.numpy() - nothing
        total = counts @ whole
        return (counts @ gained.T) / np.where(total == 0, np.nan, total)[:, None]
    prompts = torch.arange(len(measured.full))
    rows = [prompts.repeat_interleave(count) for count in torch.from_numpy(counts)]
    return np.stack([measured.faithfulness(aggregation, reference, row).numpy() for row in rows])
