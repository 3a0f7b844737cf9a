"""How much the verdict on faithfulness depends on the evaluation ablation, in words."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ...suite.scoring.sensitivity.ranks import kendall_matrix
from ..read.labels import BASELINES, ordered_ablations
from .present import number, with_interval

LEVEL = 0.05
"""Medians no further apart than this are not told apart in words."""


def dependence(table: pd.DataFrame) -> str | None:
    """One paragraph: the typical and the largest change with the evaluation ablation, and what it does to the order.

    Args:
        table: ``evaluations.faithfulness_table``.
    Returns None where circuits were evaluated under one ablation only.
    """
    defined = table[(table["state"] == "defined") & ~table["label"].isin(BASELINES)]
    if defined.empty or defined["evaluation_ablation"].nunique() < 2:
        return None
    sizes = list(defined["size"].unique())
    size = "true" if "true" in sizes else sizes[len(sizes) // 2]
    defined = defined[defined["size"] == size]
    # Like the ranking, among methods that were run on as many programs as any.
    defined = defined[defined["n_programs"] == defined["n_programs"].max()]
    grid = defined.pivot(index=["label", "ablation"], columns="evaluation_ablation", values="faithfulness")
    grid = grid.dropna(thresh=2)
    if grid.empty:
        return None
    circuits = "circuits of the true size" if size == "true" else f"circuits with {100 * float(size):g} % of the edges"
    moves = grid.max(axis=1) - grid.min(axis=1)
    if moves.max() < LEVEL:
        return f"Evaluating {circuits} under another ablation changes no median faithfulness by {LEVEL:g} or more."
    label, ablation = moves.idxmax()
    best, worst = grid.loc[(label, ablation)].idxmax(), grid.loc[(label, ablation)].idxmin()
    ends = {
        row["evaluation_ablation"]: with_interval(*[row[f"faithfulness{end}"] for end in ("", "_low", "_high")])
        for row in defined[(defined["label"] == label) & (defined["ablation"] == ablation)].to_dict("records")
    }
    text = (
        f"Faithfulness depends on how a circuit is evaluated: what {label} finds under {ablation} ablation keeps "
        f"{ends[best]} of the model's behaviour (median over programs, {circuits}) when the rest is cut with {best}, "
        f"and {ends[worst]} with {worst}. "
    )
    text += (
        f"Over {len(grid)} pairs of method and discovery ablation, the evaluation ablation moves the median by "
        f"{number(moves.median())} (median) and {number(moves.max())} at most."
    )
    return text + _order(grid)


def _order(grid: pd.DataFrame) -> str:
    """Whether methods come in the same order: Kendall's tau-b between evaluation ablations, per discovery ablation."""
    correlations, leaders = [], []
    for ablation in ordered_ablations(grid.index.get_level_values("ablation")):
        methods = (
            grid.xs(ablation, level="ablation").dropna(axis=1, how="all").dropna().round(6)
        )  # rounding breaks no tie
        if len(methods) < 3 or methods.shape[1] < 2:
            continue
        tau = kendall_matrix(methods.to_numpy())
        correlations += list(tau[np.triu_indices(len(tau), 1)])
        first = {frozenset(methods.index[methods[name] >= methods[name].max() - LEVEL]) for name in methods}
        leaders += [ablation] if not frozenset.intersection(*first) else []
    known = [value for value in correlations if not np.isnan(value)]
    if not known:
        return ""
    text = (
        " Under two evaluation ablations methods come in orders that agree by Kendall's tau of "
        f"{number(np.mean(known))} on average (1: the same order)"
    )
    if leaders:
        return f"{text}; of circuits found under {' and '.join(leaders)} no method is the best under all of them."
    return f"{text}; some method is the best, or within {LEVEL:g} of it, under all of them."
