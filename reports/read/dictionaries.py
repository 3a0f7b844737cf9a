"""Cells on features of shipped dictionaries, beside how good the dictionaries are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from ...ground_truth.dictionaries.recipe import OF_MINI, OF_PROGRAMS

if TYPE_CHECKING:
    from ...ground_truth.dictionaries.shipped import ShippedDictionaries

FEATURE_BASES = {"tracr-features/": "own basis", "tracr-rotated-features/": "random basis"}
_QUALITY = ["features", "unexplained", "l0", "dead", "found"]
_RECOVERED = ["auroc", "average_precision", "precision", "recall"]


def certified_features(recovery: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``tables.recovery_table`` on programs' directions, against their own truth, with their ``basis``."""
    own = recovery[recovery["own"].astype(bool)]
    basis = own["task"].map(
        lambda task: next((name for prefix, name in FEATURE_BASES.items() if task.startswith(prefix)), None)
    )
    return own.assign(basis=basis)[basis.notna()]


def recovery_by_dictionary(recovery: pd.DataFrame) -> pd.DataFrame:
    """One row a cell on trained features of a program, against its own truth: ``quality_of`` and the recovery.

    Args:
        recovery: ``tables.recovery_table``.
    """
    own = recovery[recovery["own"].astype(bool)]
    known = _known(own["task"], OF_PROGRAMS)
    own = own[own["task"].isin(list(known))]
    rows = [
        {"label": row.label, "ablation": row.ablation, **quality_of(row.task, known[row.task])}
        | {name: getattr(row, name) for name in _RECOVERED}
        for row in own.itertuples()
    ]
    return pd.DataFrame(rows, columns=["label", "ablation", *_ABOUT, *_QUALITY, *_RECOVERED])


def faithfulness_by_dictionary(evaluated: pd.DataFrame) -> pd.DataFrame:
    """One row a circuit of ``mini``'s features that was found and judged under one ablation.

    Args:
        evaluated: ``evaluations.evaluation_table``.
    Returns ``quality_of``, label, ablation, size, faithfulness, and of the dictionary ``features_keep`` and
    ``errors_keep`` under that ablation.
    """
    evaluated = evaluated[evaluated["ablation"].astype(str) == evaluated["evaluation_ablation"].astype(str)]
    known = _known(evaluated["model"], OF_MINI)
    of_mini = evaluated[evaluated["model"].isin(list(known))]
    rows = [
        {"label": row.label, "ablation": row.ablation, **quality_of(row.model, known[row.model])}
        | {"size": row.size, "faithfulness": row.faithfulness}
        | {
            "features_keep": _number(known[row.model].features_keep.get(row.ablation)),
            "errors_keep": _number(known[row.model].errors_keep.get(row.ablation)),
        }
        for row in of_mini.itertuples()
    ]
    kept = ["size", "faithfulness", "features_keep", "errors_keep"]
    return pd.DataFrame(rows, columns=["label", "ablation", *_ABOUT, *_QUALITY, *kept])


_ABOUT = ["dictionary", "subject", "width", "seed"]


def _known(names: Iterable[object], family: str) -> Mapping[str, ShippedDictionaries]:
    """The shipped dictionaries of a family; none where no name is of it, because reading them takes torch."""
    if not any(family in str(name) for name in names):
        return {}
    from ...ground_truth.dictionaries.shipped import shipped

    return {name: about for name, about in shipped().items() if family in name}


def quality_of(name: str, about: ShippedDictionaries) -> dict[str, str | float]:
    """A set of dictionaries as a row: its ``subject``, which is the program or task, and its scores over all sites.

    Means over sites: plain ones of ``unexplained`` and ``l0``, ``dead`` weighted by features and ``found`` by true
    directions.
    """
    sites = list(about.sites.values())
    sizes = [site.recipe.n_features for site in sites]
    subject = name.partition("/")[2].removesuffix(f"-{about.width}-{about.seed}")
    return {
        "dictionary": name,
        "subject": subject,
        "width": about.width,
        "seed": about.seed,
        "features": sum(sizes),
        "unexplained": _mean([site.unexplained for site in sites], [1] * len(sites)),
        "l0": _mean([site.l0 for site in sites], [1] * len(sites)),
        "dead": _mean([site.dead for site in sites], sizes),
        "found": _mean([site.found for site in sites], [site.directions or 1 for site in sites]),
    }


def _mean(values: Sequence[float | None], weights: Sequence[int]) -> float:
    if any(value is None for value in values):
        return math.nan
    return sum(_number(v) * w for v, w in zip(values, weights, strict=True)) / sum(weights)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
