"""The summary in words: who wins, by how much, how sure, and what depends on the ablation."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ..read.labels import BASELINES, ordered_ablations
from .present import best_of, number, rivals, with_interval

SAME = 1e-9
"""Areas no further apart are equal."""


def sentences(aggregate: pd.DataFrame, pairwise: pd.DataFrame, mismatch: pd.DataFrame) -> list[str]:
    """One paragraph per ablation, then the mismatch.

    Args:
        aggregate: ``tables.aggregate_table`` (medians). The others: ``pairwise_table``, ``mismatch_table``.
    """
    found = [_winner(aggregate, pairwise, ablation) for ablation in ordered_ablations(aggregate["ablation"])]
    drop = _largest_drop(mismatch)
    return [*found, drop] if drop else found


def _winner(aggregate: pd.DataFrame, pairwise: pd.DataFrame, ablation: str) -> str:
    group = rivals(aggregate)
    group = group[group["ablation"] == ablation]
    if group.empty:
        return f"Under {ablation} ablation no method's area is defined."
    leader = group.sort_values(["auroc", "mean_auroc"], ascending=False, kind="stable").iloc[0]
    equal = (group["auroc"] >= leader["auroc"] - SAME) & (group["mean_auroc"] >= leader["mean_auroc"] - SAME)
    first = sorted(group.loc[equal, "label"])
    area = with_interval(leader["auroc"], leader["auroc_low"], leader["auroc_high"])
    n = int(leader["n_programs"])
    rank = "ranks" if len(first) == 1 else "rank"
    over = "one program" if n == 1 else f"{n} programs"
    text = f"Under {ablation} ablation {_listed(first)} {rank} the true edges best: "
    text += f"median area under the ROC curve {area} over {over}"
    if leader["exact_of"] and len(first) == 1:
        text += f", the true circuit found exactly in {leader['exact_cells']} of {leader['exact_of']} runs"
    level = [label for place, label in sorted(best_of(aggregate)) if place == ablation and label not in first]
    text += f". Within that interval: {_listed(level)}." if level else "."
    rest = [label for label in group["label"] if label not in first and label not in level]
    if rest:
        second = group[group["label"] == rest[0]].iloc[0]
        next_area = with_interval(second["auroc"], second["auroc_low"], second["auroc_high"])
        text += f" Next comes {second['label']} with {next_area}."
    return text + (_certainty(pairwise, ablation, leader["label"]) if len(first) == 1 else "")


def _certainty(pairwise: pd.DataFrame, ablation: str, leader: str) -> str:
    tests = pairwise[
        (pairwise["ablation"] == ablation) & ((pairwise["first"] == leader) | (pairwise["second"] == leader))
    ]
    if tests.empty:
        return ""
    beaten = []
    for test in tests[tests["p_holm"] < 0.05].to_dict("records"):
        better = (test["a12"] > 0.5) == (test["first"] == leader)
        beaten += [test["second"] if test["first"] == leader else test["first"]] if better else []
    if beaten:
        return f" Paired tests over programs (Wilcoxon, Holm-corrected) set it apart from {_listed(sorted(beaten))}."
    of_ablation = pairwise[pairwise["ablation"] == ablation]
    hopeless = tests["smallest_p"].min() * of_ablation["p_value"].notna().sum() >= 0.05
    reason = f": with {int(tests['n'].max())} programs and so many methods none could" if hopeless else ""
    return f" No paired test over programs sets it apart from another method at p < 0.05 after correction{reason}."


def _largest_drop(mismatch: pd.DataFrame) -> str | None:
    """What scoring against another ablation's truth does, by its largest effect among methods that are no baselines."""
    # Like the ranking, among methods that were run on as many programs as any.
    most = mismatch["n_programs"].max() if len(mismatch) else 0
    rows = mismatch[~mismatch["label"].isin(BASELINES) & (mismatch["n_programs"] == most)]
    own = (
        rows[rows["own"].astype(bool)].set_index(["label", "ablation"])["average_precision"]
        if len(rows)
        else pd.Series(dtype=float)
    )
    other = rows[~rows["own"].astype(bool)] if len(rows) else rows
    drops = [
        (own[row.label, row.ablation] - row.average_precision, row)
        for row in other.itertuples()
        if (row.label, row.ablation) in own.index and not pd.isna(row.average_precision)
    ]
    if not drops:
        return None
    size, row = max(drops, key=lambda pair: pair[0])
    if size < 0.01:
        return "Scoring against another ablation's truth changes no median average precision by more than 0.01."
    own_value, other_value = number(own[row.label, row.ablation]), number(row.average_precision)
    return (
        f"The verdict depends on whose truth is asked: {row.label} with {row.ablation} ablation has a median average "
        f"precision of {own_value} against the {row.ablation} truth and of {other_value} against the "
        f"{row.truth_ablation} truth."
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
