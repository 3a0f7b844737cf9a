"""The rules of ranking that tables, words and the leaderboard share: who is ranked, and who ties with the best."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from .labels import ORACLE

SAME = 1e-9
"""Scores no further apart are equal."""


def rivals(aggregate: pd.DataFrame, metric: str = "auroc") -> pd.DataFrame:
    """The rows that can be ranked: the method ran, and the metric is defined, on as many programs as with any method of
    that ablation.

    A median over fewer programs may be over easier ones. The method that is given the answer is not ranked.
    """
    most = aggregate.groupby("ablation")["n_programs"].transform("max")
    whole = aggregate[aggregate["n_programs"] == most]
    defined = whole[f"{metric}_n"]
    everywhere = defined == defined.groupby(whole["ablation"]).transform("max")
    return whole[(whole["method"] != ORACLE) & whole[metric].notna() & everywhere]


def best_of(aggregate: pd.DataFrame, metric: str = "auroc") -> set[tuple[str, str]]:
    """(ablation, label) of the best rival by ablation, and of those whose estimate lies in the best one's interval."""
    chosen: set[tuple[str, str]] = set()
    for ablation, group in rivals(aggregate, metric).groupby("ablation", sort=False):
        leader = group.sort_values([metric, "mean_auroc"], ascending=False, kind="stable").iloc[0]
        low = leader[metric] if pd.isna(leader[f"{metric}_low"]) else leader[f"{metric}_low"]
        chosen |= {(ablation, label) for label in group.loc[group[metric] >= low - SAME, "label"]}
    return chosen


def bold(aggregate: pd.DataFrame, metric: str = "auroc") -> set[tuple[str, str]]:
    """The rows of ``best_of`` that an interval sets apart: none when there is no interval, or when all are tied."""
    best, chosen = best_of(aggregate, metric), set()
    for ablation, group in rivals(aggregate, metric).groupby("ablation", sort=False):
        level = {key for key in best if key[0] == ablation}
        if group[f"{metric}_low"].notna().any() and len(level) < len(group):
            chosen |= level
    return chosen


class Reachable(NamedTuple):
    """What paired tests of all pairs of methods can show at best."""

    pairs: int
    """Pairs with a test."""
    different: int
    """Programs that differ, in the pair with most of them."""
    smallest: float
    """The smallest p that any of the pairs could have, before correction; 1 without a test."""
    enough: bool
    """Whether any pair could be below ``level`` after Holm's correction for all of them."""


def reachable(pairwise: pd.DataFrame, level: float = 0.05) -> Reachable:
    """What the tests in these rows of ``tables.pairwise_table``, of one ablation, can show at best."""
    tested = pairwise[pairwise["p_value"].notna()]
    smallest = float(tested["smallest_p"].min()) if len(tested) else 1.0
    most = int(tested["n_different"].max()) if len(tested) else 0
    return Reachable(len(tested), most, smallest, len(tested) > 0 and smallest * len(tested) < level)


def compared_alike(table: pd.DataFrame) -> pd.DataFrame:
    """The rows over the largest number of programs. Medians over fewer programs may be over easier ones."""
    return table[table["n_programs"] == table["n_programs"].max()] if len(table) else table


def on_fewer_tasks(table: pd.DataFrame) -> dict[str, int]:
    """Label -> over how many tasks its medians are, of methods that have fewer than the others.

    Args:
        table: has columns ``label`` and ``n_programs``.

    >>> on_fewer_tasks(pd.DataFrame({"label": ["eap", "eap-ig", "eap-ig"], "n_programs": [1, 7, 8]}))
    {'eap': 1}
    """
    counts = table.groupby("label", sort=False)["n_programs"].max()
    return {str(label): int(n) for label, n in counts[counts < counts.max()].items()}
