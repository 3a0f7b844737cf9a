"""ROC and precision-recall curves of a store's cells, computed again from scores and certificates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ...suite.model.graph import Graph
from ...suite.rounding import floor
from ...suite.scoring import ranking
from ...suite.scoring.curves import GRID, MeanCurve, mean_precision_recall, mean_roc, precision_on_grid, roc_on_grid

if TYPE_CHECKING:
    from ...ground_truth.certificate import Certificate
    from .stores import Stores

MEAN_COLUMNS = ["ablation", "label", "kind", "x", "mean", "low", "high", "n"]
PROGRAM_COLUMNS = ["ablation", "label", "program", "kind", "x", "y"]
_KINDS = ("roc", "precision-recall")


def curve_tables(store: Stores, recovery: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The mean curves over programs and each program's own, for every label and ablation, against the own truth.

    Args:
        recovery: ``tables.recovery_table`` of the same store; its ``own`` rows say which cells to draw.
    Returns (means, programs). ``means``: ablation, label, kind (``roc``: x false positive rate, y true positive rate;
    ``precision-recall``: x recall, y precision), x, mean, low, high (95 % pointwise bootstrap band over programs), n
    programs. ``programs``: the same per program, mean over its runs, in ``y``. All are fractions.
    """
    truths = _Truths(store, dict(zip(recovery["key"], recovery["certificate"], strict=True)))
    means, programs = [], []
    own = recovery[recovery["own"].astype(bool)]
    for (ablation, label), cells in own.groupby(["ablation", "label"], sort=False):
        curves: dict[str, dict[str, list]] = {kind: defaultdict(list) for kind in _KINDS}
        for key, program in zip(cells["key"], cells["program"], strict=True):
            labels, values = truths.ranked(key, ablation)
            if labels.any() and not labels.all():
                curves["roc"][program].append(ranking.roc_curve(labels, values))
                curves["precision-recall"][program].append(ranking.precision_recall_curve(labels, values))
        if not curves["roc"]:
            continue
        means += [_mean_frame(ablation, label, "roc", mean_roc(curves["roc"]))]
        means += [_mean_frame(ablation, label, "precision-recall", mean_precision_recall(curves["precision-recall"]))]
        for kind, on_grid in (("roc", roc_on_grid), ("precision-recall", precision_on_grid)):
            names = sorted(curves[kind])
            y = [np.mean([on_grid(curve) for curve in curves[kind][name]], axis=0) for name in names]
            constant = {"ablation": ablation, "label": label, "program": np.repeat(names, GRID.size), "kind": kind}
            programs.append(pd.DataFrame({**constant, "x": np.tile(GRID, len(names)), "y": np.concatenate(y)}))
    return _joined(means, MEAN_COLUMNS), _joined(programs, PROGRAM_COLUMNS)


def _mean_frame(ablation: str, label: str, kind: str, curve: MeanCurve) -> pd.DataFrame:
    return pd.DataFrame({"ablation": ablation, "label": label, "kind": kind, **curve._asdict()})


def _joined(frames: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


class _Truths:
    """Labels of every edge, per certificate and ablation, read once."""

    def __init__(self, store: Stores, certificate_of: dict[str, str]) -> None:
        self._store, self._certificate_of = store, certificate_of
        self._certificates: dict[str, tuple[Certificate, Graph]] = {}
        self._labels: dict[tuple[str, str], tuple[np.ndarray, np.ndarray, Sequence[str]]] = {}

    def ranked(self, key: str, ablation: str) -> tuple[np.ndarray, np.ndarray]:
        """(labels bool, absolute floored scores float64), each [n edges that are not optional]."""
        scores = self._store.scores(key)
        certificate = self._certificate_of[key]
        core, kept, missed = self._truth(certificate, ablation)
        values = ranking.with_missed(np.abs(floor(scores[~np.isnan(scores)])), missed, 0.0)
        return core[kept], values[kept]

    def _truth(self, certificate_hash: str, ablation: str) -> tuple[np.ndarray, np.ndarray, Sequence[str]]:
        """(core, not optional): bool [n_edges], as graph.edges, followed by missed edges; and the missed edges."""
        if (certificate_hash, ablation) not in self._labels:
            if certificate_hash not in self._certificates:
                certificate = self._store.truth(certificate_hash)
                self._certificates[certificate_hash] = certificate, certificate.graph.build()
            certificate, graph = self._certificates[certificate_hash]
            exists = graph.existing
            truth = certificate.ablations[ablation]
            core = graph.array(truth.core)[exists]
            optional = graph.array(truth.optional)[exists]
            missed = truth.missed or ()
            labels = ranking.with_missed(core, missed, True), ranking.with_missed(~optional, missed, True)
            self._labels[certificate_hash, ablation] = *labels, missed
        return self._labels[certificate_hash, ablation]
